//! The server: sockets on the VMM's own event loop, commands in the VMM's own turn.
//!
//! ```text
//!   one turn of the main loop
//!   ┌──────────────────────┬────────────────────────┬──────────────────┬───────────────────────┐
//!   │ event_manager.run()  │ server.dispatch(&mut c)│ the VMM's turn:  │ server.finish_turn()  │
//!   │ accept, read, parse, │ a few requests, one of │ it serves what   │ events, then replies; │
//!   │ write                │ a client at most       │ commands latched │ next requests         │
//!   └──────────────────────┴────────────────────────┴──────────────────┴───────────────────────┘
//! ```
//!
//! Out-of-band requests are executed in the first step, as they are read.
//!
//! The rule that must never be broken: **nothing here blocks** but [`Server::close`], and that has
//! a bound. A reply is sent in `finish_turn`, so it follows the events of what its command set off,
//! as with QEMU: `SHUTDOWN` comes before `quit`'s reply.

mod client;
mod closing;
mod door;
mod limits;
mod link;
mod order;
mod reactor;
mod socket;

pub use limits::{ClientStats, ServerLimits};
pub use socket::MonitorSocket;

use crate::Error;
use crate::events::{ClientId, EventSender, Hub, register_replay};
use crate::jobs::Jobs;
use crate::registry::Registry;
use crate::session::Session;
use client::{Client, Shared};
use door::Door;
use link::Link;
use order::Waiting;
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::timerfd::TimerFd;

/// Below are the numbers of listeners and of what else the event loop watches.
const FIRST_CLIENT: ClientId = 1 << 16;

/// Errors that are kept for the VMM to take.
const ERRORS: usize = 16;

#[derive(Debug)]
struct Listener {
    door: Door,
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
    /// Turns until now.
    turns: u64,
    closed: bool,
    errors: VecDeque<Error>,
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
    pub fn with_limits(mut registry: Registry<C>, limits: ServerLimits) -> Result<Self, Error> {
        let set_up = |what| move |source| Error::SetUp { what, source };
        let wake = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(set_up("an eventfd"))?;
        let timer = TimerFd::new().map_err(|e| set_up("a timerfd")(e.into()))?;
        let hub = Arc::new(Hub::new(wake, limits.history_bytes));
        register_replay(&mut registry, limits.history_bytes > 0);
        let sender = EventSender::new(Arc::clone(&hub), registry.share_events());
        if let Some(jobs) = registry.known_jobs() {
            jobs.report_to(sender.clone());
        }
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
            turns: 0,
            closed: false,
            errors: VecDeque::new(),
        })
    }

    /// Accepts clients on `socket` too.
    pub fn listen(&mut self, socket: MonitorSocket) {
        self.open(Door::Unix(socket));
    }

    /// Accepts clients on a TCP port too.
    ///
    /// Whoever can reach the port controls the VM: bind it to a loopback address, and remember that
    /// every user of the host can reach that.
    ///
    /// # Errors
    ///
    /// The listener cannot be made non-blocking.
    pub fn listen_tcp(&mut self, listener: TcpListener) -> Result<(), Error> {
        let what = "making a TCP listener non-blocking";
        listener
            .set_nonblocking(true)
            .map_err(|source| Error::SetUp { what, source })?;
        self.open(Door::Tcp(listener));
        Ok(())
    }

    /// Accepts clients on a stream socket of any family that somebody else has made and that listens:
    /// one that a VMM was started with.
    ///
    /// # Errors
    ///
    /// It cannot be made non-blocking.
    pub fn listen_on(&mut self, listener: impl Into<OwnedFd>) -> Result<(), Error> {
        let listener = listener.into();
        rustix::io::ioctl_fionbio(&listener, true).map_err(|errno| Error::SetUp {
            what: "making a listener non-blocking",
            source: errno.into(),
        })?;
        self.open(Door::Handed(listener));
        Ok(())
    }

    fn open(&mut self, door: Door) {
        let token = reactor::listener_token(self.listeners.len());
        self.listeners.push(Listener {
            door,
            token,
            knocked: true,
            registered: false,
        });
        self.hub.wake();
    }

    /// Serves a client that is connected already: one end of a socket pair, or a unix or TCP stream
    /// that another process has passed on. It counts towards the limit but is never refused.
    ///
    /// # Errors
    ///
    /// The stream cannot be made non-blocking.
    pub fn add_client(&mut self, stream: impl Into<OwnedFd>) -> Result<(), Error> {
        self.add_link(Link::socket(stream.into()))
    }

    /// Serves a client that sends through `input` and reads from `output`: pipes, or standard input
    /// and output. It counts towards the limit but is never refused.
    ///
    /// Both are non-blocking until the client is gone; on a terminal that holds for everybody who
    /// uses it. A regular file cannot be watched: such a client ends at once. A pipe whose reader
    /// has gone raises `SIGPIPE`, which Rust's runtime ignores.
    ///
    /// # Errors
    ///
    /// A descriptor cannot be made non-blocking.
    pub fn add_pair(
        &mut self,
        input: impl Into<OwnedFd>,
        output: impl Into<OwnedFd>,
    ) -> Result<(), Error> {
        self.add_link(Link::pair(input.into(), output.into()))
    }

    fn add_link(&mut self, link: Result<Link, Errno>) -> Result<(), Error> {
        let what = "making a client's stream non-blocking";
        let link = link.map_err(|errno| Error::SetUp {
            what,
            source: errno.into(),
        })?;
        self.admit(link);
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

    /// Takes the oldest of the errors that the event loop could not report: a descriptor that it would
    /// not watch, a client that stood still. Of those that nobody takes, the first 16 are kept. Log
    /// them; the service goes on.
    pub fn take_error(&mut self) -> Option<Error> {
        self.errors.pop_front()
    }

    /// Executes a few requests, of each client at most one, and returns how many that were; whoever
    /// asks now and then comes before those who send one request upon the other. Then each job that
    /// works in steps does one.
    ///
    /// Call it after the event loop has run, then let the VMM act on what the commands have asked
    /// for, then call [`Server::finish_turn`], which sends the replies.
    pub fn dispatch(&mut self, context: &mut C) -> usize {
        self.hub.begin_turn();
        self.turns = self.turns.saturating_add(1);
        let pending = self
            .clients
            .iter()
            .filter(|(_, client)| client.is_pending());
        let waiting = pending.map(|(&id, client)| Waiting {
            pipelined: client.pipelines(),
            served: client.served(),
            id,
        });
        let now = order::served_now(waiting.collect());
        for Waiting { id, .. } in &now {
            if let Some(client) = self.clients.get_mut(id) {
                client.execute(self.turns, &self.hub, &self.registry, context);
            }
        }
        if let Some(jobs) = self.registry.known_jobs() {
            jobs.step(context);
        }
        now.len()
    }

    /// Sends the events of this turn and then the replies, and looks for the next requests.
    ///
    /// If there is more to do at once, the event loop's next run returns without waiting.
    pub fn finish_turn(&mut self) {
        for client in self.clients.values_mut() {
            client.finish(&self.hub);
        }
        self.hub.end_turn();
        let more = self.pump(None);
        // Requests that were complete already have their turn in the next round.
        let waits = |client: &Client| client.is_pending() || client.is_watched_wrongly();
        let works = self.registry.known_jobs().is_some_and(Jobs::has_steps);
        if more || works || self.clients.values().any(waits) {
            self.hub.wake();
        }
    }

    /// Moves the bytes of those clients whom something has stirred, or of `only` that one, and of all
    /// if there are new events. Returns whether the event loop is to run again at once. Sets the timer for what time
    /// alone will bring about.
    fn pump(&mut self, only: Option<ClientId>) -> bool {
        let window = self.hub.expire();
        let news = self.hub.take_news();
        let mut more = false;
        let shared = Shared {
            hub: &self.hub,
            limits: &self.limits,
            registry: &self.registry,
        };
        for (&id, client) in &mut self.clients {
            if news || (client.is_stirred() && only.is_none_or(|only| only == id)) {
                more |= client.pump(&shared);
            }
        }
        self.set_timer(window);
        more
    }

    fn set_timer(&mut self, window: Option<Instant>) {
        let next = window
            .into_iter()
            .chain(self.next_eviction())
            .chain(self.next_stall())
            .min();
        let Some(next) = next else { return };
        // A timer that expires too early is set again then. That is cheaper than each time that a
        // client does take its step.
        if self.timer_set_for.is_some_and(|set| set <= next) {
            return;
        }
        self.timer_set_for = Some(next);
        let left = next.saturating_duration_since(Instant::now());
        if let Err(error) = self.timer.reset(left.max(Duration::from_millis(1)), None) {
            self.fail("setting the timer", io::Error::from(error));
        }
    }

    fn fail(&mut self, what: &'static str, source: io::Error) {
        self.note(Error::SetUp { what, source });
    }

    fn note(&mut self, error: Error) {
        if self.errors.len() < ERRORS {
            self.errors.push_back(error);
        }
    }

    fn admit(&mut self, link: Link) {
        let id = self.next_id;
        self.next_id = id.checked_add(1).unwrap_or(FIRST_CLIENT);
        let session = Session::new(self.limits.message);
        let greeting = session.greeting(&self.registry);
        self.hub.add_client(id, self.limits.event_bytes, greeting);
        self.clients.insert(id, Client::new(id, link, session));
        self.arrived.push(id);
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
