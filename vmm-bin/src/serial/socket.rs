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
    watched: EventSet,
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
            watched: EventSet::IN,
        });
    }

    /// Moves bytes both ways. Returns what to wait for, `None` when the client has gone.
    fn serve(&mut self, hung_up: bool) -> Option<EventSet> {
        let client = self.client.as_mut()?;
        let mut wanted = EventSet::empty();
        match self.drain.flush(&self.output, &mut client.stream) {
            Flow::Empty => {}
            Flow::Blocked => wanted.insert(EventSet::OUT),
            Flow::Failed(_) => return None,
        }
        for _ in 0..MOST_READS {
            client.feed.retry(&*self.receiver);
            let appetite = client.feed.appetite(&*self.receiver);
            if appetite == 0 {
                // A client that has hung up would be reported for ever.
                return (!hung_up).then_some(wanted);
            }
            let mut buf = vec![0; appetite];
            match client.stream.read(&mut buf) {
                Ok(0) => return None,
                Ok(count) => {
                    client
                        .feed
                        .push(buf.get(..count).unwrap_or_default(), &*self.receiver);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return None,
            }
        }
        Some(wanted.union(EventSet::IN))
    }

    fn update(&mut self, hung_up: bool, ops: &mut EventOps) {
        let wanted = self.serve(hung_up);
        let Some(client) = &mut self.client else {
            return;
        };
        match wanted {
            Some(wanted) if wanted == client.watched => {}
            Some(wanted) => match ops.modify(Events::new(&client.stream, wanted)) {
                Ok(()) => client.watched = wanted,
                Err(error) => warn!("serial: cannot watch the client: {error}"),
            },
            None => {
                // What it was in the middle of reading is gone with it.
                self.drain.forget();
                drop(ops.remove(Events::empty(&client.stream)));
                self.client = None;
                self.listen(ops);
            }
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
    fn finish(&mut self, patience: Duration) {
        if let Some(client) = &mut self.client {
            self.drain
                .finish(&self.output, &mut client.stream, patience);
        }
    }
}
