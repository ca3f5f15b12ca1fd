//! A socket at the other end: one client at a time, the next one waits in the backlog.
//!
//! What the guest says while nobody is connected waits in the ring, as far as it has room, and is
//! what the next client reads first.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use devices::OutputRing;
use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, warn};
use vmm_sys_util::epoll::EventSet;

use super::feed::{Feed, Receiver};
use super::flow::{Drain, Flow};
use super::{Backend, Line};
use crate::door::Door;
use crate::doorbell::Doorbell;
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

/// A listening socket and its client.
pub(crate) struct SocketBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
    drain: Drain,
    door: Door,
    client: Option<Client>,
    receiver: Rc<dyn Receiver>,
}

impl SocketBackend {
    /// Connects `line` and `receiver` to the clients who come through `door`.
    pub(crate) fn new(door: Door, line: &Line, receiver: Rc<dyn Receiver>) -> Self {
        Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
            drain: Drain::default(),
            door,
            client: None,
            receiver,
        }
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let Some(socket) = self.door.admit(ops) else {
            return;
        };
        let mut watch = Watch::default();
        if let Err(error) = watch.set(&socket, Some(EventSet::IN), ops) {
            error!("serial: cannot watch the client: {error}");
            return self.door.open(ops);
        }
        self.client = Some(Client {
            stream: socket.into(),
            feed: Feed::default(),
            watch,
            deaf: false,
        });
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
            self.door.open(ops);
        }
    }
}

impl MutEventSubscriber for SocketBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
        self.door.open(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if events.fd() == self.door.as_raw_fd() {
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
