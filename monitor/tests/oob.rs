//! Out-of-band execution: what overtakes what, how much may wait, and QEMU's texts for the rest.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod qemu;
mod support;

use monitor::protocol::Limits;
use monitor::{Command, CommandError, NoArguments, Registry, ServerLimits, Session, Version};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::VecDeque;
use support::{Client, Running};

const ENABLE: &str = "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}";

/// Requests that may wait, as with QEMU.
const QUEUE: usize = 8;

/// Counts how often `count` has run. `ping` can overtake it.
fn registry() -> Registry<u64> {
    let mut registry = Registry::new(Version::new(7, 2, 0, ""));
    registry
        .command("count", |count: &mut u64, _: NoArguments| {
            *count += 1;
            Ok::<_, CommandError>(*count)
        })
        .add(Command::out_of_band("ping", |_: NoArguments| Ok("pong")));
    registry
}

fn enabled() -> (Registry<u64>, Session) {
    let (registry, mut session) = (registry(), Session::new(Limits::default()));
    assert_eq!(session.feed(ENABLE.as_bytes()), ENABLE.len());
    let reply = session.execute(&registry, &mut 0).expect("a reply");
    assert_eq!(reply.line, b"{\"return\": {}}\r\n");
    (registry, session)
}

fn id(line: &[u8]) -> u64 {
    let reply: Value = serde_json::from_slice(line).expect("JSON");
    assert!(reply.get("return").is_some(), "{reply}");
    reply["id"].as_u64().expect("an id")
}

#[test]
fn eight_requests_wait_and_then_even_the_urgent_one_does() {
    let (registry, mut session) = enabled();
    let mut count = 0;
    for n in 0..QUEUE {
        let request = format!("{{'execute':'count','id':{n}}}");
        assert_eq!(session.feed(request.as_bytes()), request.len(), "{n}");
    }
    let urgent = b"{'exec-oob':'ping','id':100}";
    assert_eq!(session.feed(urgent), 0);
    assert!(session.execute_out_of_band(&registry).is_none());
    let reply = session.execute(&registry, &mut count).expect("the first");
    assert_eq!((id(&reply.line), count), (0, 1));
    // Now there is room, and it overtakes the seven that still wait.
    assert_eq!(session.feed(urgent), urgent.len());
    let reply = session.execute_out_of_band(&registry).expect("the urgent");
    assert_eq!((id(&reply.line), count), (100, 1));
    for n in 1..QUEUE as u64 {
        let reply = session.execute(&registry, &mut count).expect("one more");
        assert_eq!(id(&reply.line), n);
    }
    assert!(!session.is_pending());
}

#[test]
fn whoever_does_not_ask_for_it_is_served_one_by_one() {
    let registry = registry();
    let mut session = Session::new(Limits::default());
    let greeting = String::from_utf8(session.greeting(&registry)).expect("ASCII");
    assert!(
        greeting.contains("\"capabilities\": [\"oob\"]"),
        "{greeting}"
    );
    session.feed(b"{'execute':'qmp_capabilities'}");
    session.execute(&registry, &mut 0).expect("a reply");
    session.feed(b"{'execute':'count'}");
    assert!(!session.takes_input());
    session.execute(&registry, &mut 0).expect("a reply");
    session.feed(b"{'exec-oob':'ping'}");
    assert!(session.execute_out_of_band(&registry).is_none());
    let reply = session.execute(&registry, &mut 0).expect("a reply");
    let text = String::from_utf8(reply.line).expect("ASCII");
    assert!(
        text.contains("QMP input member 'exec-oob' is unexpected"),
        "{text}"
    );
}

#[test]
fn a_registry_without_such_a_command_does_not_offer_it() {
    let mut registry: Registry<u64> = Registry::new(Version::new(7, 2, 0, ""));
    registry.add(Command::out_of_band("ping", |_: NoArguments| Ok("pong")).disabled(""));
    let session = Session::new(Limits::default());
    let greeting = String::from_utf8(session.greeting(&registry)).expect("ASCII");
    assert!(greeting.contains("\"capabilities\": []"), "{greeting}");
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Send,
    SendUrgent,
    SendRubbish,
    Execute,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replies_come_in_order_but_for_the_urgent_ones(
        deeds in proptest::collection::vec(
            prop_oneof![
                4 => Just(Deed::Send),
                2 => Just(Deed::SendUrgent),
                1 => Just(Deed::SendRubbish),
                4 => Just(Deed::Execute),
            ],
            0..200,
        )
    ) {
        let (registry, mut session) = enabled();
        let (mut count, mut next) = (0, 0_u64);
        // What waits, by id; rubbish has none.
        let mut waiting: VecDeque<Option<u64>> = VecDeque::new();
        for deed in deeds {
            let room = waiting.len() < QUEUE;
            prop_assert_eq!(session.takes_input(), room);
            let request = match deed {
                Deed::Send => format!("{{'execute':'count','id':{next}}}"),
                Deed::SendUrgent => format!("{{'exec-oob':'ping','id':{next}}}"),
                Deed::SendRubbish => "]".to_owned(),
                Deed::Execute => {
                    let reply = session.execute(&registry, &mut count);
                    match (reply, waiting.pop_front()) {
                        (None, None) => {}
                        (Some(reply), Some(Some(expected))) => {
                            prop_assert_eq!(id(&reply.line), expected);
                        }
                        (Some(reply), Some(None)) => {
                            let refused = reply.line.starts_with(b"{\"error\"");
                            prop_assert!(refused);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    continue;
                }
            };
            let used = session.feed(request.as_bytes());
            prop_assert_eq!(used, if room { request.len() } else { 0 });
            let urgent = session.execute_out_of_band(&registry).map(|reply| id(&reply.line));
            match deed {
                Deed::SendUrgent if room => prop_assert_eq!(urgent, Some(next)),
                _ => prop_assert_eq!(urgent, None),
            }
            match deed {
                Deed::Send if room => waiting.push_back(Some(next)),
                Deed::SendRubbish if room => waiting.push_back(None),
                _ => {}
            }
            next += 1;
        }
    }
}

#[test]
fn on_a_socket_the_urgent_request_overtakes_those_that_wait() {
    let server = Running::start(ServerLimits::default());
    let mut client = Client::connect(&server.path);
    assert_eq!(client.greeting["QMP"]["capabilities"], json!(["oob"]));
    client.call(ENABLE);
    // All in one write, so all are there when the server reads.
    let mut requests = String::new();
    for n in 0..5 {
        requests.push_str(&format!("{{'execute':'query-status','id':{n}}}"));
    }
    requests.push_str("{'exec-oob':'ping','id':5}{'execute':'ping','id':6}");
    client.send(requests);
    let ids: Vec<_> = (0..7).map(|_| client.reply()["id"].clone()).collect();
    assert_eq!(json!(ids), json!([5, 0, 1, 2, 3, 4, 6]));

    let schema = client.call("{'execute':'query-qmp-schema'}");
    let marked: Vec<_> = schema["return"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry.get("allow-oob").is_some())
        .collect();
    assert_eq!(marked.len(), 1);
    assert_eq!(
        (&marked[0]["name"], &marked[0]["allow-oob"]),
        (&json!("ping"), &json!(true))
    );
}

#[test]
fn pipelined_requests_of_any_number_are_all_answered() {
    let server = Running::start(ServerLimits::default());
    let mut client = Client::connect(&server.path);
    client.call(ENABLE);
    let count = 2000;
    let mut writer = client.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        use std::io::Write;
        for n in 0..count {
            let how = if n % 3 == 0 { "exec-oob" } else { "execute" };
            let request = format!("{{'{how}':'ping','id':{n}}}");
            writer.write_all(request.as_bytes()).expect("it is read");
        }
    });
    // Another client has its turn meanwhile.
    let mut other = server.client();
    let (mut urgent, mut others) = (Vec::new(), Vec::new());
    for n in 0..count {
        let reply = client.reply();
        assert_eq!(reply["return"], "pong", "{reply}");
        let id = reply["id"].as_u64().expect("an id");
        if id.is_multiple_of(3) {
            &mut urgent
        } else {
            &mut others
        }
        .push(id);
        if n % 100 == 0 {
            other.call("{'execute':'query-status'}");
        }
    }
    sender.join().expect("it does not panic");
    assert!(
        urgent.is_sorted() && others.is_sorted(),
        "each kind is in order"
    );
    assert_eq!(urgent.len() + others.len(), count);
}

#[test]
fn qemu_refuses_the_same_in_the_same_words() {
    const REQUESTS: &[&str] = &[
        "{'exec-oob':'bogus','id':1}",
        "{'exec-oob':'query-version','id':1}",
        "{'exec-oob':'qmp_capabilities','id':1}",
        "{'exec-oob':'query-version','arguments':{'x':1}}",
        "{'exec-oob':5,'id':1}",
        "{'exec-oob':null}",
        "{'execute':5,'exec-oob':'query-version'}",
        "{'execute':'query-version','exec-oob':'query-version'}",
        "{'execute':'query-version','exec-oob':1}",
        "{'exec-oob':'query-version','execute':'query-version','id':[]}",
        "{'exec-oob':'query-version','arguments':1}",
        "{'exec-oob':'query-version','extra':1}",
        "{'exec-oob':'query-version','control':{'run-oob':true}}",
        "{'arguments':1,'exec-oob':1}",
        "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
        "{}",
        "[]",
    ];
    let Some((_qemu, [mut theirs])) = qemu::start(&["-M", "none"]) else {
        return;
    };
    let server = Running::start(ServerLimits::default());
    let mut ours = Client::connect(&server.path);
    let capabilities = |client: &Client| client.greeting["QMP"]["capabilities"].clone();
    assert_eq!(capabilities(&ours), capabilities(&theirs));
    ours.call(ENABLE);
    theirs.call(ENABLE);
    for request in REQUESTS {
        ours.send(request);
        theirs.send(request);
        let (our, their) = (ours.line(), theirs.line());
        assert_eq!(our, their, "{request}");
        assert!(
            our.is_some_and(|line| line.contains("\"error\"")),
            "{request}"
        );
    }
}
