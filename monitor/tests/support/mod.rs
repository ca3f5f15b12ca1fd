//! A server on a thread of its own with a VMM of a few commands, and a client that does nothing
//! but what it is told.

#![allow(dead_code, reason = "each test file uses a part of this one")]

use event_manager::{EventManager, MutEventSubscriber, SubscriberOps};
use monitor::{
    ClientStats, Command, CommandError, EventSender, MonitorSocket, NoArguments, Registry, Server,
    ServerLimits, Version,
};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to find a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own that goes with the value.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("monitor-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The VMM: what its commands have done.
#[derive(Default)]
pub(crate) struct Vmm {
    pub(crate) running: bool,
    pub(crate) executed: u64,
    quit: bool,
    sender: Option<EventSender>,
}

/// The largest figures seen after any turn, and the latest list of clients.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) clients: Vec<ClientStats>,
    pub(crate) most_clients: usize,
    pub(crate) event_bytes: usize,
    pub(crate) reply_bytes: usize,
    pub(crate) unsent_bytes: usize,
    /// Clients that were disconnected for standing still.
    pub(crate) stalled: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Emit {
    event: String,
    count: u64,
}

#[derive(serde::Deserialize)]
struct Large {
    bytes: usize,
}

fn registry() -> Registry<Vmm> {
    let mut registry = Registry::new(Version::new(7, 2, 0, "test"));
    registry
        .event("RESET")
        .event("STOP")
        .event("WATCHDOG")
        .event("SHUTDOWN")
        .command("query-status", |vmm: &mut Vmm, _: NoArguments| {
            vmm.executed += 1;
            let status = if vmm.running { "running" } else { "paused" };
            Ok::<_, CommandError>(json!({"running": vmm.running, "status": status}))
        })
        .command("emit", |vmm: &mut Vmm, emit: Emit| {
            for n in 0..emit.count {
                let sender = vmm.sender.as_ref().expect("a sender");
                sender
                    .emit(&emit.event, &json!({"n": n}))
                    .map_err(|e| CommandError::generic(e.to_string()))?;
            }
            Ok(())
        })
        .command("large", |_: &mut Vmm, large: Large| {
            Ok::<_, CommandError>("x".repeat(large.bytes))
        })
        .add(Command::out_of_band("ping", |_: NoArguments| Ok("pong")))
        .command("quit", |vmm: &mut Vmm, _: NoArguments| {
            vmm.quit = true;
            Ok::<_, CommandError>(())
        });
    registry
}

/// A server that runs until it is dropped or told to quit.
pub(crate) struct Running {
    pub(crate) path: PathBuf,
    pub(crate) sender: EventSender,
    pub(crate) seen: Arc<Mutex<Seen>>,
    thread: Option<JoinHandle<()>>,
    _scratch: Scratch,
}

impl Running {
    pub(crate) fn start(limits: ServerLimits) -> Self {
        Running::start_with(limits, |socket| socket, |_| {})
    }

    /// A server with whatever `add` gives it.
    pub(crate) fn with(add: impl FnOnce(&mut Server<Vmm>) + Send + 'static) -> Self {
        Running::start_with(ServerLimits::default(), |socket| socket, add)
    }

    /// A server that listens on a TCP port, too, and the address of that.
    pub(crate) fn on_tcp() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Running::with(|server| server.listen_tcp(listener).expect("a listener"));
        (server, address)
    }

    /// A server with a socket that `socket` has changed and with whatever `add` gives it.
    pub(crate) fn start_with(
        limits: ServerLimits,
        socket: impl FnOnce(MonitorSocket) -> MonitorSocket,
        add: impl FnOnce(&mut Server<Vmm>) + Send + 'static,
    ) -> Self {
        let scratch = Scratch::new();
        let path = scratch.path("qmp.sock");
        let socket = socket(MonitorSocket::bind(&path).expect("a socket"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (send, receive) = channel();
        let thread = std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                serve(socket, limits, &seen, |server| {
                    add(server);
                    send.send(server.emitter()).expect("a test");
                })
            }
        });
        let sender = receive.recv().expect("the server's sender");
        Running {
            path,
            sender,
            seen,
            thread: Some(thread),
            _scratch: scratch,
        }
    }

    /// Waits until `done` holds for what the server has seen.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(&self.seen.lock().expect("the server lives")) {
            assert!(Instant::now() < until, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(&self.path);
        client.negotiate();
        client
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have quit already, or have no place for one more: then the thread is left alone.
        if let Ok(mut stream) = UnixStream::connect(&self.path) {
            stream
                .write_all(b"{'execute':'qmp_capabilities'}{'execute':'quit'}")
                .ok();
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok();
            let mut sink = Vec::new();
            if stream.read_to_end(&mut sink).is_err() {
                return;
            }
        }
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().expect("the server does not panic");
        }
    }
}

fn serve(
    socket: MonitorSocket,
    limits: ServerLimits,
    seen: &Mutex<Seen>,
    started: impl FnOnce(&mut Server<Vmm>),
) {
    let mut server = Server::with_limits(registry(), limits).expect("a server");
    server.listen(socket);
    let sender = server.emitter();
    let mut vmm = Vmm {
        running: true,
        sender: Some(sender.clone()),
        ..Vmm::default()
    };
    let server = Rc::new(RefCell::new(server));
    let mut events: EventManager<Rc<RefCell<dyn MutEventSubscriber>>> =
        EventManager::new().expect("an event loop");
    let id = events.add_subscriber(server.clone());
    started(&mut server.borrow_mut());
    while !vmm.quit {
        events.run().expect("the event loop");
        let mut server = server.borrow_mut();
        server.dispatch(&mut vmm);
        if vmm.quit {
            let data = json!({"guest": false, "reason": "host-qmp-quit"});
            server
                .emitter()
                .emit("SHUTDOWN", &data)
                .expect("a registered event");
        }
        server.finish_turn();
        let clients = server.clients();
        let mut seen = seen.lock().expect("no test panics with this lock");
        for client in &clients {
            seen.event_bytes = seen.event_bytes.max(client.event_bytes);
            seen.reply_bytes = seen.reply_bytes.max(client.reply_bytes);
            seen.unsent_bytes = seen.unsent_bytes.max(client.unsent_bytes);
        }
        while let Some(error) = server.take_error() {
            assert!(
                matches!(error, monitor::Error::ClientStalled { .. }),
                "{error}"
            );
            seen.stalled.push(error.to_string());
        }
        seen.most_clients = seen.most_clients.max(clients.len());
        seen.clients = clients;
    }
    server.borrow_mut().close(Duration::from_secs(5));
    events
        .remove_subscriber(id)
        .expect("the server is a subscriber");
    assert!(server.borrow_mut().take_error().is_none());
}

/// A client that reads lines and sends bytes.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    buffer: Vec<u8>,
    pub(crate) greeting: Value,
}

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).expect("the server listens"))
    }

    /// The client at this end of a connection.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Client {
            stream,
            buffer: Vec::new(),
            greeting: Value::Null,
        };
        client.greeting = client.message().expect("a greeting");
        client
    }

    pub(crate) fn negotiate(&mut self) {
        assert_eq!(
            self.call("{'execute':'qmp_capabilities'}"),
            json!({"return": {}})
        );
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the server reads");
    }

    /// The next line, or nothing at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let rest = self.buffer.split_off(end + 2);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(line[..end].to_vec()).expect("ASCII"));
            }
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => {
                    assert!(self.buffer.is_empty(), "the stream ended within a line");
                    return None;
                }
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => panic!("no line: {e}"),
            }
        }
    }

    pub(crate) fn message(&mut self) -> Option<Value> {
        self.line()
            .map(|line| serde_json::from_str(&line).expect("output is JSON"))
    }

    /// The next message that is no event.
    pub(crate) fn reply(&mut self) -> Value {
        loop {
            let message = self.message().expect("a reply");
            if message.get("event").is_none() {
                return message;
            }
        }
    }

    pub(crate) fn call(&mut self, command: &str) -> Value {
        self.send(command);
        self.reply()
    }

    /// Calls a command with these arguments.
    pub(crate) fn call_with(&mut self, command: &str, arguments: &Value) -> Value {
        self.call(&json!({"execute": command, "arguments": arguments}).to_string())
    }

    /// The names of the events and the word "reply" for each reply, up to the `replies`th reply or
    /// the end of the stream, which reads "end".
    pub(crate) fn order(&mut self, replies: usize) -> Vec<String> {
        let mut order = Vec::new();
        let mut seen = 0;
        while seen < replies {
            match self.message() {
                None => {
                    order.push("end".to_owned());
                    break;
                }
                Some(message) => match message.get("event").and_then(Value::as_str) {
                    Some(event) => order.push(event.to_owned()),
                    None => {
                        seen += 1;
                        order.push("reply".to_owned());
                    }
                },
            }
        }
        order
    }
}
