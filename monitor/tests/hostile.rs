//! Clients that mean harm, or do it without meaning to. Each must leave the server answering others
//! and within its bounds.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod support;

use monitor::ServerLimits;
use monitor::protocol::Limits;
use serde_json::json;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use support::{Client, Running};

const STATUS: &str = "{'execute':'query-status'}";

fn answers(client: &mut Client) {
    let expected = json!({"return": {"running": true, "status": "running"}});
    assert_eq!(client.call(STATUS), expected);
}

#[test]
fn one_byte_at_a_time_is_a_request_like_any_other() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    for byte in br#"{"execute": "query-status", "id": "slow"}"# {
        client.send([*byte]);
    }
    assert_eq!(client.reply()["id"], "slow");
}

#[test]
fn a_hundred_connections_that_break_off_leave_nothing_behind() {
    let server = Running::start(ServerLimits::default());
    let mut witness = server.client();
    for n in 0..100 {
        let mut stream = UnixStream::connect(&server.path).expect("the server listens");
        // Every kind of parting: silent, in the middle of a command, after one, and half closed.
        let parting: &[u8] = match n % 4 {
            0 => b"",
            1 => b"{'execute':'qmp_cap",
            2 => b"{'execute':'qmp_capabilities'}{'execute':'query-status'}",
            _ => b"[[[\"\xff{'execute'",
        };
        stream.write_all(parting).ok();
        if n % 3 == 0 {
            stream.shutdown(Shutdown::Write).ok();
        }
        drop(stream);
    }
    answers(&mut witness);
    server.wait("only the witness is left", |seen| seen.clients.len() == 1);
    let seen = server.seen.lock().expect("the server lives");
    assert!(seen.most_clients <= ServerLimits::default().clients);
}

#[test]
fn clients_beyond_the_limit_wait_their_turn() {
    let server = Running::start(ServerLimits::default().clients(2));
    let mut first = server.client();
    let second = server.client();
    let third = UnixStream::connect(&server.path).expect("the backlog takes it");
    answers(&mut first);
    assert_eq!(
        server.seen.lock().expect("the server lives").most_clients,
        2
    );
    drop(second);
    third
        .set_read_timeout(Some(support::PATIENCE))
        .expect("a timeout");
    let mut byte = [0];
    std::io::Read::read_exact(&mut &third, &mut byte).expect("now it is greeted");
    assert_eq!(byte, *b"{");
}

#[test]
fn whoever_never_negotiates_makes_room() {
    let limits = ServerLimits::default().clients(1).handshake(Duration::ZERO);
    let server = Running::start(limits);
    let mut idle = Client::connect(&server.path);
    let mut active = server.client();
    answers(&mut active);
    assert!(idle.message().is_none(), "the idle one was shown out");
}

#[test]
fn a_client_that_never_reads_events_costs_a_bounded_queue_and_is_told() {
    let limits = ServerLimits::default().event_bytes(64 << 10);
    let server = Running::start(limits);
    let mut deaf = server.client();
    let mut witness = server.client();
    // Far more than the socket buffers and the queue can hold.
    const ROUNDS: u64 = 400;
    for _ in 0..ROUNDS {
        let reply = witness.call("{'execute':'emit','arguments':{'event':'RESET','count':100}}");
        assert_eq!(reply, json!({"return": {}}));
    }
    server.wait("events are lost", |seen| {
        seen.clients.iter().any(|c| c.lost_events > 0)
    });
    {
        let seen = server.seen.lock().expect("the server lives");
        // One report of losses may come on top.
        assert!(seen.event_bytes <= (64 << 10) + 512, "{}", seen.event_bytes);
        assert!(seen.unsent_bytes <= 24 << 10, "{}", seen.unsent_bytes);
    }
    // Now it reads: what it gets and what it was told about is everything, in order.
    let mut got = 0;
    let mut lost = 0;
    deaf.send(STATUS);
    loop {
        let message = deaf.message().expect("the connection stands");
        match message.get("event").and_then(|event| event.as_str()) {
            Some("RESET") => got += 1,
            Some("EVENTS_LOST") => {
                let count = message["data"]["count"].as_u64().expect("a count");
                assert_eq!(message["data"]["events"], json!({"RESET": count}));
                lost += count;
            }
            Some(other) => panic!("{other} was never emitted"),
            None => break,
        }
    }
    assert_eq!(got + lost, ROUNDS * 100);
    assert!(lost > 0);
    let seen = server.seen.lock().expect("the server lives");
    assert!(seen.clients.iter().any(|client| client.lost_events == lost));
}

#[test]
fn a_client_that_never_reads_replies_is_not_read_from() {
    let limits = ServerLimits::default().reply_bytes(64 << 10);
    let server = Running::start(limits);
    let mut deaf = server.client();
    let mut witness = server.client();
    const REPLY: usize = 50_000;
    let command = format!("{{'execute':'large','arguments':{{'bytes':{REPLY}}}}}");
    deaf.stream.set_nonblocking(true).expect("a mode");
    let mut sent = 0;
    // Until neither the server nor the kernel takes any more.
    let mut idle = 0;
    while idle < 50 {
        match deaf.stream.write(command.as_bytes()) {
            Ok(count) => {
                sent += count;
                idle = 0;
            }
            Err(_) => {
                idle += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    answers(&mut witness);
    {
        let seen = server.seen.lock().expect("the server lives");
        assert!(
            seen.reply_bytes <= (64 << 10) + REPLY + 64,
            "{}",
            seen.reply_bytes
        );
    }
    // Every request that was sent whole is answered once it reads.
    deaf.stream.set_nonblocking(false).expect("a mode");
    for _ in 0..sent / command.len() {
        assert_eq!(deaf.reply()["return"].as_str().map(str::len), Some(REPLY));
    }
}

#[test]
fn an_array_of_a_million_tokens_is_refused_once_and_the_next_command_runs() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    let mut array = b"[".to_vec();
    array.extend(b"1,".repeat(475_000 * 2));
    array.extend(b"1]");
    client.send(&array);
    let refusal = client.reply();
    assert_eq!(refusal["error"]["desc"], "JSON token count limit exceeded");
    answers(&mut client);
}

#[test]
fn an_array_of_a_million_tokens_is_swallowed_under_qemus_limits() {
    let server = Running::start(ServerLimits::default().message(Limits::QEMU));
    let mut client = server.client();
    let mut array = b"[".to_vec();
    array.extend(b"1,".repeat(475_000));
    array.extend(b"1]");
    client.send(&array);
    let refusal = client.reply();
    assert_eq!(refusal["error"]["desc"], "QMP input must be a JSON object");
    answers(&mut client);
}

#[test]
fn a_line_without_end_is_passed_over_in_constant_memory() {
    let server = Running::start(ServerLimits::default());
    let mut client = server.client();
    client.send(b"{\"execute\": \"");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..64 {
        client.send(&chunk);
    }
    assert_eq!(
        client.reply()["error"]["desc"],
        "JSON token size limit exceeded"
    );
    client.send(b"\xff");
    let text = client.reply()["error"]["desc"].as_str().map(str::to_owned);
    assert_eq!(text.as_deref(), Some("JSON parse error, stray '\u{FFFD}'"));
    answers(&mut client);
}

#[test]
fn a_flood_of_errors_is_answered_one_by_one_while_others_are_served() {
    let server = Running::start(ServerLimits::default());
    let mut witness = server.client();
    let mut flood = server.client();
    const COUNT: usize = 20_000;
    let mut writer = flood.stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || {
        writer
            .write_all(&vec![b']'; COUNT])
            .expect("the server reads");
    });
    for _ in 0..20 {
        answers(&mut witness);
    }
    for _ in 0..COUNT {
        assert_eq!(
            flood.reply()["error"]["desc"],
            "JSON parse error, expecting value"
        );
    }
    sender.join().expect("the flood was sent");
    answers(&mut flood);
}

#[test]
fn pipelined_commands_of_several_clients_are_answered_in_order() {
    let server = Running::start(ServerLimits::default());
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let mut client = server.client();
            std::thread::spawn(move || {
                let mut writer = client.stream.try_clone().expect("a second handle");
                let sender = std::thread::spawn(move || {
                    for id in 0..500 {
                        let command = format!("{{'execute':'query-status','id':{id}}}");
                        writer
                            .write_all(command.as_bytes())
                            .expect("the server reads");
                    }
                });
                for id in 0..500 {
                    assert_eq!(client.reply()["id"], id);
                }
                sender.join().expect("all was sent");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client");
    }
}

#[test]
fn a_half_closed_client_gets_its_replies_and_then_the_end() {
    let server = Running::start(ServerLimits::default());
    let mut client = Client::connect(&server.path);
    client.send("{'execute':'qmp_capabilities'}{'execute':'query-status'}{'execute':'query-name'}");
    client
        .stream
        .shutdown(Shutdown::Write)
        .expect("half closed");
    assert_eq!(client.order(4), ["reply", "reply", "reply", "end"]);
}

#[test]
fn a_place_held_idly_is_freed_when_its_time_is_over_and_another_waits() {
    let limits = ServerLimits::default()
        .clients(1)
        .handshake(Duration::from_millis(300));
    let server = Running::start(limits);
    let mut idle = Client::connect(&server.path);
    // It knocks at once, and nothing else happens until the time is over.
    let mut active = server.client();
    answers(&mut active);
    assert!(idle.message().is_none(), "the idle one was shown out");
}

/// Reads what there is to the end of the stream, and says whether it came.
fn ends(client: &mut Client) -> bool {
    let mut sink = Vec::new();
    match std::io::Read::read_to_end(&mut client.stream, &mut sink) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_client_that_stands_still_in_the_middle_of_a_request_is_disconnected() {
    let limits = ServerLimits::default().stall(Duration::from_millis(300));
    let server = Running::start(limits);
    // Two that are idle, before and after the negotiation, and have done nothing wrong.
    let (mut idle, mut silent) = (server.client(), Client::connect(&server.path));
    let mut stuck = server.client();
    stuck.send("{'execute': 'query-");
    assert!(ends(&mut stuck), "it was shown out");
    server.wait("the log has it", |seen| !seen.stalled.is_empty());
    {
        let seen = server.seen.lock().expect("the server lives");
        let text =
            "a client of the monitor was disconnected: it did not finish a request for 0.3 s";
        assert_eq!(seen.stalled, [text]);
    }
    answers(&mut idle);
    silent.negotiate();
}

#[test]
fn a_client_that_does_not_read_for_too_long_is_disconnected() {
    let limits = ServerLimits::default().stall(Duration::from_secs(1));
    let server = Running::start(limits);
    let (mut deaf, mut witness) = (server.client(), server.client());
    for _ in 0..400 {
        let reply = witness.call("{'execute':'emit','arguments':{'event':'RESET','count':100}}");
        assert_eq!(reply, json!({"return": {}}));
    }
    server.wait("it is gone", |seen| seen.clients.len() == 1);
    assert!(ends(&mut deaf));
    let seen = server.seen.lock().expect("the server lives");
    assert!(
        seen.stalled[0].contains("did not read"),
        "{:?}",
        seen.stalled
    );
}

#[test]
fn a_slow_client_that_goes_on_is_not_disconnected() {
    let limits = ServerLimits::default().stall(Duration::from_secs(2));
    let server = Running::start(limits);
    let mut slow = server.client();
    for byte in br#"{"execute": "query-status"}"# {
        slow.send([*byte]);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(slow.reply()["return"]["running"], true);
}
