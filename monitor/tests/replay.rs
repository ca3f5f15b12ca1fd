//! Events by number: who sees the numbers, and what a client that missed some gets back.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod support;

use monitor::ServerLimits;
use serde_json::{Value, json};
use support::{Client, Running};

const EMIT: &str = "{'execute':'emit','arguments':{'event':'RESET','count':100}}";

fn replay(client: &mut Client, arguments: Value) -> Value {
    let request = json!({"execute": "x-replay-events", "arguments": arguments});
    client.call(&request.to_string())
}

fn number(client: &mut Client, enable: bool) -> Value {
    let request = json!({"execute": "x-number-events", "arguments": {"enable": enable}});
    client.call(&request.to_string())["return"].clone()
}

fn sequence(event: &Value) -> u64 {
    event["sequence"].as_u64().expect("a number")
}

#[test]
fn numbers_are_seen_by_whoever_asked_and_by_nobody_else() {
    let server = Running::start(ServerLimits::default());
    let (mut numbered, mut plain) = (server.client(), server.client());
    assert_eq!(number(&mut numbered, true), json!({"oldest": 1, "next": 1}));
    server.sender.emit_bare("STOP").expect("it is registered");
    let (first, second) = (numbered.message(), plain.message());
    let (mut first, second) = (first.expect("an event"), second.expect("an event"));
    assert_eq!(sequence(&first), 1);
    first.as_object_mut().expect("an object").remove("sequence");
    assert_eq!(first, second, "all else is the same");
    assert_eq!(
        number(&mut numbered, false),
        json!({"oldest": 1, "next": 2})
    );
    server.sender.emit_bare("STOP").expect("it is registered");
    let event = numbered.message().expect("an event");
    assert!(event.get("sequence").is_none(), "{event}");
}

#[test]
fn a_client_that_lost_events_gets_them_back() {
    let limits = ServerLimits::default().event_bytes(16 << 10);
    let server = Running::start(limits.history_bytes(16 << 20));
    let mut deaf = server.client();
    assert_eq!(number(&mut deaf, true)["next"], 1);
    let mut witness = server.client();
    for _ in 0..100 {
        witness.call(EMIT);
    }
    server.wait("events are lost", |seen| {
        seen.clients.iter().any(|c| c.lost_events > 0)
    });
    // Now it reads, and asks for what it was told it had lost.
    let mut next = 1;
    let mut replayed = 0;
    deaf.send("{'execute':'query-status','id':'end'}");
    loop {
        let message = deaf.message().expect("the connection stands");
        if message.get("id").is_some() {
            break;
        }
        if message["event"] != "EVENTS_LOST" {
            assert_eq!(sequence(&message), next, "in order and without a gap");
            next += 1;
            continue;
        }
        let lost = &message["data"];
        assert_eq!(lost["first"], next);
        let (last, count) = (lost["last"].as_u64(), lost["count"].as_u64());
        let (last, count) = (last.expect("a number"), count.expect("a number"));
        assert_eq!(last - next + 1, count);
        // With another connection: this one's replies come after its events.
        let reply = replay(&mut witness, json!({"first": next, "count": count}));
        for event in reply["return"]["events"].as_array().expect("a list") {
            assert_eq!(sequence(event), next);
            assert_eq!(event["event"], "RESET");
            assert_eq!(event["data"]["n"], (next - 1) % 100);
            assert!(event["timestamp"]["seconds"].is_u64());
            next += 1;
            replayed += 1;
        }
        assert_eq!(next, last + 1, "all of them");
    }
    assert_eq!(next, 100 * 100 + 1);
    assert!(replayed > 0);
}

#[test]
fn whoever_comes_late_finds_the_latest_events() {
    let server = Running::start(ServerLimits::default().history_bytes(4 << 10));
    for _ in 0..3 {
        server.client().call(EMIT);
    }
    let mut late = server.client();
    let kept = replay(&mut late, json!({}))["return"].clone();
    assert_eq!(kept["next"], 301);
    let events = kept["events"].as_array().expect("a list");
    assert!(events.len() > 10 && events.len() < 60, "{}", events.len());
    assert_eq!(kept["oldest"], events[0]["sequence"]);
    assert_eq!(sequence(events.last().expect("some")), 300);
    let last = replay(&mut late, json!({"count": 2}))["return"]["events"].clone();
    assert_eq!(last[0]["sequence"], 299);
    assert_eq!(last.as_array().map(Vec::len), Some(2));
    // What is gone is left out: the caller sees it in `oldest`.
    assert_eq!(replay(&mut late, json!({"first": 0}))["return"], kept);
    let none = replay(&mut late, json!({"first": 301}))["return"].clone();
    assert_eq!(none["events"], json!([]));
    let refused = replay(&mut late, json!({"first": 302}));
    let text = "Parameter 'first' is 302, but the next event has number 301";
    assert_eq!(refused["error"]["desc"], text);
}

#[test]
fn the_schema_has_the_extension_and_a_server_without_history_has_none() {
    let server = Running::start(ServerLimits::default().history_bytes(0));
    let mut client = server.client();
    let commands = client.call("{'execute':'query-commands'}").to_string();
    assert!(commands.contains("x-number-events"));
    assert!(!commands.contains("x-replay-events"));
    let text = "Command x-replay-events has been disabled: this server keeps no events";
    assert_eq!(replay(&mut client, json!({}))["error"]["desc"], text);
    assert_eq!(number(&mut client, true), json!({"oldest": 1, "next": 1}));
    client.call("{'execute':'emit','arguments':{'event':'STOP','count':2}}");
    assert_eq!(number(&mut client, true), json!({"oldest": 3, "next": 3}));

    let server = Running::start(ServerLimits::default());
    let schema = server.client().call("{'execute':'query-qmp-schema'}");
    let entries = schema["return"].as_array().expect("a list").clone();
    let entry = |name: &Value| {
        entries
            .iter()
            .find(|e| e["name"] == *name)
            .expect("it is there")
    };
    let replay = entry(&json!("x-replay-events"));
    let members = entry(&replay["arg-type"])["members"].to_string();
    assert!(
        members.contains("\"first\"") && members.contains("\"count\""),
        "{members}"
    );
}
