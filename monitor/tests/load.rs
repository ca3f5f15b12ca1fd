//! Many clients, and clients that fail in every way, against a server in a process of its own, whose
//! memory and descriptors are looked at from outside.
//!
//! `MONITOR_LOAD=full` makes each load as large as it is meant to be: minutes instead of seconds.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod support;
#[path = "../examples/vmm/mod.rs"]
mod vmm;

use monitor::{MonitorSocket, ServerLimits};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Scratch};

const SOCKET: &str = "MONITOR_LOAD_SOCKET";
const EVENTS_DUE: &str = "MONITOR_LOAD_EVENTS";
const CLIENTS: usize = 64;

/// What the README promises: a client costs no more than its queues and one message, and beside that
/// the server does not grow. All figures in KiB; the slack is for the allocator.
const EVENTS: u64 = 256;
const MESSAGE: u64 = 3 << 10;
const SLACK: u64 = 1 << 10;

/// The smaller figure, unless everything is wanted.
fn scale(few: usize, full: usize) -> usize {
    match std::env::var("MONITOR_LOAD") {
        Ok(load) if load == "full" => full,
        _ => few,
    }
}

/// Not a test: the server's process. The tests start it.
#[test]
#[ignore = "is started by the other tests"]
fn the_server() {
    if let Some(path) = std::env::var_os(SOCKET) {
        let socket = MonitorSocket::bind(path).expect("a socket");
        let limits = ServerLimits::default().clients(CLIENTS + 4);
        vmm::run(vec![socket], limits).expect("it runs");
    }
}

/// Not a test: a client in a process of its own, which can be stopped. It ends when it has got, or has
/// been told of, as many events as it should.
#[test]
#[ignore = "is started by the other tests"]
fn the_reader() {
    let Some(path) = std::env::var_os(SOCKET) else {
        return;
    };
    let due = std::env::var(EVENTS_DUE).expect("how many events");
    let due: u64 = due.parse().expect("a number");
    let mut client = Client::connect(path.as_ref());
    client.negotiate();
    std::fs::write(ready(path.as_ref()), "").expect("a file");
    let mut seen = 0;
    while seen < due {
        let event = client.message().expect("the connection stands");
        seen += match event["event"].as_str() {
            Some("EVENTS_LOST") => event["data"]["count"].as_u64().expect("a count"),
            Some("RESET") => 1,
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(seen, due);
}

/// The file that says that the reader has negotiated.
fn ready(socket: &Path) -> PathBuf {
    socket.with_extension("ready")
}

/// One of the two above.
fn role(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["--exact", name, "--ignored", "--quiet"])
        .env(SOCKET, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

struct Process {
    child: Child,
    path: PathBuf,
    _scratch: Scratch,
}

impl Process {
    fn start() -> Self {
        let scratch = Scratch::new();
        let path = scratch.path("qmp.sock");
        let child = role("the_server", &path).spawn().expect("it starts");
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(&path).is_err() {
            assert!(Instant::now() < until, "it does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Process {
            child,
            path,
            _scratch: scratch,
        }
    }

    fn client(&self) -> Client {
        let mut client = Client::connect(&self.path);
        client.negotiate();
        client
    }

    /// Memory that is the process's own, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it lives");
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let figure = line.and_then(|line| line.split_whitespace().nth(1));
        figure.and_then(|kib| kib.parse().ok()).expect("a figure")
    }

    /// Open files.
    fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).expect("it lives").count()
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < until, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails unless the memory has grown by so much at most.
    fn grew_less(&self, before: u64, bound: u64) {
        let now = self.memory();
        println!("{before} KiB before, {now} KiB now, {bound} KiB allowed on top");
        assert!(now <= before + bound, "{before} KiB, then {now} KiB");
    }

    /// The server must still do all it did, and end as it should.
    fn ends_well(mut self) {
        let mut client = self.client();
        let status = client.call("{'execute':'query-status'}");
        assert!(status["return"]["status"].is_string(), "{status}");
        client.send("{'execute':'quit'}");
        assert_eq!(client.order(2), ["SHUTDOWN", "reply", "end"]);
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a child").is_none() {
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("a child");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Reads up to the reply, and checks that it is the right one and that no event is missing.
fn reply(client: &mut Client, id: &Value, next: &mut u64) {
    loop {
        let message = client.message().expect("the connection stands");
        if message.get("event").is_none() {
            assert_eq!(message["id"], *id);
            assert_eq!(message["return"], json!({}));
            return;
        }
        assert_eq!(message["sequence"], *next, "{message}");
        assert_eq!(message["event"], "RESET");
        *next += 1;
    }
}

#[test]
fn a_guest_that_resets_in_a_loop_while_a_client_never_reads() {
    let server = Process::start();
    let _deaf = server.client();
    let mut witness = server.client();
    let mut other = server.client();
    let mut times = Vec::new();
    let numbered = "{'execute':'x-number-events','arguments':{'enable':true}}";
    let mut next = witness.call(numbered)["return"]["next"]
        .as_u64()
        .expect("a number");
    let first = next;
    let before = server.memory();
    const TIMES: u64 = 500;
    let rounds = scale(20, 4_000);
    for id in 0..rounds {
        let arguments = json!({"deed": "reset", "times": TIMES});
        let request = json!({"execute": "x-guest", "arguments": arguments, "id": id});
        witness.send(request.to_string());
        let asked = Instant::now();
        other.call("{'execute':'query-status'}");
        times.push(asked.elapsed());
        reply(&mut witness, &json!(id), &mut next);
    }
    times.sort();
    // Behind up to 500 events each time. Not asserted: a busy machine stalls threads for longer.
    println!(
        "query-status meanwhile: p99 {:?}",
        times[times.len() * 99 / 100]
    );
    assert_eq!(next - first, TIMES * rounds as u64, "every event, in order");
    // The deaf one's queue, the others', and the events that are kept.
    server.grew_less(before, 4 * EVENTS + SLACK);
    server.ends_well();
}

#[test]
fn a_client_that_is_stopped_while_events_come_misses_none_unheard() {
    let server = Process::start();
    let mut guest = server.client();
    // Not so many that it is disconnected for not reading: that has a test of its own.
    let rounds = scale(10, 100);
    let mut reader = role("the_reader", &server.path)
        .env(EVENTS_DUE, (rounds * 500).to_string())
        .spawn()
        .expect("it starts");
    server.wait("it has negotiated", |server| ready(&server.path).exists());
    let signal = |name: &str| {
        let mut kill = Command::new("kill");
        let status = kill.args([name, &reader.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    };
    signal("-STOP");
    let before = server.memory();
    for _ in 0..rounds {
        guest.call("{'execute':'x-guest','arguments':{'deed':'reset','times':500}}");
    }
    server.grew_less(before, 3 * EVENTS + SLACK);
    signal("-CONT");
    // The account of what was lost comes when there is room, or before a reply.
    assert!(reader.wait().expect("a child").success());
    server.ends_well();
}

#[test]
fn clients_that_send_byte_by_byte() {
    let server = Process::start();
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    let before = server.memory();
    for id in 0..scale(20, 2_000) {
        for byte in format!("{{'execute':'query-status','id':{id}}}").bytes() {
            clients.iter_mut().for_each(|client| client.send([byte]));
        }
        for client in &mut clients {
            assert_eq!(client.message().expect("a reply")["id"], id);
        }
    }
    server.grew_less(before, SLACK);
    drop(clients);
    server.ends_well();
}

#[test]
fn a_thousand_connections_that_break_off_in_the_middle_of_a_command() {
    let server = Process::start();
    let mut witness = server.client();
    let cycle = |count: usize| {
        for number in 0..count {
            let stream = UnixStream::connect(&server.path).expect("it listens");
            let parting: &[u8] = match number % 3 {
                0 => b"{'execute':'qmp_capabilities'}{'execute':'query-st",
                1 => b"{'execute':'qmp_capabilities'}{'execute':'system_reset'}",
                _ => b"{'execute':",
            };
            std::io::Write::write_all(&mut &stream, parting).ok();
        }
    };
    let all_gone = |server: &Process, open: usize| {
        server.wait("all are gone", |server| server.descriptors() <= open);
    };
    let open = server.descriptors();
    cycle(100);
    all_gone(&server, open);
    let before = server.memory();
    cycle(scale(1_000, 20_000));
    all_gone(&server, open);
    server.grew_less(before, SLACK);
    while witness
        .call("{'execute':'query-status'}")
        .get("return")
        .is_none()
    {}
    server.ends_well();
}

#[test]
fn sixty_four_clients_that_pipeline() {
    let server = Process::start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
    let before = server.memory();
    const BATCH: usize = 100;
    for batch in 0..scale(2, 10_000 / BATCH) {
        for client in &mut clients {
            let ids = batch * BATCH..(batch + 1) * BATCH;
            let requests: Vec<_> = ids
                .map(|id| format!("{{'execute':'query-status','id':{id}}}"))
                .collect();
            client.send(requests.concat());
        }
        for client in &mut clients {
            for id in batch * BATCH..(batch + 1) * BATCH {
                let reply = client.message().expect("a reply");
                assert_eq!(reply["id"], id);
                assert!(reply["return"]["status"].is_string());
            }
        }
    }
    // 64 KiB each: what is read of it and not yet parsed, and its replies.
    server.grew_less(before, 64 * CLIENTS as u64 + SLACK);
    drop(clients);
    server.ends_well();
}

#[test]
fn a_line_of_a_gigabyte() {
    let server = Process::start();
    let mut client = server.client();
    let before = server.memory();
    client.send("{'execute': '");
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..scale(64, 1024) {
        client.send(&chunk);
    }
    server.grew_less(before, MESSAGE + SLACK);
    let refusal = client.reply();
    assert_eq!(refusal["error"]["desc"], "JSON token size limit exceeded");
    client.send("\x01");
    let refusal = client.reply();
    assert!(refusal["error"]["desc"].is_string(), "{refusal}");
    drop(client);
    server.ends_well();
}

#[test]
fn clients_that_are_killed_between_a_command_and_its_reply() {
    let server = Process::start();
    let mut witness = server.client();
    let open = server.descriptors();
    let count = scale(200, 5_000);
    for _ in 0..count {
        let mut client = server.client();
        // The reply finds nobody.
        client.send("{'execute':'query-qmp-schema'}{'execute':'stop'}{'execute':'system_reset'}");
        drop(client);
        witness.call("{'execute':'query-name'}");
    }
    server.wait("all are gone", |server| server.descriptors() <= open);
    server.ends_well();
}

#[test]
fn a_socket_whose_file_is_removed_serves_on() {
    let server = Process::start();
    let mut client = server.client();
    std::fs::remove_file(&server.path).expect("it was there");
    assert!(UnixStream::connect(&server.path).is_err());
    // Somebody else takes the name: the server's end must leave it alone.
    std::fs::write(&server.path, "mine").expect("a file");
    let status = client.call("{'execute':'query-status'}");
    assert!(status["return"]["status"].is_string());
    client.send("{'execute':'quit'}");
    assert_eq!(client.order(2), ["SHUTDOWN", "reply", "end"]);
    let kept = std::fs::read_to_string(&server.path).expect("still there");
    assert_eq!(kept, "mine");
}
