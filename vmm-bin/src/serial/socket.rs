//! A Unix socket at the other end: one client at a time, the next one waits in the backlog.
//!
//! What the guest says while nobody is connected waits in the ring, as far as it has room, and is
//! what the next client reads first.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
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
use crate::doorbell::Doorbell;

/// How many reads one call of the main loop is worth.
const MOST_READS: usize = 16;

/// Who is connected.
struct Client {
    stream: UnixStream,
    feed: Feed,
    /// What the main loop waits for. `None`: it does not know the client at the moment.
    watched: Option<EventSet>,
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
    listener: UnixListener,
    client: Option<Client>,
    receiver: Rc<dyn Receiver>,
}

impl SocketBackend {
    /// Connects `line` and `receiver` to the clients of `listener`.
    ///
    /// # Errors
    /// When the listener cannot be made non-blocking.
    pub(crate) fn new(
        listener: UnixListener,
        line: &Line,
        receiver: Rc<dyn Receiver>,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
            drain: Drain::default(),
            listener,
            client: None,
            receiver,
        })
    }

    fn listen(&self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.listener, EventSet::IN)) {
            error!("serial: cannot wait for a client: {error}");
        }
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => return warn!("serial: cannot accept a client: {error}"),
        };
        if let Err(error) = stream.set_nonblocking(true) {
            return warn!("serial: a client's socket blocks: {error}");
        }
        // It stays in the backlog until this client has gone.
        drop(ops.remove(Events::new(&self.listener, EventSet::IN)));
        if let Err(error) = ops.add(Events::new(&stream, EventSet::IN)) {
            error!("serial: cannot watch the client: {error}");
            return self.listen(ops);
        }
        self.client = Some(Client {
            stream,
            feed: Feed::default(),
            watched: Some(EventSet::IN),
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
                let gone = hung_up || client.deaf || client.watched.is_none();
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
        let next = self.serve(hung_up);
        let Some(client) = &mut self.client else {
            return;
        };
        let wanted = match next {
            Next::Wait(wanted) => Some(wanted),
            Next::Room | Next::Over => None,
        };
        let changed = match (client.watched, wanted) {
            (None, Some(wanted)) => ops.add(Events::new(&client.stream, wanted)),
            (Some(watched), Some(wanted)) if watched != wanted => {
                ops.modify(Events::new(&client.stream, wanted))
            }
            (Some(_), None) => ops.remove(Events::empty(&client.stream)),
            _ => Ok(()),
        };
        match changed {
            Ok(()) => client.watched = wanted,
            Err(error) => warn!("serial: cannot watch the client: {error}"),
        }
        if let Next::Over = next {
            // What could not be written to it is for the next one.
            self.client = None;
            self.listen(ops);
        }
    }
}

impl MutEventSubscriber for SocketBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
        self.listen(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if events.fd() == self.listener.as_raw_fd() {
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
