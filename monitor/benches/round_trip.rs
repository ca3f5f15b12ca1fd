//! What a client waits for: `query-status` over a unix socket against a bare round trip of the same
//! bytes, and the refusal of a 1.9 MB array. Ratios and both sides of each, from one run.
//!
//! The floor is a thread that waits in epoll, reads, and writes a reply of the same length: what any
//! server on an event loop has to do at least. All of it runs on one processor: otherwise the
//! scheduler's choice, a thread woken here or on an idle processor, is most of what is measured.

#![expect(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a benchmark that fails may panic"
)]

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use monitor::protocol::{Limits, Parser};
use monitor::{CommandError, NoArguments, Registry, Server, Version};
use serde_json::json;
use std::cell::RefCell;
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

const REQUEST: &[u8] = b"{\"execute\": \"query-status\", \"id\": \"libvirt-42\"}\r\n";
const REPLY: &[u8] =
    b"{\"return\": {\"status\": \"running\", \"running\": true}, \"id\": \"libvirt-42\"}\r\n";
const ROUNDS: usize = 41;
const PER_ROUND: u32 = 500;

/// A server that reads and writes and does nothing else, as few system calls as epoll allows.
fn floor() -> (UnixStream, JoinHandle<()>) {
    let (client, mut server) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let epoll = Epoll::new().unwrap();
        let interest = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, server.as_raw_fd(), interest)
            .unwrap();
        let mut ready = [EpollEvent::default(); 8];
        let mut buffer = [0; 4096];
        loop {
            epoll.wait(-1, &mut ready).unwrap();
            if server.read(&mut buffer).unwrap() == 0 {
                return;
            }
            server.write_all(REPLY).unwrap();
        }
    });
    (client, thread)
}

/// The monitor, in a main loop that does nothing else.
fn monitor() -> (UnixStream, JoinHandle<()>) {
    let (client, stream) = UnixStream::pair().unwrap();
    let thread = std::thread::spawn(move || {
        let mut registry: Registry<bool> = Registry::new(Version::new(1, 0, 0, ""));
        registry
            .command("query-status", |_: &mut bool, _: NoArguments| {
                Ok::<_, CommandError>(json!({"running": true, "status": "running"}))
            })
            .command("quit", |quit: &mut bool, _: NoArguments| {
                *quit = true;
                Ok::<_, CommandError>(())
            });
        let mut server = Server::new(registry).unwrap();
        server.add_client(stream).unwrap();
        let server = Rc::new(RefCell::new(server));
        let mut events: EventManager<Rc<RefCell<dyn MutEventSubscriber>>> =
            EventManager::new().unwrap();
        events.add_subscriber(server.clone());
        let mut quit = false;
        while !quit {
            events.run().unwrap();
            server.borrow_mut().dispatch(&mut quit);
            server.borrow_mut().finish_turn();
        }
        server.borrow_mut().close(Duration::from_secs(1));
    });
    (client, thread)
}

fn call(stream: &mut UnixStream, request: &[u8], buffer: &mut [u8]) -> usize {
    stream.write_all(request).unwrap();
    let mut got = 0;
    while got < 2 || buffer[..got][got - 2..] != *b"\r\n" {
        got += stream.read(&mut buffer[got..]).unwrap();
    }
    got
}

fn round(stream: &mut UnixStream, buffer: &mut [u8]) -> Duration {
    let start = Instant::now();
    for _ in 0..PER_ROUND {
        let got = call(stream, REQUEST, buffer);
        assert_eq!(&buffer[..got], REPLY);
    }
    start.elapsed() / PER_ROUND
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn main() {
    let mut processor = rustix::thread::CpuSet::new();
    processor.set(0);
    rustix::thread::sched_setaffinity(None, &processor).unwrap();
    let mut buffer = [0; 4096];
    let (mut floor, floor_thread) = floor();
    let (mut client, monitor_thread) = monitor();
    let greeting = client.read(&mut buffer).unwrap();
    assert!(buffer[..greeting].starts_with(b"{\"QMP\""));
    call(
        &mut client,
        b"{\"execute\": \"qmp_capabilities\"}",
        &mut buffer,
    );
    let (mut floors, mut queries) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floors.push(round(&mut floor, &mut buffer));
        queries.push(round(&mut client, &mut buffer));
    }
    let (base, query) = (median(floors), median(queries));
    let ratio = query.as_secs_f64() / base.as_secs_f64();
    println!("query-status over a round trip: {ratio:.2} ({query:?} to {base:?}); goal 1.50");
    call(&mut client, b"{\"execute\": \"quit\"}", &mut buffer);
    drop(floor);
    floor_thread.join().unwrap();
    monitor_thread.join().unwrap();

    let mut array = b"[".to_vec();
    array.extend(b"1,".repeat(950_000));
    array.extend(b"1]");
    let copy = median(
        (0..11)
            .map(|_| {
                let start = Instant::now();
                black_box(array.iter().filter(|b| **b == b',').count());
                start.elapsed()
            })
            .collect(),
    );
    for (name, limits) in [("refused", Limits::default()), ("swallowed", Limits::QEMU)] {
        let time = median(
            (0..11)
                .map(|_| {
                    let mut parser = Parser::for_requests(limits);
                    let start = Instant::now();
                    let mut rest = &array[..];
                    while !rest.is_empty() {
                        let (used, message) = parser.feed(black_box(rest));
                        drop(black_box(message));
                        rest = &rest[used..];
                    }
                    start.elapsed()
                })
                .collect(),
        );
        let ratio = time.as_secs_f64() / copy.as_secs_f64();
        println!("1.9 MB array {name}: {time:?}, {ratio:.0} times a look at each byte; goal 200ms");
    }
}
