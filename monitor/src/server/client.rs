//! One connection: its socket, what has been read and not yet understood, what is being written.
//!
//! The socket is watched edge-triggered. `readable` and `writable` remember what the last edges
//! said until the kernel says otherwise, so that reading can wait for as long as the client owes us
//! the reading of its replies.

use super::ServerLimits;
use super::link::Link;
use crate::events::{Caller, ClientId, Hub};
use crate::registry::Registry;
use crate::session::{Reply, Session};
use rustix::io::Errno;
use std::time::Instant;
use vmm_sys_util::epoll::EventSet;

/// Bytes read at a time, and the most that is held of input not yet parsed.
const READ_SIZE: usize = 4096;

/// Bytes of one client that are parsed before the others have their turn: more than most requests
/// have, and no more than takes about as long as a request.
const INPUT_BUDGET: usize = 1024;

/// What it costs of that to execute a request out of band: nobody holds the loop up with these either.
const OUT_OF_BAND: usize = INPUT_BUDGET / 2;

/// Bytes gathered for one write.
const WRITE_SIZE: usize = 16 * 1024;

/// Bytes written to one client before the others have their turn. Whoever reads as fast as events
/// come would keep the loop to itself otherwise.
const WRITE_BUDGET: usize = 2 * WRITE_SIZE;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client sends no more. What it sent is still answered.
    InputEnded,
    /// Nothing more can be done for it.
    Over,
}

/// What a client shares with the others.
pub(super) struct Shared<'a, C> {
    pub(super) hub: &'a Hub,
    pub(super) limits: &'a ServerLimits,
    pub(super) registry: &'a Registry<C>,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    id: ClientId,
    link: Link,
    session: Session,
    phase: Phase,
    readable: bool,
    writable: bool,
    /// The event loop has been asked to say when the socket can be written to.
    watches_output: bool,
    /// The kernel has reported the end of input; it is behind the bytes that can still be read.
    end_seen: bool,
    input: Vec<u8>,
    parsed: usize,
    output: Vec<u8>,
    written: usize,
    reply: Option<Reply>,
    /// There may be something to read, to parse or to write, other than events.
    stirred: bool,
    /// The turn of its last request.
    served: u64,
    /// A request of its was executed since it was last pumped.
    answered: bool,
    /// The next request was there already when the last one was answered.
    pipelines: bool,
    pub(super) since: Instant,
    /// When bytes were last read or written.
    moved: Instant,
}

impl Client {
    pub(super) fn new(id: ClientId, link: Link, session: Session) -> Self {
        let now = Instant::now();
        Client {
            id,
            link,
            session,
            phase: Phase::Open,
            readable: true,
            writable: true,
            watches_output: false,
            end_seen: false,
            input: Vec::new(),
            parsed: 0,
            output: Vec::new(),
            written: 0,
            reply: None,
            stirred: true,
            served: 0,
            answered: false,
            pipelines: false,
            since: now,
            moved: now,
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub(super) fn is_negotiated(&self) -> bool {
        self.session.is_negotiated()
    }

    /// Whether a request waits for [`Client::execute`].
    pub(super) fn is_pending(&self) -> bool {
        self.session.is_pending() && !self.is_over()
    }

    /// Whether [`Client::pump`] has something to do, other than to write new events.
    pub(super) fn is_stirred(&self) -> bool {
        self.stirred
    }

    /// The turn in which a request of its was last executed.
    pub(super) fn served(&self) -> u64 {
        self.served
    }

    /// Whether the request that waits was there already when the last one was answered.
    pub(super) fn pipelines(&self) -> bool {
        self.pipelines
    }

    /// Bytes that are on their way out of the outbox but not yet with the kernel.
    pub(super) fn unsent(&self) -> usize {
        self.output.len().saturating_sub(self.written)
    }

    /// Notes what the kernel reports about the socket.
    pub(super) fn edges(&mut self, readable: bool, writable: bool, ended: bool, gone: bool) {
        self.stirred = true;
        self.readable |= readable;
        self.writable |= writable;
        self.end_seen |= ended;
        if gone {
            self.give_up();
        }
    }

    /// Whether the event loop watches for the wrong things.
    pub(super) fn is_watched_wrongly(&self) -> bool {
        !self.link.always_watches_output()
            && self.watches_output == self.writable
            && !self.is_over()
    }

    /// What the event loop is to watch from now on.
    pub(super) fn interest(&mut self) -> EventSet {
        self.watches_output = !self.writable && !self.link.always_watches_output();
        let input = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        if self.watches_output {
            input | EventSet::OUT
        } else {
            input
        }
    }

    /// Since when it has not done what it should, and what that is.
    pub(super) fn stands_still(&self) -> Option<(Instant, &'static str)> {
        if self.is_over() || self.link.always_watches_output() {
            return None;
        }
        if !self.writable {
            return Some((self.moved, "did not read"));
        }
        let waits = self.session.takes_input() && self.reply.is_none() && !self.readable;
        (waits && self.session.is_mid_message()).then_some((self.moved, "did not finish a request"))
    }

    /// Executes the request that waits. The reply is kept until [`Client::finish`].
    pub(super) fn execute<C>(
        &mut self,
        turn: u64,
        hub: &Hub,
        registry: &Registry<C>,
        context: &mut C,
    ) {
        let caller = Caller { hub, id: self.id };
        self.stirred = true;
        self.answered = true;
        self.served = turn;
        self.reply = self.session.execute_for(Some(&caller), registry, context);
    }

    /// Queues the reply behind the events that the request has caused.
    pub(super) fn finish(&mut self, hub: &Hub) {
        if let Some(Reply { line, negotiated }) = self.reply.take() {
            hub.reply(self.id, line, negotiated);
        }
    }

    /// Drops what the client has asked for and is not yet being done.
    pub(super) fn drop_requests(&mut self) {
        self.session.drop_pending();
        self.input.clear();
        self.parsed = 0;
        self.phase = match self.phase {
            Phase::Over => Phase::Over,
            _ => Phase::InputEnded,
        };
    }

    /// Writes what it can, reads what it may. Returns whether the event loop is to run again at
    /// once: to go on reading, or to let go of a client that is over.
    pub(super) fn pump<C>(&mut self, server: &Shared<'_, C>) -> bool {
        let hub = server.hub;
        let unwritten = self.flush(hub);
        let unread = self.take_input(server);
        self.stirred = unwritten || unread;
        if std::mem::take(&mut self.answered) {
            self.pipelines = self.is_pending();
        }
        if self.phase == Phase::InputEnded && self.is_done(hub) {
            self.give_up();
        }
        self.stirred || self.is_over()
    }

    fn is_done(&self, hub: &Hub) -> bool {
        let idle = !self.session.is_pending() && self.reply.is_none() && self.input.is_empty();
        idle && self.is_flushed(hub)
    }

    /// Whether nothing waits to be written.
    pub(super) fn is_flushed(&self, hub: &Hub) -> bool {
        let waiting = hub.waiting(self.id);
        self.unsent() == 0 && waiting.reply_bytes == 0 && waiting.event_bytes == 0
    }

    /// Writes until nothing is left or the socket is full. Returns whether it stopped only for the
    /// others' sake.
    pub(super) fn flush(&mut self, hub: &Hub) -> bool {
        let mut budget = WRITE_BUDGET;
        while self.writable && !self.is_over() {
            if self.unsent() == 0 {
                self.output.clear();
                self.written = 0;
                hub.take(self.id, &mut self.output, WRITE_SIZE);
                if self.output.is_empty() {
                    return false;
                }
                if budget == 0 {
                    return true;
                }
            }
            let unsent = self.output.get(self.written..).unwrap_or_default();
            match self.link.write(unsent) {
                Ok(count) => {
                    self.written = self.written.saturating_add(count);
                    budget = budget.saturating_sub(count);
                    self.moved = Instant::now();
                }
                Err(Errno::AGAIN) => self.writable = false,
                Err(Errno::INTR) => {}
                Err(_) => self.give_up(),
            }
        }
        false
    }

    /// Reads and parses for as long as the session takes requests. Takes nothing while the client
    /// has not read its replies. What is out of band is executed here. Returns whether it stopped
    /// only for the others' sake.
    fn take_input<C>(&mut self, server: &Shared<'_, C>) -> bool {
        let Shared {
            hub,
            limits,
            registry,
        } = *server;
        let mut budget = INPUT_BUDGET;
        while !self.is_over() && self.session.takes_input() && self.reply.is_none() {
            if hub.waiting(self.id).reply_bytes > limits.reply_bytes {
                return false;
            }
            if self.parsed < self.input.len() {
                if budget == 0 {
                    return true;
                }
                let end = self.input.len().min(self.parsed.saturating_add(budget));
                let piece = self.input.get(self.parsed..end).unwrap_or_default();
                let used = self.session.feed(piece);
                self.parsed = self.parsed.saturating_add(used);
                budget = budget.saturating_sub(used);
                if let Some(reply) = self.session.execute_out_of_band(registry) {
                    hub.reply(self.id, reply.line, false);
                    if self.flush(hub) {
                        return true;
                    }
                    budget = budget.saturating_sub(OUT_OF_BAND);
                }
                continue;
            }
            self.input.clear();
            self.parsed = 0;
            if !self.readable || self.phase != Phase::Open {
                return false;
            }
            if budget == 0 {
                return true;
            }
            self.read();
        }
        false
    }

    /// Reads once.
    fn read(&mut self) {
        let mut buffer = [0; READ_SIZE];
        match self.link.read(&mut buffer) {
            Ok(0) => self.phase = Phase::InputEnded,
            Ok(count) => {
                self.input
                    .extend_from_slice(buffer.get(..count).unwrap_or_default());
                // Less than asked for means there is no more now. The next bytes come with an edge,
                // but the end of input may have been reported already.
                self.readable = count == READ_SIZE || self.end_seen;
                self.moved = Instant::now();
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => {}
            Err(_) => self.give_up(),
        }
    }

    /// Ends the connection. The descriptor stays open until the event loop has let go of it.
    pub(super) fn give_up(&mut self) {
        self.phase = Phase::Over;
        self.stirred = true;
        self.session.drop_pending();
        self.reply = None;
        self.input = Vec::new();
        self.output = Vec::new();
        self.parsed = 0;
        self.written = 0;
        self.link.shutdown();
    }
}
