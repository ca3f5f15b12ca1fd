//! The connection to gdb: a listening socket and one client at a time; the next one waits in the
//! backlog.
//!
//! ```text
//!   main loop                                  the rest of this folder
//!   socket ---> [ input ] ------------------>  one frame a turn
//!   socket <--- [ output ] <-----------------  answers
//!                   ^--- bell ---------------  something was taken or left: look again
//! ```
//!
//! The rule that must never be broken: nothing here waits, and nothing grows: no input is taken in
//! before the last was used.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, warn};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use vmm_sys_util::epoll::EventSet;

use super::session::Output;
use crate::doorbell::Doorbell;
use crate::endpoint::Endpoint;

/// How many bytes of input are taken in at a time.
const INPUT: usize = 4096;

/// The socket at which clients come, non-blocking.
fn socket(endpoint: &Endpoint) -> io::Result<OwnedFd> {
    match endpoint {
        Endpoint::Unix(socket) => {
            socket.listener().set_nonblocking(true)?;
            socket.listener().try_clone().map(OwnedFd::from)
        }
        Endpoint::Tcp(listener) => {
            listener.set_nonblocking(true)?;
            // Its clients inherit that: an answer is one write.
            rustix::net::sockopt::set_tcp_nodelay(listener, true)?;
            listener.try_clone().map(OwnedFd::from)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A client.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    input: VecDeque<u8>,
    output: Output,
    /// What the main loop waits for. `None`: nothing any more.
    watched: Option<EventSet>,
    /// It has gone, or is to go.
    gone: bool,
}

/// The listening socket and its client.
#[derive(Debug)]
pub(super) struct Transport {
    listener: OwnedFd,
    client: Option<Client>,
    bell: Arc<Doorbell>,
}

impl Transport {
    /// Takes the clients of `endpoint`.
    ///
    /// # Errors
    /// When the process has no file descriptor left, and when clients do not come to `endpoint`.
    pub(super) fn new(endpoint: &Endpoint, bell: Arc<Doorbell>) -> io::Result<Rc<RefCell<Self>>> {
        Ok(Rc::new(RefCell::new(Self {
            listener: socket(endpoint)?,
            client: None,
            bell,
        })))
    }

    /// The output of the client that is connected, if one is.
    pub(super) fn output(&self) -> Option<Output> {
        let client = self.client.as_ref().filter(|client| !client.gone)?;
        Some(client.output.clone())
    }

    /// One byte of input, if the client has taken all answers to what it sent before, or takes none
    /// any more.
    pub(super) fn next(&mut self) -> Option<u8> {
        let client = self.client.as_mut()?;
        if client.output.is_empty() || client.gone {
            client.input.pop_front()
        } else {
            None
        }
    }

    /// Whether the client has gone, and all that it sent was used.
    pub(super) fn is_over(&self) -> bool {
        self.client
            .as_ref()
            .is_none_or(|client| client.gone && client.input.is_empty())
    }

    /// Sends what it can, and has the main loop look at the socket again.
    pub(super) fn flush(&mut self) {
        if let Some(client) = &mut self.client {
            client.send();
        }
        self.bell.ring();
    }

    /// Ends the connection.
    pub(super) fn hang_up(&mut self) {
        if let Some(client) = &mut self.client {
            client.send();
            client.input.clear();
            client.gone = true;
        }
        self.bell.ring();
    }

    fn accept(&mut self, ops: &mut EventOps) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(error) => return warn!("gdb: cannot accept a client: {error}"),
        };
        // The next one stays in the backlog until this one has gone.
        drop(ops.remove(Events::empty(&self.listener)));
        let watched = ops
            .add(Events::new(&socket, EventSet::IN))
            .map(|()| EventSet::IN)
            .inspect_err(|error| error!("gdb: cannot watch a client: {error}"))
            .ok();
        self.client = Some(Client {
            socket,
            input: VecDeque::new(),
            output: Output::default(),
            gone: watched.is_none(),
            watched,
        });
    }

    fn listen(&self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.listener, EventSet::IN)) {
            error!("gdb: cannot wait for a client: {error}");
        }
    }

    /// Moves bytes both ways, and waits for what is wanted next.
    fn update(&mut self, ops: &mut EventOps) {
        let Some(client) = &mut self.client else {
            return;
        };
        client.send();
        client.receive();
        client.watch(ops);
        if client.gone && client.input.is_empty() {
            self.client = None;
            self.listen(ops);
        }
    }
}

impl Client {
    fn send(&mut self) {
        while !self.gone && !self.output.is_empty() {
            match rustix::net::send(&self.socket, &self.output.front(), SendFlags::NOSIGNAL) {
                Ok(count) => self.output.sent(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.gone = true,
            }
        }
    }

    fn receive(&mut self) {
        if self.gone || !self.input.is_empty() {
            return;
        }
        let mut bytes = [0; INPUT];
        match rustix::net::recv(&self.socket, &mut bytes, RecvFlags::empty()) {
            Ok((0, _)) => self.gone = true,
            Ok((count, _)) => self.input.extend(bytes.iter().take(count)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.gone = true,
        }
    }

    /// Has the main loop wait for input if there is none yet, and for room if there is output.
    fn watch(&mut self, ops: &mut EventOps) {
        let mut wanted = EventSet::empty();
        if self.input.is_empty() {
            wanted |= EventSet::IN;
        }
        if !self.output.is_empty() {
            wanted |= EventSet::OUT;
        }
        // One that is watched for nothing would still be reported when it hangs up, for ever.
        let wanted = (!self.gone && !wanted.is_empty()).then_some(wanted);
        if wanted == self.watched {
            return;
        }
        let changed = match (self.watched, wanted) {
            (None, Some(wanted)) => ops.add(Events::new(&self.socket, wanted)),
            (Some(_), Some(wanted)) => ops.modify(Events::new(&self.socket, wanted)),
            (_, None) => ops.remove(Events::empty(&self.socket)),
        };
        match changed {
            Ok(()) => self.watched = wanted,
            Err(error) => warn!("gdb: cannot watch the client: {error}"),
        }
    }
}

impl MutEventSubscriber for Transport {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("gdb: cannot watch its bell: {error}");
        }
        self.listen(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if events.fd() == self.listener.as_raw_fd() {
            self.accept(ops);
        }
        self.update(ops);
    }
}
