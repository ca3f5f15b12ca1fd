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
use rustix::net::{RecvFlags, SendFlags};
use vmm_sys_util::epoll::EventSet;

use super::session::Output;
use crate::door::Door;
use crate::doorbell::Doorbell;
use crate::endpoint::{Arrival, Endpoint};
use crate::watch::Watch;

/// How many bytes of input are taken in at a time.
const INPUT: usize = 4096;

/// A client.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    input: VecDeque<u8>,
    output: Output,
    watch: Watch,
    /// It has gone, or is to go.
    gone: bool,
}

/// The listening socket and its client.
#[derive(Debug)]
pub(super) struct Transport {
    door: Door,
    client: Option<Client>,
    bell: Arc<Doorbell>,
}

impl Transport {
    /// Takes the clients of `endpoint`.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking, and when clients do not come to `endpoint`.
    pub(super) fn new(endpoint: Endpoint, bell: Arc<Doorbell>) -> io::Result<Rc<RefCell<Self>>> {
        Ok(Rc::new(RefCell::new(Self {
            door: match Arrival::at("gdb", endpoint)? {
                Arrival::Door(door) => door,
                // The command line has refused it.
                _ => return Err(io::ErrorKind::Unsupported.into()),
            },
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
        if let Some(socket) = self.door.admit(ops) {
            self.client = Some(Client {
                socket,
                input: VecDeque::new(),
                output: Output::default(),
                watch: Watch::default(),
                gone: false,
            });
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
            self.door.open(ops);
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
        let wanted = (!self.gone && !wanted.is_empty()).then_some(wanted);
        if let Err(error) = self.watch.set(&self.socket, wanted, ops) {
            warn!("gdb: cannot watch the client: {error}");
            self.gone = true;
        }
    }
}

impl MutEventSubscriber for Transport {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("gdb: cannot watch its bell: {error}");
        }
        self.door.open(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        } else if events.fd() == self.door.as_raw_fd() {
            self.accept(ops);
        }
        self.update(ops);
    }
}
