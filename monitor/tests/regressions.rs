//! One test for each bug of the field that this crate prevents, named after what it prevents.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

#[path = "regressions/sockets.rs"]
mod sockets;
mod support;

use event_manager::{EventManager, SubscriberOps};
use monitor::protocol::{Limits, Parser, write_value};
use monitor::{Registry, Server, ServerLimits, Version};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{Client, Running};

// QEMU: monitor_puts queues without a bound. A guest that panics or resets in a loop while a client
// does not read grew QEMU by hundreds of MiB a minute. StratoVirt's queue has a bound, but what it
// drops only its log knows.
#[test]
fn events_for_a_deaf_client_grow_without_bound() {
    let limits = ServerLimits::default().event_bytes(16 << 10);
    let server = Running::start(limits);
    let mut deaf = server.client();
    for _ in 0..200_000 {
        server
            .sender
            .emit_bare("RESET")
            .expect("a registered event");
    }
    server.wait("events are lost", |seen| {
        seen.clients.iter().any(|c| c.lost_events > 0)
    });
    let waiting = server.seen.lock().expect("the server lives").event_bytes;
    assert!(waiting <= (16 << 10) + 512, "{waiting}");
    let mut counted = 0;
    while counted < 200_000 {
        let event = deaf.message().expect("it is still connected");
        counted += match event["event"].as_str() {
            Some("EVENTS_LOST") => event["data"]["count"].as_u64().expect("a count"),
            Some("RESET") => 1,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(counted, 200_000, "each one was sent or counted");
}

// OpenXT issues 1286 and 1296: QEMU's main loop blocked in a write to a monitor that nobody read.
#[test]
fn a_deaf_client_stops_the_main_loop() {
    let server = Running::start(ServerLimits::default());
    let mut deaf = server.client();
    let mut witness = server.client();
    for _ in 0..64 {
        deaf.send("{'execute':'large','arguments':{'bytes':60000}}");
        witness.call("{'execute':'query-status'}");
    }
}

// QEMU: 1.9 MB of `[1,1,1,...` took 17 seconds and 124 MiB.
#[test]
fn a_long_array_is_kept_token_by_token() {
    let mut parser = Parser::new(Limits::default());
    let mut input = b"[".to_vec();
    input.extend(b"1,".repeat(950_000));
    input.extend(b"1]{}");
    let mut rest = &input[..];
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let (used, message) = parser.feed(rest);
        rest = &rest[used..];
        messages.extend(message);
    }
    assert_eq!(messages.len(), 2, "one refusal, and then the empty object");
    assert!(messages[0].is_err());
    assert_eq!(messages[1], Ok(json!({})));
    assert!(parser.is_idle());
    // Under limits that let it pass, nothing of it is kept: no request is an array.
    let (_, message) = Parser::for_requests(Limits::QEMU).feed(&input);
    assert_eq!(message, Some(Ok(json!([]))));
}

// Firecracker issue 4414: a request that was refused had been done by half. Issue 2017: a message
// that announced more than came left the next client waiting.
#[test]
fn a_refused_request_is_done_by_half_or_holds_up_the_next() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    let refused = client.call("{'execute':'emit','arguments':{'event':'RESET','count':'x'}}");
    assert!(refused.get("error").is_some());
    client.send("{'execute':'emit','arguments':{'event':'RESET'");
    let mut other = server.client();
    other.call("{'execute':'query-status'}");
    client.send(",'count':1,'more':2}}");
    client.send("{'execute':'query-status'}");
    assert_eq!(client.order(2), ["reply", "reply"], "no event was emitted");
}

// CVE-2024-7409 (QEMU's NBD server): too many connections, and a race when they are closed.
// Firecracker and others accept without a limit too.
#[test]
fn connections_without_a_limit_exhaust_the_descriptors() {
    let server = Running::start(ServerLimits::default());
    let flood: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(&server.path))
        .collect();
    server.wait("the places are taken", |seen| seen.clients.len() == 8);
    assert!(server.seen.lock().expect("the server lives").most_clients <= 8);
    drop(flood);
    let mut client = server.client();
    client.call("{'execute':'query-status'}");
}

// QEMU echoes a number beyond a double's range as `inf`, which no JSON parser takes.
#[test]
fn a_number_out_of_range_is_echoed_as_inf() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    let reply = client.call("{'execute':'query-status','id':1E400}");
    assert_eq!(
        reply["error"]["desc"],
        "JSON parse error, number out of range '1E400'"
    );
    // And whatever is in a value, the writer's output is JSON.
    let mut out = Vec::new();
    write_value(&mut out, &json!([f64::INFINITY, f64::NAN, f64::MAX]));
    serde_json::from_slice::<Value>(&out).expect("JSON");
}

// QEMU limits WATCHDOG to one a second whatever its action: a `reset` could replace a `pause`, and
// come after the STOP that it announces.
#[test]
fn watchdog_events_of_different_actions_are_merged() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    let actions = ["pause", "none", "reset", "debug", "pause", "none", "pause"];
    for action in actions {
        server
            .sender
            .emit("WATCHDOG", &json!({"action": action}))
            .expect("a registered event");
    }
    server.sender.emit_bare("STOP").expect("a registered event");
    let mut seen = Vec::new();
    loop {
        let event = client.message().expect("an event");
        if event["event"] == "STOP" {
            break;
        }
        seen.push(
            event["data"]["action"]
                .as_str()
                .expect("an action")
                .to_owned(),
        );
    }
    // Only the second `none`, which changes nothing, waits for its second to pass.
    assert_eq!(seen, ["pause", "none", "reset", "debug", "pause", "pause"]);
    let late = client.message().expect("it is not lost");
    assert_eq!(late["data"]["action"], "none");
}

// Cloud Hypervisor issues 7038 and 3146: a request that takes long holds up all others. Here a
// client that sends a request by halves holds up nobody.
#[test]
fn a_request_that_takes_long_to_arrive_holds_up_other_clients() {
    let server = Running::start(ServerLimits::default());
    let mut slow = server.client();
    slow.send("{'execute':");
    let mut quick = server.client();
    for _ in 0..100 {
        quick.call("{'execute':'query-status'}");
    }
    slow.send("'query-status'}");
    slow.reply();
}

// avocado-vt issue 4312, overdrive issue 268: an event from before the observer came is lost, and
// with it the observer's idea of the state. The events stay lost, as in QEMU, but the reply to
// qmp_capabilities is the line: what happens after it is seen, and query-status tells the rest.
#[test]
fn an_event_falls_between_negotiation_and_the_first_query() {
    let server = Running::start(ServerLimits::default());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                server
                    .sender
                    .emit_bare("RESET")
                    .expect("a registered event");
            }
        });
        for _ in 0..20 {
            let mut client = Client::connect(&server.path);
            client.send("{'execute':'qmp_capabilities'}");
            let first = client.message().expect("a reply");
            assert_eq!(
                first,
                json!({"return": {}}),
                "no event comes before the reply"
            );
            let second = client.message().expect("an event");
            assert_eq!(second["event"], "RESET");
        }
        done.store(true, Ordering::Relaxed);
    });
}

// cocoon issue 176: a client that dies in the middle of an operation leaves its effects behind.
// Its requests that were not started are dropped.
#[test]
fn a_client_that_is_killed_has_its_waiting_requests_executed() {
    let server = Running::start(ServerLimits::default());
    let mut witness = server.client();
    let mut victim = server.client();
    let burst = "{'execute':'emit','arguments':{'event':'RESET','count':1}}".repeat(500);
    victim.send(&burst);
    drop(victim);
    server.wait("the victim is gone", |seen| seen.clients.len() == 1);
    witness.send("{'execute':'query-status'}");
    let events = witness.order(1).len() - 1;
    assert!(events < 500, "{events} of 500 were executed for nobody");
}

// Events of several threads reach all clients in one order, and time does not run backwards.
#[test]
fn threads_that_emit_at_once_are_seen_in_different_orders() {
    let server = Running::start(ServerLimits::default().event_bytes(8 << 20));
    let mut clients: Vec<_> = (0..3).map(|_| server.client()).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let sender = server.sender.clone();
            scope.spawn(move || {
                for n in 0..500 {
                    let data = json!({"thread": thread, "n": n});
                    sender.emit("RESET", &data).expect("a registered event");
                }
            });
        }
    });
    let sequences: Vec<Vec<Value>> = clients
        .iter_mut()
        .map(|client| {
            (0..2000)
                .map(|_| client.message().expect("an event"))
                .collect()
        })
        .collect();
    assert_eq!(sequences[0], sequences[1]);
    assert_eq!(sequences[0], sequences[2]);
    let time = |event: &Value| {
        let stamp = &event["timestamp"];
        (stamp["seconds"].as_u64(), stamp["microseconds"].as_u64())
    };
    assert!(sequences[0].is_sorted_by_key(time));
    for thread in 0..4 {
        let own = sequences[0]
            .iter()
            .filter(|event| event["data"]["thread"] == thread);
        assert!(
            own.map(|event| event["data"]["n"].as_u64())
                .eq((0..500).map(Some))
        );
    }
}

// A client that is killed while the server writes to it must not kill the server (SIGPIPE).
#[test]
fn a_write_to_a_client_that_is_gone_ends_the_process() {
    let server = Running::start(ServerLimits::default());
    let mut witness = server.client();
    for _ in 0..50 {
        let mut victim = server.client();
        victim
            .stream
            .write_all(b"{'execute':'large','arguments':{'bytes':300000}}")
            .ok();
        server
            .sender
            .emit_bare("RESET")
            .expect("a registered event");
        drop(victim);
    }
    witness.call("{'execute':'query-status'}");
}

// Cloud Hypervisor issue 816 and its kin: the end of a VMM waits for somebody who never moves.
#[test]
fn the_end_waits_for_a_deaf_client_without_bound() {
    let mut registry: Registry<()> = Registry::new(Version::new(1, 0, 0, ""));
    registry.event("RESET");
    let mut server = Server::new(registry).expect("a server");
    let (mut deaf, one) = UnixStream::pair().expect("a pair");
    let (mut attentive, other) = UnixStream::pair().expect("a pair");
    server.add_client(one).expect("a client");
    server.add_client(other).expect("a client");
    let mut events: EventManager<Rc<RefCell<Server<()>>>> = EventManager::new().expect("a loop");
    let server = Rc::new(RefCell::new(server));
    let id = events.add_subscriber(server.clone());
    for client in [&mut deaf, &mut attentive] {
        client
            .write_all(b"{'execute':'qmp_capabilities'}")
            .expect("it is read");
    }
    while server
        .borrow()
        .clients()
        .iter()
        .any(|client| !client.negotiated)
    {
        events.run_with_timeout(1000).expect("the loop runs");
        server.borrow_mut().dispatch(&mut ());
        server.borrow_mut().finish_turn();
    }
    // Reads on, and sees the last event and the end.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        attentive.read_to_string(&mut text).expect("a clean end");
        text
    });
    let sender = server.borrow().emitter();
    for _ in 0..3000 {
        sender.emit_bare("RESET").expect("a registered event");
    }
    assert_eq!(
        server.borrow_mut().close(Duration::from_secs(2)),
        1,
        "only one is deaf"
    );
    let text = reader.join().expect("the reader");
    assert_eq!(text.matches("\"RESET\"").count(), 3000 - lost(&text));
    assert!(text.ends_with("\r\n"));
    events.remove_subscriber(id).expect("it is a subscriber");
}

/// How many events the reports in `text` count.
fn lost(text: &str) -> usize {
    let reports = text.lines().filter(|line| line.contains("EVENTS_LOST"));
    reports
        .map(|line| {
            let report: Value = serde_json::from_str(line).expect("JSON");
            report["data"]["count"].as_u64().expect("a count")
        })
        .sum::<u64>()
        .try_into()
        .expect("a small number")
}

// A server that only one thread may own forces its VMM's design.
#[test]
fn a_server_is_tied_to_the_thread_that_made_it() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync + Clone>() {}
    is_send::<Server<Rc<()>>>();
    is_shared::<monitor::EventSender>();
}
