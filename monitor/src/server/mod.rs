//! The server: sockets on the VMM's own event loop, commands in the VMM's own turn.
//!
//! ```text
//!   one turn of the main loop
//!   ┌──────────────────────┬────────────────────────┬──────────────────┬───────────────────────┐
//!   │ event_manager.run()  │ server.dispatch(&mut c)│ the VMM's turn:  │ server.finish_turn()  │
//!   │ accept, read, parse, │ one request of each    │ it serves what   │ events, then replies; │
//!   │ write                │ client, round robin    │ commands latched │ next requests         │
//!   └──────────────────────┴────────────────────────┴──────────────────┴───────────────────────┘
//! ```
//!
//! The rule that must never be broken: **nothing here blocks** but [`Server::close`], and that has
//! a bound. A reply is sent in `finish_turn`, so it follows the events of what its command set off,
//! as with QEMU: `SHUTDOWN` comes before `quit`'s reply.

mod client;
mod limits;
mod socket;

pub use limits::{ClientStats, ServerLimits};
pub use socket::MonitorSocket;

use crate::Error;
use crate::events::{ClientId, EventSender, Hub};
use crate::registry::Registry;
use crate::session::Session;
use client::Client;
use event_manager::{EventOps, Events, MutEventSubscriber};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

/// What the event loop reports back with an event, so that a descriptor's owner is known.
const WAKE: u32 = 0;
const TIMER: u32 = 1;
const FIRST_LISTENER: u32 = 2;
const FIRST_CLIENT: ClientId = 1 << 16;

#[derive(Debug)]
struct Listener {
    socket: MonitorSocket,
    token: u32,
    /// Somebody may be waiting to be accepted.
    knocked: bool,
    registered: bool,
}

/// A QMP server over a VMM's context `C`.
///
/// It is a subscriber of an `event_manager::EventManager`: put it there in a shared cell
/// (`Rc<RefCell<_>>` or `Arc<Mutex<_>>`) and call the other two steps of the turn from the main
/// loop. Remove it from the event manager before dropping it, as with every subscriber.
pub struct Server<C> {
    registry: Registry<C>,
    limits: ServerLimits,
    hub: Arc<Hub>,
    sender: EventSender,
    timer: TimerFd,
    timer_set_for: Option<Instant>,
    listeners: Vec<Listener>,
    clients: BTreeMap<ClientId, Client>,
    /// Connected, not yet known to the event loop.
    arrived: Vec<ClientId>,
    next_id: ClientId,
    /// The client that has the first turn.
    first: ClientId,
    closed: bool,
    error: Option<Error>,
}

impl<C> Server<C> {
    /// A server for the registry's commands and events, with default limits.
    ///
    /// # Errors
    ///
    /// The kernel refuses an eventfd or a timerfd.
    pub fn new(registry: Registry<C>) -> Result<Self, Error> {
        Server::with_limits(registry, ServerLimits::default())
    }

    /// A server with limits of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Server::new`].
    pub fn with_limits(registry: Registry<C>, limits: ServerLimits) -> Result<Self, Error> {
        let set_up = |what| move |source| Error::SetUp { what, source };
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(set_up("an eventfd"))?;
        let timer = TimerFd::new().map_err(|e| set_up("a timerfd")(e.into()))?;
        let hub = Arc::new(Hub::new(wake));
        let sender = EventSender::new(Arc::clone(&hub), registry.share_events());
        Ok(Server {
            registry,
            limits,
            hub,
            sender,
            timer,
            timer_set_for: None,
            listeners: Vec::new(),
            clients: BTreeMap::new(),
            arrived: Vec::new(),
            next_id: FIRST_CLIENT,
            first: FIRST_CLIENT,
            closed: false,
            error: None,
        })
    }

    /// Accepts clients on `socket` too.
    pub fn listen(&mut self, socket: MonitorSocket) {
        let token = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        let token = token.saturating_add(FIRST_LISTENER).min(FIRST_CLIENT - 1);
        self.listeners.push(Listener {
            socket,
            token,
            knocked: true,
            registered: false,
        });
        self.hub.wake();
    }

    /// Serves a client that is connected already: one end of a socket pair, or a stream that
    /// another process has passed on. It counts towards the limit but is never refused.
    ///
    /// # Errors
    ///
    /// The stream cannot be made non-blocking.
    pub fn add_client(&mut self, stream: UnixStream) -> Result<(), Error> {
        let what = "making a client's stream non-blocking";
        stream
            .set_nonblocking(true)
            .map_err(|source| Error::SetUp { what, source })?;
        self.admit(stream);
        self.hub.wake();
        Ok(())
    }

    /// A sender of events.
    #[must_use]
    pub fn emitter(&self) -> EventSender {
        self.sender.clone()
    }

    /// The commands and events.
    #[must_use]
    pub fn registry(&self) -> &Registry<C> {
        &self.registry
    }

    /// What each client has waiting and has lost.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientStats> {
        let stats = |(&id, client): (&ClientId, &Client)| {
            let waiting = self.hub.waiting(id);
            ClientStats {
                negotiated: client.is_negotiated(),
                reply_bytes: waiting.reply_bytes,
                event_bytes: waiting.event_bytes,
                unsent_bytes: client.unsent(),
                lost_events: waiting.lost,
            }
        };
        self.clients
            .iter()
            .filter(|(_, client)| !client.is_over())
            .map(stats)
            .collect()
    }

    /// Takes the error that the event loop could not report: a descriptor that it would not watch.
    pub fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Executes at most one request of each client, and returns how many that were.
    ///
    /// Call it after the event loop has run, then let the VMM act on what the commands have asked
    /// for, then call [`Server::finish_turn`], which sends the replies.
    pub fn dispatch(&mut self, context: &mut C) -> usize {
        self.hub.begin_turn();
        let later = self.clients.range(self.first..).map(|(&id, _)| id);
        let order: Vec<_> = later
            .chain(self.clients.range(..self.first).map(|(&id, _)| id))
            .collect();
        let mut executed: usize = 0;
        for id in order {
            if let Some(client) = self
                .clients
                .get_mut(&id)
                .filter(|client| client.is_pending())
            {
                client.execute(&self.registry, context);
                // Whoever was served first this time is last the next time.
                if executed == 0 {
                    self.first = id.saturating_add(1);
                }
                executed = executed.saturating_add(1);
            }
        }
        executed
    }

    /// Sends the events of this turn and then the replies, and looks for the next requests.
    ///
    /// If there is more to do at once, the event loop's next run returns without waiting.
    pub fn finish_turn(&mut self) {
        for client in self.clients.values_mut() {
            client.finish(&self.hub);
        }
        self.hub.end_turn();
        self.set_timer();
        self.pump_all();
    }

    /// Ends the service: no new clients, requests that wait are dropped, and what is queued (the
    /// last events, `quit`'s reply) is written for at most `patience`. Then every client sees the
    /// end of the stream.
    ///
    /// Returns how many clients did not read all that was meant for them. The sockets' files are
    /// removed; the clients' descriptors are closed when the server is dropped.
    pub fn close(&mut self, patience: Duration) -> usize {
        let deadline = Instant::now().checked_add(patience);
        self.closed = true;
        for client in self.clients.values_mut() {
            client.finish(&self.hub);
            client.drop_requests();
        }
        self.hub.end_turn();
        let mut unread: usize = 0;
        while let Some(left) = deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            self.clients
                .values_mut()
                .for_each(|client| client.flush(&self.hub));
            unread = self
                .clients
                .values()
                .filter(|client| self.owes(client))
                .count();
            if unread == 0 || left.is_zero() {
                break;
            }
            if self.wait_for_writers(left).is_err() {
                break;
            }
        }
        self.clients
            .values_mut()
            .filter(|c| !c.is_over())
            .for_each(Client::give_up);
        self.listeners
            .iter()
            .for_each(|listener| listener.socket.unlink());
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
            epoll.ctl(ControlOperation::Add, client.stream().as_raw_fd(), interest)?;
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

    fn pump_all(&mut self) {
        let mut more = false;
        for client in self.clients.values_mut() {
            more |= client.pump(&self.hub, &self.limits) || client.is_over();
        }
        // `process` lets go of the clients that are over.
        if more {
            self.hub.wake();
        }
    }

    fn set_timer(&mut self) {
        let next = self
            .hub
            .expire()
            .into_iter()
            .chain(self.next_eviction())
            .min();
        if next == self.timer_set_for {
            return;
        }
        self.timer_set_for = next;
        let set = match next {
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                self.timer.reset(left.max(Duration::from_millis(1)), None)
            }
            None => self.timer.clear(),
        };
        if let Err(error) = set {
            self.fail("setting the timer", io::Error::from(error));
        }
    }

    fn fail(&mut self, what: &'static str, source: io::Error) {
        self.error.get_or_insert(Error::SetUp { what, source });
    }

    fn admit(&mut self, stream: UnixStream) {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(FIRST_CLIENT);
        let session = Session::new(self.limits.message);
        let greeting = session.greeting(&self.registry);
        self.hub.add_client(id, self.limits.event_bytes, greeting);
        self.clients.insert(id, Client::new(id, stream, session));
        self.arrived.push(id);
    }

    /// Accepts who knocks, as long as there is room.
    fn accept(&mut self) {
        for index in 0..self.listeners.len() {
            while !self.closed {
                let full = self.clients.len() >= self.limits.clients;
                let Some(listener) = self.listeners.get_mut(index).filter(|l| l.knocked) else {
                    break;
                };
                if full {
                    // Whoever waits stays in the backlog, unless somebody holds a place idly.
                    listener.knocked = listener.socket.has_knock();
                    if listener.knocked {
                        self.evict();
                    }
                    break;
                }
                match listener.socket.listener().accept() {
                    Ok((stream, _)) => {
                        if stream.set_nonblocking(true).is_ok() {
                            self.admit(stream);
                        }
                    }
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
    fn next_eviction(&self) -> Option<Instant> {
        if !self.listeners.iter().any(|listener| listener.knocked) {
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
                // One that never came to be registered cannot be removed: nothing to do then.
                ops.remove(Events::empty(client.stream())).ok();
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
            let socket = listener.socket.listener();
            match ops.add(Events::with_data(socket, listener.token, interest)) {
                Ok(()) => listener.registered = true,
                Err(error) => refused = Some(("watching a listening socket", error)),
            }
        }
        for id in std::mem::take(&mut self.arrived) {
            let Some(client) = self.clients.get_mut(&id) else {
                continue;
            };
            let interest =
                EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
            if let Err(error) = ops.add(Events::with_data(client.stream(), id, interest)) {
                client.give_up();
                refused = Some(("watching a client", error));
            }
        }
        if let Some((what, error)) = refused {
            self.fail(what, io::Error::other(error.to_string()));
        }
    }

    fn serve(&mut self, token: u32, set: EventSet) {
        match token {
            WAKE => self.hub.awake(),
            TIMER => {
                // Readable, so this does not block; how often it has expired does not matter.
                self.timer.wait().ok();
                self.timer_set_for = None;
            }
            _ => {
                if let Some(client) = self.clients.get_mut(&token) {
                    let ended = set.intersects(EventSet::READ_HANG_UP);
                    client.edges(
                        set.intersects(EventSet::IN) || ended,
                        set.intersects(EventSet::OUT),
                        ended,
                        set.intersects(EventSet::HANG_UP | EventSet::ERROR),
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
        self.serve(events.data(), events.event_set());
        self.sweep(ops);
        self.accept();
        self.register(ops);
        self.set_timer();
        self.pump_all();
    }
}

impl<C> fmt::Debug for Server<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("registry", &self.registry)
            .field("limits", &self.limits)
            .field("clients", &self.clients)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
