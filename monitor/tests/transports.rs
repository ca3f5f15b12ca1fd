//! Clients that come by TCP, through pipes, or are connected already, and those who may not come.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod support;

use monitor::ServerLimits;
use rustix::fs::{OFlags, fcntl_getfl};
use serde_json::{Value, json};
use std::io::{Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use support::{PATIENCE, Running, Scratch};

/// A conversation that ends the VM.
const TO_THE_END: &str = "{'execute':'qmp_capabilities'}{'execute':'query-status','id':1}\
                          {'execute':'emit','arguments':{'event':'RESET','count':2}}{'execute':'quit'}";

/// What a client reads in it: the kind of each message.
const HEARD: [&str; 9] = [
    "QMP", "return", "return", "RESET", "RESET", "return", "SHUTDOWN", "return", "end",
];

fn kinds(text: &str) -> Vec<String> {
    let mut kinds: Vec<_> = text
        .lines()
        .map(|line| {
            let message: Value = serde_json::from_str(line).expect("JSON");
            match message["event"].as_str() {
                Some(event) => event.to_owned(),
                None => ["QMP", "return", "error"]
                    .into_iter()
                    .find(|kind| message.get(kind).is_some())
                    .expect("a message of a kind")
                    .to_owned(),
            }
        })
        .collect();
    kinds.push("end".to_owned());
    kinds
}

fn read_all(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("the stream ends");
    text
}

#[test]
fn a_client_by_tcp_is_served_like_any_other() {
    let (server, address) = Running::on_tcp();
    let mut local = server.client();
    let mut remote = TcpStream::connect(address).expect("it listens");
    remote.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    remote.write_all(TO_THE_END.as_bytes()).expect("it reads");
    assert_eq!(kinds(&read_all(remote)), HEARD);
    // Who listens at the other door has heard the events.
    assert_eq!(local.order(1), ["RESET", "RESET", "SHUTDOWN", "end"]);
}

#[test]
fn clients_come_through_a_listener_of_any_family_that_was_handed_over() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    let scratch = Scratch::new();
    let path = scratch.path("handed.sock");
    let unix = UnixListener::bind(&path).expect("a socket");
    let _server = Running::with(|server| {
        server.listen_on(port).expect("a listener");
        server.listen_on(unix).expect("a listener");
    });
    let mut tcp = TcpStream::connect(address).expect("it listens");
    let mut greeting = [0; 6];
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tcp.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"{\"QMP\"");
    for _ in 0..2 {
        drop(UnixStream::connect(&path).expect("it listens"));
    }
    let mut client = UnixStream::connect(&path).expect("it listens");
    std::fs::remove_file(&path).expect("its file is its maker's");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    client.write_all(TO_THE_END.as_bytes()).expect("it reads");
    assert_eq!(kinds(&read_all(client)), HEARD);
}

#[test]
fn a_connection_that_exists_already_is_served() {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut tcp = TcpStream::connect(address).expect("it listens");
    let (passed_on, _) = listener.accept().expect("it has connected");
    let _server = Running::with(|server| {
        server.add_client(theirs).expect("a client");
        server.add_client(passed_on).expect("a client");
    });
    let mut greeting = [0; 6];
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tcp.read_exact(&mut greeting).expect("a greeting");
    assert_eq!(&greeting, b"{\"QMP\"");
    ours.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (&ours).write_all(TO_THE_END.as_bytes()).expect("it reads");
    assert_eq!(kinds(&read_all(ours)), HEARD);
}

#[test]
fn a_pair_of_pipes_is_a_client() {
    let (their_input, mut to_server) = pipe().expect("a pipe");
    let (from_server, their_output) = pipe().expect("a pipe");
    let _server = Running::with(|server| {
        server
            .add_pair(their_input, their_output)
            .expect("a client");
    });
    to_server
        .write_all(TO_THE_END.as_bytes())
        .expect("it reads");
    assert_eq!(kinds(&read_all(from_server)), HEARD);
}

#[test]
fn a_pipe_that_was_closed_behind_its_requests_is_answered_to_the_end() {
    let (their_input, mut to_server) = pipe().expect("a pipe");
    let (from_server, their_output) = pipe().expect("a pipe");
    to_server
        .write_all(b"{'execute':'qmp_capabilities'}{'execute':'query-status'}{'execute':'ping'}")
        .expect("a pipe takes this much");
    drop(to_server);
    let server = Running::with(|server| {
        server
            .add_pair(their_input, their_output)
            .expect("a client");
    });
    let heard = kinds(&read_all(from_server));
    assert_eq!(heard, ["QMP", "return", "return", "return", "end"]);
    server.wait("the client to go", |seen| seen.clients.is_empty());
}

#[test]
fn descriptors_block_again_when_their_client_has_gone() {
    // One terminal is both: its flags are those of one file.
    let (near, far) = UnixStream::pair().expect("a pair");
    let [input, output] = [&far, &far].map(|far| OwnedFd::from(far.try_clone().expect("a copy")));
    let blocks = |far: &UnixStream| {
        let flags = fcntl_getfl(far).expect("flags");
        !flags.contains(OFlags::NONBLOCK)
    };
    let server = Running::with(|server| server.add_pair(input, output).expect("a client"));
    server.wait("the client", |seen| seen.clients.len() == 1);
    assert!(!blocks(&far));
    drop(near);
    server.wait("the client to go", |seen| seen.clients.is_empty());
    let mut client = server.client();
    client.call("{'execute':'query-status'}");
    assert!(blocks(&far));
}

#[test]
fn a_pipe_that_nobody_reads_costs_its_client_alone() {
    let (their_input, mut to_server) = pipe().expect("a pipe");
    let (from_server, their_output) = pipe().expect("a pipe");
    let server = Running::start_with(
        ServerLimits::default().event_bytes(4096),
        |socket| socket,
        |server| {
            server
                .add_pair(their_input, their_output)
                .expect("a client");
        },
    );
    to_server
        .write_all(b"{'execute':'qmp_capabilities'}")
        .expect("it reads");
    server.wait("the negotiation", |seen| {
        seen.clients.iter().any(|client| client.negotiated)
    });
    let mut other = server.client();
    let emit = "{'execute':'emit','arguments':{'event':'RESET','count':500}}";
    for _ in 0..10 {
        assert_eq!(other.call(emit), json!({"return": {}}));
    }
    server.wait("a loss", |seen| {
        seen.clients.iter().any(|c| c.lost_events > 0)
    });
    // Its reader goes: so does it, and nobody else.
    drop(from_server);
    server.wait("the client to go", |seen| seen.clients.len() == 1);
    assert_eq!(other.call("{'execute':'ping'}"), json!({"return": "pong"}));
}

/// Who runs this test.
fn own_id() -> u32 {
    std::fs::metadata("/proc/self").expect("a process").uid()
}

#[test]
fn a_user_on_the_list_is_served() {
    let own = own_id();
    let server = Running::start_with(
        ServerLimits::default(),
        |socket| socket.only_for([own.wrapping_add(1), own]),
        |_| {},
    );
    let mut client = server.client();
    assert_eq!(client.call("{'execute':'ping'}"), json!({"return": "pong"}));
}

#[test]
fn other_users_see_the_end_before_the_greeting() {
    let (near, far) = UnixStream::pair().expect("a pair");
    let other = own_id().wrapping_add(1);
    let server = Running::start_with(
        ServerLimits::default().clients(2),
        |socket| socket.only_for([other]),
        |server| server.add_client(far).expect("a client"),
    );
    for _ in 0..100 {
        let refused = UnixStream::connect(&server.path).expect("it listens");
        refused.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert_eq!(read_all(refused), "");
    }
    assert_eq!(
        server.seen.lock().expect("the server lives").most_clients,
        1
    );
    near.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (&near).write_all(TO_THE_END.as_bytes()).expect("it reads");
    assert_eq!(kinds(&read_all(near)), HEARD);
}
