//! A socket at the other end: one client at a time, the next one waits in the backlog. Or one client that
//! is connected from the start, after which nobody comes.
//!
//! What the guest says while nobody is connected waits in the ring, as far as it has room, and is
//! what the next client reads first. If nobody can come any more, it is discarded.

use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use devices::OutputRing;
use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, info, warn};
use vmm_sys_util::epoll::EventSet;

use super::feed::{Feed, Receiver};
use super::flow::{Drain, Flow, discard};
use super::{Backend, Line};
use crate::door::Door;
use crate::doorbell::Doorbell;
use crate::endpoint::{Arrival, Endpoint};
use crate::watch::Watch;

/// How many reads one call of the main loop is worth.
const MOST_READS: usize = 16;

/// Who is connected.
struct Client {
    /// Any stream socket: reading and writing is the same for all.
    stream: UnixStream,
    feed: Feed,
    watch: Watch,
    /// It takes no more output. It may have sent input before it went.
    deaf: bool,
}

impl Client {
    fn new(stream: OwnedFd) -> Self {
        Self {
            stream: stream.into(),
            feed: Feed::default(),
            watch: Watch::default(),
            deaf: false,
        }
    }
}

/// How it goes on with a client.
enum Next {
    /// Wait for this.
    Wait(EventSet),
    /// Wait for the UART only: the client has gone, what it sent has not been taken yet. (Watched
    /// further, it would be reported for ever.)
    Room,
    /// It has gone, and all that it sent was taken.
    Over,
}

/// The client, and where the next one comes from.
pub(crate) struct SocketBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
    drain: Drain,
    /// Where the next client comes from, if one can.
    door: Option<Door>,
    client: Option<Client>,
    receiver: Rc<dyn Receiver>,
}

impl SocketBackend {
    /// Connects `line` and `receiver` to those who come to `endpoint`.
    ///
    /// # Errors
    /// When a socket cannot be made non-blocking, and when `endpoint` is none.
    pub(crate) fn new(
        endpoint: Endpoint,
        line: &Line,
        receiver: Rc<dyn Receiver>,
    ) -> io::Result<Self> {
        let (door, client) = match Arrival::at("serial", endpoint)? {
            Arrival::Door(door) => (Some(door), None),
            Arrival::Client(stream) => (None, Some(Client::new(stream))),
            // It has a back-end of its own.
            Arrival::Stdio { .. } => return Err(ErrorKind::Unsupported.into()),
        };
        Ok(Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
            drain: Drain::default(),
            door,
            client,
            receiver,
        })
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let client = self.door.as_ref().and_then(|door| door.admit(ops));
        if let Some(client) = client {
            self.client = Some(Client::new(client));
            self.watch(EventSet::IN, ops);
        }
    }

    /// Waits for the client; one that cannot be waited for is gone.
    fn watch(&mut self, wanted: EventSet, ops: &mut EventOps) {
        let Some(client) = &mut self.client else {
            return;
        };
        if let Err(error) = client.watch.set(&client.stream, Some(wanted), ops) {
            error!("serial: cannot watch the client: {error}");
            self.client = None;
            self.wait(ops);
        }
    }

    /// Has the main loop wait for the next client.
    fn wait(&self, ops: &mut EventOps) {
        match &self.door {
            Some(door) => door.open(ops),
            None => info!("serial: the other end has gone, and output is discarded"),
        }
    }

    /// Moves bytes both ways.
    fn serve(&mut self, hung_up: bool) -> Next {
        let Some(client) = &mut self.client else {
            return Next::Over;
        };
        let mut wanted = EventSet::empty();
        if !client.deaf {
            match self.drain.flush(&self.output, &mut client.stream) {
                Flow::Empty => {}
                Flow::Blocked => wanted.insert(EventSet::OUT),
                Flow::Failed(_) => client.deaf = true,
            }
        }
        for _ in 0..MOST_READS {
            client.feed.retry(&*self.receiver);
            let appetite = client.feed.appetite(&*self.receiver);
            if appetite == 0 {
                let gone = hung_up || client.deaf || client.watch.is_none();
                return if gone { Next::Room } else { Next::Wait(wanted) };
            }
            let mut buf = vec![0; appetite];
            match client.stream.read(&mut buf) {
                Ok(0) => return Next::Over,
                Ok(count) => {
                    let bytes = buf.get(..count).unwrap_or_default();
                    client.feed.push(bytes, &*self.receiver);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Next::Over,
            }
        }
        Next::Wait(wanted.union(EventSet::IN))
    }

    fn update(&mut self, hung_up: bool, ops: &mut EventOps) {
        let mut next = self.serve(hung_up);
        let Some(client) = &mut self.client else {
            if self.door.is_none() {
                discard(&self.output);
            }
            return;
        };
        let wanted = match next {
            Next::Wait(wanted) => Some(wanted),
            Next::Room | Next::Over => None,
        };
        if let Err(error) = client.watch.set(&client.stream, wanted, ops) {
            warn!("serial: cannot watch the client: {error}");
            next = Next::Over;
        }
        if let Next::Over = next {
            // What could not be written to it is for the next one.
            self.client = None;
            self.wait(ops);
        }
    }
}

impl MutEventSubscriber for SocketBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
        if self.client.is_some() {
            self.watch(EventSet::IN, ops);
        } else {
            self.wait(ops);
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if self
            .door
            .as_ref()
            .is_some_and(|door| events.fd() == door.as_raw_fd())
        {
            self.accept(ops);
        }
        let gone = EventSet::ERROR | EventSet::HANG_UP;
        self.update(events.event_set().intersects(gone), ops);
    }
}

impl Backend for SocketBackend {
    fn finish(&mut self, patience: Duration) -> u64 {
        match &mut self.client {
            Some(client) => self
                .drain
                .finish(&self.output, &mut client.stream, patience),
            // What waits for a client that never came is not missed.
            None => self.output.dropped(),
        }
    }
}
