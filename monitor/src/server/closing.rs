//! The end of the service: the one place that waits, and for how long.

use super::{Client, Server};
use crate::events::ClientId;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

impl<C> Server<C> {
    /// Ends the service: no new clients, requests that wait are dropped, and what is queued (the
    /// last events, `quit`'s reply) is written for at most `patience`. Then every client sees the
    /// end of the stream. Jobs are cancelled.
    ///
    /// Returns how many clients did not read all that was meant for them. The sockets' files are
    /// removed; the clients' descriptors are closed when the server is dropped.
    pub fn close(&mut self, patience: Duration) -> usize {
        let start = Instant::now();
        self.closed = true;
        if let Some(jobs) = self.registry.known_jobs() {
            jobs.cancel_all();
        }
        for client in self.clients.values_mut() {
            client.finish(&self.hub);
            client.drop_requests();
        }
        self.hub.end_turn();
        let unread = loop {
            let left = patience.saturating_sub(start.elapsed());
            for client in self.clients.values_mut() {
                // Whoever has not got all of it is asked again.
                client.flush(&self.hub);
            }
            let unread = self
                .clients
                .values()
                .filter(|client| self.owes(client))
                .count();
            let done = unread == 0 || left.is_zero();
            if done || self.wait_for_writers(left).is_err() {
                break unread;
            }
        };
        self.clients
            .values_mut()
            .filter(|c| !c.is_over())
            .for_each(Client::give_up);
        self.listeners
            .iter()
            .for_each(|listener| listener.door.unlink());
        unread
    }

    fn owes(&self, client: &Client) -> bool {
        !client.is_over() && !client.is_flushed(&self.hub)
    }

    /// Waits until a client that is owed something can take it.
    fn wait_for_writers(&mut self, left: Duration) -> io::Result<()> {
        let epoll = Epoll::new()?;
        for (id, client) in self.clients.iter().filter(|(_, client)| self.owes(client)) {
            let interest = EpollEvent::new(EventSet::OUT, u64::from(*id));
            let output = client.link().output().as_raw_fd();
            epoll.ctl(ControlOperation::Add, output, interest)?;
        }
        let millis = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
        let mut ready = [EpollEvent::default(); 16];
        let count = match epoll.wait(millis, &mut ready) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other?,
        };
        for event in ready.iter().take(count) {
            let id = ClientId::try_from(event.data()).unwrap_or_default();
            if let Some(client) = self.clients.get_mut(&id) {
                let gone = event
                    .event_set()
                    .intersects(EventSet::HANG_UP | EventSet::ERROR);
                client.edges(false, true, false, gone);
            }
        }
        Ok(())
    }
}
