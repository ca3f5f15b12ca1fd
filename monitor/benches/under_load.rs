//! What other clients and a noisy guest cost a client that behaves: how long its `query-status` takes
//! while they do their worst, and while nobody else is there.
//!
//! The server has one processor for itself. The client that is measured shares the other one with
//! those that make the load, and goes before them: otherwise the time that they take from each other
//! would be most of what is measured, and no server can do anything about that. So the server and the
//! measured client are scheduled as real-time threads (`chrt`, which needs the right to do so), before
//! the load and whatever else the machine does. Slices with and without load take turns, and each
//! figure is the median over the slices, so that a neighbour's burst spoils one slice and not the
//! figure. `MONITOR_BENCH=full` takes more slices.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a benchmark that fails may panic"
)]

mod common;

use common::{Client, Ours, STATUS, Scratch, scale, stay_on};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SERVER: usize = 0;
const CLIENTS: usize = 1;

/// Tells this program what it is: what measures, or a load, by its number, on a socket.
const MEASURES: &str = "MONITOR_MEASURES";
const LOAD: &str = "MONITOR_LOAD_NUMBER";
const SOCKET: &str = "MONITOR_LOAD_SOCKET";

/// `query-status` in one slice.
const CALLS: usize = 400;

const SEVERAL: &str =
    "{\"execute\": \"query-status\"}{\"execute\": \"stop\"}{\"execute\": \"system_reset\"}";

/// Something that goes on until its process is killed.
type Load = fn(&Path);

const LOADS: [(&str, Load); 7] = [
    ("a guest resets in a loop, a client never reads", deaf),
    (
        "clients come and go in the middle of a command",
        come_and_go,
    ),
    (
        "clients are gone before their replies",
        gone_before_the_reply,
    ),
    ("64 clients pipeline", pipeline),
    ("a line without end", endless_line),
    ("an array without end", endless_array),
    ("a byte at a time", byte_by_byte),
];

fn deaf(path: &Path) {
    let _never_reads = Client::connect(path);
    let mut guest = Client::connect(path);
    let reset = "{\"execute\": \"x-guest\", \"arguments\": {\"deed\": \"reset\", \"times\": 1}}\n";
    loop {
        guest.call(reset);
    }
}

fn come_and_go(path: &Path) {
    loop {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"{\"execute\": \"qmp_cap").ok();
    }
}

fn gone_before_the_reply(path: &Path) {
    loop {
        Client::connect(path).send(SEVERAL);
    }
}

fn pipeline(path: &Path) {
    let mut clients: Vec<_> = (0..64).map(|_| Client::connect(path)).collect();
    let batch = STATUS.repeat(20);
    loop {
        clients.iter_mut().for_each(|client| client.send(&batch));
        clients.iter_mut().for_each(|client| {
            client.replies(20);
        });
    }
}

fn endless_line(path: &Path) {
    endless(path, "{\"execute\": \"", "x");
}

fn endless_array(path: &Path) {
    endless(path, "{\"execute\": [", "1,");
}

fn endless(path: &Path, opening: &str, unit: &str) {
    let mut client = Client::connect(path);
    client.send(opening);
    let piece = unit.repeat(64 << 10);
    loop {
        client.send(&piece);
    }
}

fn byte_by_byte(path: &Path) {
    let mut client = Client::connect(path);
    loop {
        STATUS
            .split_inclusive(|_| true)
            .for_each(|byte| client.send(byte));
        client.replies(1);
    }
}

/// The middle and the worst but one in a hundred.
#[derive(Clone, Copy)]
struct Slice {
    middle: Duration,
    worst: Duration,
}

fn slice(path: &Path) -> Slice {
    let times = Client::connect(path).times(CALLS);
    Slice {
        middle: times[CALLS / 2],
        worst: times[CALLS * 99 / 100],
    }
}

fn slice_under(number: usize, path: &Path) -> Slice {
    let mut load = Command::new("chrt")
        .args(["--other", "0"])
        .arg(std::env::current_exe().unwrap())
        .env(LOAD, number.to_string())
        .env(SOCKET, path)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let slice = slice(path);
    load.kill().unwrap();
    load.wait().unwrap();
    slice
}

fn median(slices: &[Slice], figure: fn(&Slice) -> Duration) -> Duration {
    let mut figures: Vec<_> = slices.iter().map(figure).collect();
    figures.sort();
    figures[figures.len() / 2]
}

fn measure() {
    let scratch = Scratch::new("under-load");
    let ours = Ours::start(scratch.path(), Some(SERVER));
    stay_on(CLIENTS);
    println!("query-status under load, beside idle; goal for p99 2.0");
    for (number, (name, _)) in LOADS.iter().enumerate() {
        let (mut idle, mut under) = (Vec::new(), Vec::new());
        for _ in 0..scale(9, 41) {
            idle.push(slice(&ours.path));
            under.push(slice_under(number, &ours.path));
        }
        let show = |what: &str, figure: fn(&Slice) -> Duration| {
            let (under, idle) = (median(&under, figure), median(&idle, figure));
            let ratio = under.as_secs_f64() / idle.as_secs_f64();
            format!("{what} {ratio:.1} times ({under:.1?} to {idle:.1?})")
        };
        let (p50, p99) = (show("p50", |s| s.middle), show("p99", |s| s.worst));
        println!("  {name}:\n    {p50}, {p99}");
    }
    ours.end();
}

fn main() {
    let number = std::env::var(LOAD).ok();
    if let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) {
        let (_, load) = LOADS[number];
        load(Path::new(&std::env::var_os(SOCKET).unwrap()));
    } else if std::env::var_os(MEASURES).is_some() {
        measure();
    } else {
        let measures = Command::new("chrt")
            .args(["--fifo", "1"])
            .arg(std::env::current_exe().unwrap())
            .env(MEASURES, "1")
            .status();
        if !measures.is_ok_and(|status| status.success()) {
            println!("skipped: it needs chrt, and the right to run real-time threads");
        }
    }
}
