//! A console at a socket, a port, a connected stream or the standard streams: one person at a time, the
//! next one waits in the backlog.
//!
//! ```text
//!   nobody ──accept──▶ connected ──end of input──▶ ending ──all is answered──▶ nobody
//!                          └──────hung up────────▶ gone ───all is executed──▶ nobody
//! ```
//!
//! The rule that must never be broken: nothing here blocks, and what was sent before the end of the
//! stream is executed.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, warn};
use vmm_sys_util::epoll::EventSet;

use super::{Commands, Console, Shared};
use crate::door::Door;
use crate::doorbell::Doorbell;
use crate::endpoint::{Arrival, Endpoint};
use crate::serial::{Backend, Flow, wait_writable};
use crate::stream::Stream;

/// How many reads one call of the main loop is worth.
const MOST_READS: usize = 16;

/// Bytes read at a time.
const READ_SIZE: usize = 4096;

/// The way to a person and back.
enum Link {
    /// Any stream socket: reading and writing is the same for all.
    Socket(UnixStream),
    Pair(Stream, Stream),
}

impl Link {
    fn input(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(stream) => stream.as_fd(),
            Self::Pair(input, _) => input.as_fd(),
        }
    }

    fn output(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(stream) => stream.as_fd(),
            Self::Pair(_, output) => output.as_fd(),
        }
    }
}

impl Read for Link {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.read(buf),
            Self::Pair(input, _) => input.read(buf),
        }
    }
}

impl Write for Link {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(stream) => stream.write(buf),
            Self::Pair(_, output) => output.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the main loop waits for, by descriptor: there are two if input and output are not one socket.
type Watched = Vec<(RawFd, EventSet)>;

/// Who is connected.
struct Client {
    link: Link,
    /// What was read and not taken yet.
    input: Vec<u8>,
    /// No more will come.
    ended: bool,
    /// Nobody reads any more.
    gone: bool,
    watched: Watched,
}

impl Client {
    fn new(link: Link) -> Self {
        Self {
            link,
            input: Vec::new(),
            ended: false,
            gone: false,
            watched: Watched::new(),
        }
    }

    /// Moves bytes both ways; returns what to wait for.
    fn serve(&mut self, console: &mut Console) -> Watched {
        for _ in 0..MOST_READS {
            if self.input.is_empty() && !self.ended && console.takes_input() {
                self.read();
            }
            let used = console.feed(&self.input);
            self.input.drain(..used);
            if used == 0 {
                break;
            }
        }
        let blocked = self.write(console);
        let wants_input = !self.ended && self.input.is_empty() && console.takes_input();
        let input = (self.link.input().as_raw_fd(), EventSet::IN);
        let output = (self.link.output().as_raw_fd(), EventSet::OUT);
        match (wants_input && !self.gone, blocked && !self.gone) {
            (true, true) if input.0 == output.0 => vec![(input.0, EventSet::IN | EventSet::OUT)],
            (true, true) => vec![input, output],
            (true, false) => vec![input],
            (false, true) => vec![output],
            (false, false) => Watched::new(),
        }
    }

    fn read(&mut self) {
        let mut buf = [0; READ_SIZE];
        match self.link.read(&mut buf) {
            Ok(0) => self.ended = true,
            Ok(count) => self.input.extend(buf.iter().take(count)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.ended = self.gone,
            Err(_) => {
                self.ended = true;
                self.gone = true;
            }
        }
    }

    /// Writes; whether the person takes no more at the moment.
    fn write(&mut self, console: &mut Console) -> bool {
        if !self.gone {
            match console.flush(&mut self.link) {
                Flow::Empty => return false,
                Flow::Blocked => return true,
                Flow::Failed(_) => self.gone = true,
            }
        }
        console.discard();
        false
    }

    /// Whether nothing is left to do for it.
    fn is_done(&self, console: &Console) -> bool {
        self.ended && self.input.is_empty() && console.is_idle()
    }

    /// Makes the main loop wait for `wanted`.
    fn watch(&mut self, wanted: Watched, ops: &mut EventOps) -> event_manager::Result<()> {
        if wanted == self.watched {
            return Ok(());
        }
        for (fd, _) in std::mem::take(&mut self.watched) {
            ops.remove(Events::empty_raw(fd))?;
        }
        for &(fd, set) in &wanted {
            ops.add(Events::new_raw(fd, set))?;
        }
        self.watched = wanted;
        Ok(())
    }
}

/// A console and where its people come from.
pub(crate) struct StreamConsole {
    console: Shared,
    bell: Arc<Doorbell>,
    door: Option<Door>,
    client: Option<Client>,
}

impl StreamConsole {
    /// A console for who comes through `endpoint`.
    ///
    /// # Errors
    /// When the stream cannot be made non-blocking, or no descriptor is left.
    pub(crate) fn new(endpoint: Endpoint, commands: &Rc<Commands>) -> io::Result<(Self, Shared)> {
        let bell = Arc::new(Doorbell::new()?);
        let ringer = Arc::clone(&bell);
        let console = Console::new(commands, Arc::new(move || ringer.ring()));
        let (door, link) = match Arrival::at("monitor", endpoint)? {
            Arrival::Door(door) => (Some(door), None),
            Arrival::Client(stream) => (None, Some(Link::Socket(stream.into()))),
            Arrival::Stdio { input, output } => (None, Some(Link::Pair(input, output))),
        };
        let client = link.map(Client::new);
        if client.is_some() {
            console.borrow_mut().begin();
        }
        let this = Self {
            console: Shared::clone(&console),
            bell,
            door,
            client,
        };
        Ok((this, console))
    }

    fn listen(&self, ops: &mut EventOps) {
        if let Some(door) = &self.door {
            door.open(ops);
        }
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let door = self.door.as_ref().filter(|_| self.client.is_none());
        if let Some(stream) = door.and_then(|door| door.admit(ops)) {
            self.client = Some(Client::new(Link::Socket(stream.into())));
            self.console.borrow_mut().begin();
        }
    }

    fn update(&mut self, ops: &mut EventOps) {
        let Some(client) = &mut self.client else {
            return;
        };
        let mut console = self.console.borrow_mut();
        let mut wanted = client.serve(&mut console);
        let done = client.is_done(&console);
        if done {
            wanted.clear();
        }
        if let Err(error) = client.watch(wanted, ops) {
            warn!("monitor: cannot watch a client: {error}");
            client.ended = true;
            client.gone = true;
        }
        // Nobody else brings it back here: a stream that has ended is not watched.
        if client.watched.is_empty() && !done && console.takes_input() {
            self.bell.ring();
        }
        drop(console);
        if done {
            self.client = None;
            self.listen(ops);
        }
    }
}

impl MutEventSubscriber for StreamConsole {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("monitor: cannot watch a console: {error}");
        }
        if self.client.is_none() {
            self.listen(ops);
        }
        self.update(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        let fd = events.fd();
        let hung_up = EventSet::ERROR | EventSet::HANG_UP;
        if fd == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if self
            .door
            .as_ref()
            .is_some_and(|door| door.as_raw_fd() == fd)
        {
            self.accept(ops);
        } else if let Some(client) = &mut self.client
            && events.event_set().intersects(hung_up)
        {
            // Of a pair, the end of the input alone is no end of the output.
            client.gone |= client.link.output().as_raw_fd() == fd;
        }
        self.update(ops);
    }
}

impl Backend for StreamConsole {
    fn finish(&mut self, patience: Duration) -> u64 {
        let Some(client) = &mut self.client else {
            return 0;
        };
        let mut console = self.console.borrow_mut();
        console.end();
        let deadline = Instant::now().checked_add(patience);
        while client.write(&mut console) {
            let left = deadline.and_then(|at| at.checked_duration_since(Instant::now()));
            let Some(left) = left else { break };
            wait_writable(client.link.output(), left);
        }
        // What the guest says goes elsewhere: nothing of it is lost here.
        0
    }
}
