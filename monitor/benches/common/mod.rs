//! What the benchmarks of the server share: the example's VMM on a thread, and a client that waits.

#![allow(dead_code, reason = "each benchmark uses a part of this one")]

#[path = "../../examples/vmm/mod.rs"]
mod vmm;

use monitor::{MonitorSocket, ServerLimits};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const STATUS: &str = "{\"execute\": \"query-status\"}\n";

/// The smaller figure, unless everything is wanted: `MONITOR_BENCH=full`.
pub(crate) fn scale(few: usize, full: usize) -> usize {
    match std::env::var("MONITOR_BENCH") {
        Ok(bench) if bench == "full" => full,
        _ => few,
    }
}

/// Keeps the calling thread on one processor, where there are two to choose from.
pub(crate) fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // With one processor only, everything is on it anyway.
    sched_setaffinity(None, &set).ok();
}

/// A directory that goes with the value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monitor-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The example's VMM on a thread of its own.
pub(crate) struct Ours {
    pub(crate) path: PathBuf,
    thread: JoinHandle<()>,
}

impl Ours {
    /// With `processor`, its thread stays there.
    pub(crate) fn start(directory: &Path, processor: Option<usize>) -> Self {
        let path = directory.join("ours.sock");
        let socket = MonitorSocket::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            processor.into_iter().for_each(stay_on);
            vmm::run(vec![socket], ServerLimits::default().clients(80)).unwrap();
        });
        Ours { path, thread }
    }

    pub(crate) fn end(self) {
        Client::connect(&self.path).call("{\"execute\": \"quit\"}\n");
        self.thread.join().unwrap();
    }
}

/// A client that has negotiated.
pub(crate) struct Client {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
    line: String,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
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

    pub(crate) fn read(&mut self) -> &str {
        self.line.clear();
        assert!(
            self.reader.read_line(&mut self.line).unwrap() > 0,
            "the end"
        );
        &self.line
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads so many replies, and counts the events between them.
    pub(crate) fn replies(&mut self, count: usize) -> usize {
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

    pub(crate) fn call(&mut self, text: &str) {
        self.send(text);
        self.replies(1);
    }

    /// How long each of so many `query-status` takes, in order of time.
    pub(crate) fn times(&mut self, calls: usize) -> Vec<Duration> {
        let mut times: Vec<_> = (0..calls)
            .map(|_| {
                let start = Instant::now();
                self.call(STATUS);
                start.elapsed()
            })
            .collect();
        times.sort();
        times
    }
}
