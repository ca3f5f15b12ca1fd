//! How many commands and events a second go through, beside QEMU if it is installed, and what a long
//! array costs.
//!
//! Both sides of each ratio come from one run. `MONITOR_BENCH=full` measures longer.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a benchmark that fails may panic"
)]

mod common;

use common::{Client, Ours, STATUS, Scratch, scale};
use monitor::protocol::{Limits, Parser};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READERS: [usize; 3] = [1, 8, 64];

/// A QEMU without a machine, with as many sockets as clients: it serves one on each.
struct Qemu(Child, Vec<PathBuf>);

impl Qemu {
    fn start(directory: &Path, clients: usize) -> Option<Self> {
        let paths: Vec<_> = (0..clients)
            .map(|number| directory.join(format!("qemu{number}.sock")))
            .collect();
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-nodefaults", "-display", "none", "-M", "none", "-S"]);
        for path in &paths {
            command.arg("-qmp");
            command.arg(format!("unix:{},server=on,wait=off", path.display()));
        }
        let child = command.stdin(Stdio::null()).spawn().ok()?;
        Some(Qemu(child, paths))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The middle of how long `query-status` takes.
fn latency(path: &Path, calls: usize) -> Duration {
    Client::connect(path).times(calls)[calls / 2]
}

/// Commands a second of one client that does not wait for replies.
fn commands(path: &Path) -> f64 {
    let mut client = Client::connect(path);
    let batch = STATUS.repeat(100);
    let rounds = scale(100, 1_000);
    let start = Instant::now();
    for _ in 0..rounds {
        client.send(&batch);
        client.replies(100);
    }
    (rounds * 100) as f64 / start.elapsed().as_secs_f64()
}

/// Events a second that arrive, over all readers, while one of them stops and continues the VM.
fn events(paths: &[PathBuf]) -> f64 {
    let pairs = scale(1_000, 10_000);
    let mut clients: Vec<_> = paths.iter().map(|path| Client::connect(path)).collect();
    let start = Instant::now();
    let mut first = clients.remove(0);
    let others: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                for _ in 0..pairs * 2 {
                    assert!(client.read().contains("\"event\""));
                }
            })
        })
        .collect();
    let pair = "{\"execute\": \"cont\"}{\"execute\": \"stop\"}".repeat(10);
    let mut seen = 0;
    for _ in 0..pairs / 10 {
        first.send(&pair);
        seen += first.replies(20);
    }
    assert_eq!(seen, pairs * 2);
    others.into_iter().for_each(|thread| thread.join().unwrap());
    (pairs * 2 * paths.len()) as f64 / start.elapsed().as_secs_f64()
}

fn throughput(directory: &Path, ours: &Path) {
    let most = READERS[READERS.len() - 1];
    let qemu = Qemu::start(directory, most);
    if qemu.is_none() {
        println!("skipped: qemu-system-x86_64 is not installed");
    }
    let against = |what: &str, ours: f64, theirs: Option<f64>| match theirs {
        Some(theirs) => println!(
            "{what}: {ours:.0} a second, QEMU {theirs:.0}: {:.1} times",
            ours / theirs
        ),
        None => println!("{what}: {ours:.0} a second"),
    };
    let calls = scale(2_000, 20_000);
    if let Some(Qemu(_, paths)) = &qemu {
        let (our, their) = (latency(ours, calls), latency(&paths[0], calls));
        let ratio = their.as_secs_f64() / our.as_secs_f64();
        println!("query-status: p50 {our:?}, QEMU {their:?}: {ratio:.1} times faster; goal 4.0");
    }
    let theirs = qemu.as_ref().map(|qemu| commands(&qemu.1[0]));
    against("pipelined commands", commands(ours), theirs);
    for readers in READERS {
        let theirs = qemu.as_ref().map(|qemu| events(&qemu.1[..readers]));
        let what = format!("events to {readers} readers");
        against(&what, events(&vec![ours.to_owned(); readers]), theirs);
    }
}

/// A figure of this process, in KiB.
fn figure(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// An array as a message, which no request is, and as an argument, which must be kept.
fn array() {
    let ones = format!("[{}1]", "1,".repeat(950_000));
    let argument = format!("{{\"arguments\": {{\"x\": {ones}}}}}");
    for (name, limits, input) in [
        ("refused", Limits::default(), &ones),
        ("swallowed", Limits::QEMU, &ones),
        ("kept as an argument", Limits::QEMU, &argument),
    ] {
        // From here on the peak is a new one.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = figure("VmRSS:");
        let start = Instant::now();
        let mut parser = Parser::for_requests(limits);
        let mut rest = input.as_bytes();
        while !rest.is_empty() {
            rest = &rest[parser.feed(rest).0..];
        }
        let time = start.elapsed();
        let grown = figure("VmHWM:").saturating_sub(before);
        println!("1.9 MB array {name}: {time:.1?}, {grown} KiB at its peak; goal 200ms, 2048 KiB");
    }
}

fn main() {
    let scratch = Scratch::new("throughput");
    array();
    let ours = Ours::start(scratch.path(), None);
    throughput(scratch.path(), &ours.path);
    ours.end();
}
