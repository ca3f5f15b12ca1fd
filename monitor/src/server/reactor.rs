//! The event loop's side of the server: whom it watches, and what it does when they stir.
//!
//! The rule that must never be broken: **the event loop lets go of a descriptor before it is
//! closed**. A client that is over is only shut down; `sweep` removes it, and then drops it.

use super::client::Client;
use super::link::Link;
use super::{FIRST_CLIENT, Server};
use crate::Error;
use event_manager::{EventOps, Events, MutEventSubscriber};
use std::io;
use std::os::fd::RawFd;
use std::time::Instant;
use vmm_sys_util::epoll::EventSet;

/// What the event loop reports back with an event, so that a descriptor's owner is known.
const WAKE: u32 = 0;
const TIMER: u32 = 1;
const FIRST_LISTENER: u32 = 2;

/// Connections that are closed unserved before the others have their turn.
const TURNED_AWAY: usize = 4;

/// What the event loop reports for the listener that was added after `earlier` others.
pub(super) fn listener_token(earlier: usize) -> u32 {
    let number = u32::try_from(earlier).unwrap_or(u32::MAX);
    number.saturating_add(FIRST_LISTENER).min(FIRST_CLIENT - 1)
}

impl<C> Server<C> {
    /// Accepts one of those who knock at each listener, if there is room. The others have their turn
    /// before the next one: whoever connects without a pause holds nobody up.
    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            let mut turned_away: usize = 0;
            while !self.closed {
                let full = self.clients.len() >= self.limits.clients;
                let Some(listener) = self.listeners.get_mut(index).filter(|l| l.knocked) else {
                    break;
                };
                if full {
                    // Whoever waits stays in the backlog, unless somebody holds a place idly.
                    listener.knocked = listener.door.has_knock();
                    if listener.knocked {
                        self.evict();
                    }
                    break;
                }
                match listener.door.accept() {
                    Ok(Some(stream)) => {
                        if let Ok(link) = Link::socket(stream) {
                            self.admit(link);
                        }
                        self.hub.wake();
                        break;
                    }
                    Ok(None) if turned_away >= TURNED_AWAY => {
                        self.hub.wake();
                        break;
                    }
                    Ok(None) => turned_away = turned_away.saturating_add(1),
                    Err(error) => match error.kind() {
                        io::ErrorKind::WouldBlock => listener.knocked = false,
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                        // Out of descriptors, most likely: tried again when a client has left.
                        _ => break,
                    },
                }
            }
        }
    }

    /// When the client that has gone without negotiation for longest has had its time, if another
    /// one waits for its place.
    pub(super) fn next_eviction(&self) -> Option<Instant> {
        let full = self.clients.len() >= self.limits.clients;
        if !full || !self.listeners.iter().any(|listener| listener.knocked) {
            return None;
        }
        let idle = self
            .clients
            .values()
            .filter(|c| !c.is_negotiated() && !c.is_over());
        idle.map(|c| c.since)
            .min()?
            .checked_add(self.limits.handshake)
    }

    /// Ends that client's connection, if its time is over.
    fn evict(&mut self) {
        let now = Instant::now();
        if self.next_eviction().is_some_and(|end| end <= now) {
            let idle = self
                .clients
                .values_mut()
                .filter(|c| !c.is_negotiated() && !c.is_over());
            if let Some(client) = idle.min_by_key(|c| c.since) {
                client.give_up();
            }
        }
    }

    /// When the first of those clients that stand still has done so for too long.
    pub(super) fn next_stall(&self) -> Option<Instant> {
        let still = self.clients.values().filter_map(Client::stands_still);
        let since = still.map(|(since, _)| since).min()?;
        since.checked_add(self.limits.stall)
    }

    /// Ends the connections of clients that have stood still for too long.
    fn end_stalled(&mut self) {
        let patience = self.limits.stall;
        let now = Instant::now();
        let mut ended = Vec::new();
        for client in self.clients.values_mut() {
            if let Some((since, what)) = client.stands_still()
                && now.saturating_duration_since(since) >= patience
            {
                client.give_up();
                ended.push(Error::ClientStalled { what, patience });
            }
        }
        ended.into_iter().for_each(|error| self.note(error));
    }

    /// Lets go of the clients that are over: first the event loop, then the descriptor.
    fn sweep(&mut self, ops: &mut EventOps) {
        let over: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, c)| c.is_over())
            .map(|(&id, _)| id)
            .collect();
        for id in over {
            if let Some(client) = self.clients.remove(&id) {
                self.hub.remove_client(id);
                client.link().unwatch(ops);
                // Somebody may be waiting for the place.
                self.hub.wake();
            }
        }
    }

    /// Makes the event loop watch new listeners and clients.
    fn register(&mut self, ops: &mut EventOps) {
        let mut refused = None;
        for listener in self
            .listeners
            .iter_mut()
            .filter(|listener| !listener.registered)
        {
            let interest = EventSet::IN | EventSet::EDGE_TRIGGERED;
            match ops.add(Events::with_data(&listener.door, listener.token, interest)) {
                Ok(()) => listener.registered = true,
                Err(error) => refused = Some(("watching a listening socket", error)),
            }
        }
        for id in std::mem::take(&mut self.arrived) {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let interest = client.interest();
            if let Err(error) = client.link().watch(ops, id, interest) {
                client.give_up();
                refused = Some(("watching a client", error));
            }
        }
        if let Some((what, error)) = refused {
            self.fail(what, io::Error::other(error.to_string()));
        }
    }

    /// Watches for room in the sockets that are full, and in no others.
    fn watch_output(&mut self, ops: &mut EventOps) {
        for (&id, client) in &mut self.clients {
            if client.is_watched_wrongly() {
                let interest = client.interest();
                if client.link().rewatch(ops, id, interest).is_err() {
                    client.give_up();
                }
            }
        }
    }

    fn serve(&mut self, token: u32, fd: RawFd, set: EventSet) {
        match token {
            WAKE => self.hub.awake(),
            TIMER => {
                // Readable, so this does not block; how often it has expired does not matter.
                self.timer.wait().ok();
                self.timer_set_for = None;
            }
            _ => {
                if let Some(client) = self.clients.get_mut(&token) {
                    let hung_up = set.intersects(EventSet::HANG_UP | EventSet::ERROR);
                    let input_only = client.link().is_input_only(fd);
                    let ended = set.intersects(EventSet::READ_HANG_UP) || (hung_up && input_only);
                    client.edges(
                        set.intersects(EventSet::IN) || ended,
                        set.intersects(EventSet::OUT),
                        ended,
                        hung_up && !input_only,
                    );
                } else if let Some(l) = self.listeners.iter_mut().find(|l| l.token == token) {
                    l.knocked = true;
                }
            }
        }
    }
}

impl<C> MutEventSubscriber for Server<C> {
    fn init(&mut self, ops: &mut EventOps) {
        let wake = Events::with_data(self.hub.wake_fd(), WAKE, EventSet::IN);
        let timer = Events::with_data(&self.timer, TIMER, EventSet::IN);
        for (what, events) in [
            ("watching the eventfd", wake),
            ("watching the timerfd", timer),
        ] {
            if let Err(error) = ops.add(events) {
                self.fail(what, io::Error::other(error.to_string()));
            }
        }
        self.register(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        self.serve(events.data(), events.fd(), events.event_set());
        if events.data() == TIMER {
            self.end_stalled();
        }
        self.sweep(ops);
        // A run of the event loop brings something of each client, and one wake-up: what is to be done
        // once in a turn is done there.
        let client = Some(events.data()).filter(|token| *token >= FIRST_CLIENT);
        if client.is_none() {
            self.accept();
        }
        self.register(ops);
        // A request that is complete now is executed in the turn that follows this run.
        let more = self.pump(client);
        self.watch_output(ops);
        if more {
            self.hub.wake();
        }
    }
}
