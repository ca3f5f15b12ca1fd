//! What other clients and a noisy guest cost: how long `query-status` takes while they do their worst,
//! how many commands and events a second go through, and the same of QEMU if it is installed.
//!
//! Both sides of each ratio come from one run. `MONITOR_BENCH=full` measures longer.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a benchmark that fails may panic"
)]

#[path = "../examples/vmm/mod.rs"]
mod vmm;

use monitor::protocol::{Limits, Parser};
use monitor::{MonitorSocket, ServerLimits};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const STATUS: &str = "{\"execute\": \"query-status\"}\n";
const READERS: [usize; 3] = [1, 8, 64];

/// The smaller figure, unless everything is wanted.
fn scale(few: usize, full: usize) -> usize {
    match std::env::var("MONITOR_BENCH") {
        Ok(bench) if bench == "full" => full,
        _ => few,
    }
}

struct Client {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
    line: String,
}

impl Client {
    fn connect(path: &Path) -> Self {
        let until = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let reader = BufReader::with_capacity(64 << 10, stream.try_clone().unwrap());
        let line = String::new();
        let mut client = Client {
            reader,
            stream,
            line,
        };
        client.read();
        client.call("{\"execute\": \"qmp_capabilities\"}\n");
        client
    }

    fn read(&mut self) -> &str {
        self.line.clear();
        assert!(
            self.reader.read_line(&mut self.line).unwrap() > 0,
            "the end"
        );
        &self.line
    }

    fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads so many replies, and counts the events between them.
    fn replies(&mut self, count: usize) -> usize {
        let mut events = 0;
        let mut replies = 0;
        while replies < count {
            if self.read().contains("\"event\"") {
                events += 1;
            } else {
                replies += 1;
            }
        }
        events
    }

    fn call(&mut self, text: &str) {
        self.send(text);
        self.replies(1);
    }
}

/// The example's VMM on a thread of its own.
struct Ours {
    path: PathBuf,
    thread: JoinHandle<()>,
}

impl Ours {
    fn start(directory: &Path) -> Self {
        let path = directory.join("ours.sock");
        let socket = MonitorSocket::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            vmm::run(vec![socket], ServerLimits::default().clients(80)).unwrap();
        });
        Ours { path, thread }
    }

    fn end(self) {
        Client::connect(&self.path).call("{\"execute\": \"quit\"}\n");
        self.thread.join().unwrap();
    }
}

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

/// Middle and worst but one in a hundred of how long `query-status` takes.
fn latency(path: &Path, calls: usize) -> (Duration, Duration) {
    let mut client = Client::connect(path);
    let mut times: Vec<_> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            client.call(STATUS);
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[calls / 2], times[calls * 99 / 100])
}

/// Something that goes on until it is told to stop, over and over.
type Load = fn(&Path, &AtomicBool);

fn deaf(path: &Path, stop: &AtomicBool) {
    let _never_reads = Client::connect(path);
    let mut guest = Client::connect(path);
    while !stop.load(Ordering::Relaxed) {
        guest.call(
            "{\"execute\": \"x-guest\", \"arguments\": {\"deed\": \"reset\", \"times\": 1}}\n",
        );
    }
}

fn coming_and_going(path: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(b"{\"execute\": \"qmp_cap").ok();
    }
}

fn pipelining(path: &Path, stop: &AtomicBool) {
    let mut clients: Vec<_> = (0..64).map(|_| Client::connect(path)).collect();
    let batch = STATUS.repeat(20);
    while !stop.load(Ordering::Relaxed) {
        clients.iter_mut().for_each(|client| client.send(&batch));
        clients.iter_mut().for_each(|client| {
            client.replies(20);
        });
    }
}

fn endless_line(path: &Path, stop: &AtomicBool) {
    let mut client = Client::connect(path);
    client.send("{\"execute\": \"");
    let piece = "x".repeat(64 << 10);
    while !stop.load(Ordering::Relaxed) {
        client.send(&piece);
    }
}

fn latencies(path: &Path) {
    let calls = scale(4_000, 40_000);
    let floor = latency(path, calls);
    println!("query-status, idle: p50 {:?}, p99 {:?}", floor.0, floor.1);
    let loads: [(&str, Load); 4] = [
        ("a guest resets in a loop, a client never reads", deaf),
        (
            "clients come and go in the middle of a command",
            coming_and_going,
        ),
        ("a line without end", endless_line),
        ("64 clients pipeline", pipelining),
    ];
    for (name, load) in loads {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (path, stop) = (path.to_owned(), Arc::clone(&stop));
            move || load(&path, &stop)
        });
        std::thread::sleep(Duration::from_millis(200));
        let under = latency(path, calls / 4);
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        let idle = latency(path, calls / 4);
        let [middle, worst] = [(under.0, idle.0), (under.1, idle.1)]
            .map(|(under, idle)| under.as_secs_f64() / idle.as_secs_f64());
        println!("  {name}:");
        println!(
            "    p50 {middle:.1} times idle ({:?} to {:?}), p99 {worst:.1} times ({:?} to {:?}); goal 2.0",
            under.0, idle.0, under.1, idle.1
        );
    }
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
        let ratio = their.0.as_secs_f64() / our.0.as_secs_f64();
        let (our, their) = (our.0, their.0);
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

fn array() {
    let mut array = b"[".to_vec();
    array.extend(b"1,".repeat(950_000));
    array.extend(b"1]");
    for (name, limits) in [("refused", Limits::default()), ("swallowed", Limits::QEMU)] {
        // From here on the peak is a new one.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = figure("VmRSS:");
        let start = Instant::now();
        let mut parser = Parser::new(limits);
        let mut rest = &array[..];
        while !rest.is_empty() {
            rest = &rest[parser.feed(rest).0..];
        }
        let time = start.elapsed();
        let grown = figure("VmHWM:").saturating_sub(before);
        println!("1.9 MB array {name}: {time:?}, {grown} KiB at its peak; goal 200ms, 2048 KiB");
    }
}

fn main() {
    let directory = std::env::temp_dir().join(format!("monitor-load-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    array();
    let ours = Ours::start(&directory);
    latencies(&ours.path);
    throughput(&directory, &ours.path);
    ours.end();
    std::fs::remove_dir_all(&directory).ok();
}
