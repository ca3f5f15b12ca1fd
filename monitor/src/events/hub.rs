//! The one place that all threads share: every client's outbox, the rate limits, the wake-up.

use super::history::History;
use super::outbox::Outbox;
use super::throttle::Windows;
use crate::protocol::event_line;
use crate::registry::EventSpec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use vmm_sys_util::eventfd::EventFd;

/// Names a client for as long as the server lives.
pub(crate) type ClientId = u32;

/// An event as it will be sent.
#[derive(Clone, Debug)]
pub(super) struct Emission {
    pub(super) name: Arc<str>,
    pub(super) line: Arc<[u8]>,
}

/// Events with their numbers.
pub(super) type Numbered = Vec<(u64, Arc<[u8]>)>;

#[derive(Debug)]
struct Inner {
    history: History,
    outboxes: BTreeMap<ClientId, Outbox>,
    windows: Windows,
    /// The server is between `dispatch` and `finish_turn`, which sends everything: no wake-up.
    in_turn: bool,
    /// The eventfd was written and not yet read: one wake-up is enough.
    woken: bool,
    /// Events were queued that the server has not looked for yet.
    news: bool,
}

impl Inner {
    fn queue(&mut self, emission: &Emission) -> bool {
        let number = self.history.push(&emission.line);
        let mut queued = false;
        for outbox in self
            .outboxes
            .values_mut()
            .filter(|outbox| outbox.subscribed)
        {
            outbox.push_event(&emission.name, &emission.line, number);
            queued = true;
        }
        self.news |= queued;
        queued
    }
}

/// What waits for one client, in bytes, and what it has lost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) reply_bytes: usize,
    pub(crate) event_bytes: usize,
    pub(crate) lost: u64,
}

/// Shared by the server and all its senders.
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    wake: EventFd,
}

impl Hub {
    /// `wake` must be non-blocking. Events of `history` bytes together are kept.
    pub(crate) fn new(wake: EventFd, history: usize) -> Self {
        let inner = Inner {
            history: History::new(history),
            outboxes: BTreeMap::new(),
            windows: Windows::default(),
            in_turn: false,
            woken: false,
            news: false,
        };
        Hub {
            inner: Mutex::new(inner),
            wake,
        }
    }

    /// The eventfd that is readable while the server is wanted.
    pub(crate) fn wake_fd(&self) -> &EventFd {
        &self.wake
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No operation below leaves the maps half changed, so a panic elsewhere spoils nothing.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn emit(&self, spec: &EventSpec, data: Option<&Value>, clock: fn() -> SystemTime) {
        let mut inner = self.lock();
        // Read under the lock: what is sent first is not stamped later.
        let line = event_line(spec.name(), data, clock()).into();
        let emission = Emission {
            name: Arc::clone(spec.shared_name()),
            line,
        };
        let wanted = match spec.throttle_key(data) {
            None => inner.queue(&emission),
            Some(key) => match inner.windows.offer(key, emission, Instant::now()) {
                // The server must also set its timer for the window that this opened.
                Some(emission) => {
                    inner.queue(&emission);
                    true
                }
                None => false,
            },
        };
        if wanted && !inner.in_turn {
            self.wake_locked(&mut inner);
        }
    }

    /// Makes the event loop call the server.
    pub(crate) fn wake(&self) {
        self.wake_locked(&mut self.lock());
    }

    fn wake_locked(&self, inner: &mut Inner) {
        if !inner.woken {
            // It fails only when the counter is full, and then the loop is awake anyway.
            inner.woken = self.wake.write(1).is_ok();
        }
    }

    /// Takes the wake-up.
    pub(crate) fn awake(&self) {
        let mut inner = self.lock();
        inner.woken = false;
        // Nothing to read means that somebody else took it: the server runs now in any case.
        drop(self.wake.read());
    }

    pub(crate) fn begin_turn(&self) {
        self.lock().in_turn = true;
    }

    pub(crate) fn end_turn(&self) {
        self.lock().in_turn = false;
    }

    /// Queues the kept events whose time has come, and says when the next one's will.
    pub(crate) fn expire(&self) -> Option<Instant> {
        let mut inner = self.lock();
        for emission in inner.windows.expire(Instant::now()) {
            inner.queue(&emission);
        }
        inner.windows.next_end()
    }

    /// Whether events were queued for anybody since this was last asked.
    pub(crate) fn take_news(&self) -> bool {
        std::mem::take(&mut self.lock().news)
    }

    pub(crate) fn add_client(&self, id: ClientId, event_limit: usize, greeting: Vec<u8>) {
        let mut outbox = Outbox::new(event_limit);
        outbox.push_reply(greeting);
        self.lock().outboxes.insert(id, outbox);
    }

    pub(crate) fn remove_client(&self, id: ClientId) {
        self.lock().outboxes.remove(&id);
    }

    /// Numbers the events of a client from now on, or no longer. Returns the number of the oldest
    /// event that is kept, and that of the next.
    pub(super) fn number_events(&self, id: ClientId, enable: bool) -> (u64, u64) {
        let mut inner = self.lock();
        if let Some(outbox) = inner.outboxes.get_mut(&id) {
            outbox.numbered = enable;
        }
        (inner.history.oldest(), inner.history.next())
    }

    /// At most `count` of the events that are kept: those from `first` on, or the latest. Before
    /// them, what [`Hub::number_events`] returns.
    pub(super) fn replay(&self, first: Option<u64>, count: usize) -> (u64, u64, Numbered) {
        let inner = self.lock();
        let history = &inner.history;
        let own = |(number, line): (u64, &Arc<[u8]>)| (number, Arc::clone(line));
        let events = match first {
            Some(first) => history.since(first).take(count).map(own).collect(),
            None => {
                let latest = history.since(0).rev().take(count).map(own);
                let mut latest: Numbered = latest.collect();
                latest.reverse();
                latest
            }
        };
        (history.oldest(), history.next(), events)
    }

    /// Queues a reply; with `subscribe`, events follow it from now on.
    pub(crate) fn reply(&self, id: ClientId, line: Vec<u8>, subscribe: bool) {
        if let Some(outbox) = self.lock().outboxes.get_mut(&id) {
            outbox.push_reply(line);
            outbox.subscribed |= subscribe;
        }
    }

    /// Moves what waits for a client into `buffer`, up to about `fill` bytes.
    pub(crate) fn take(&self, id: ClientId, buffer: &mut Vec<u8>, fill: usize) {
        if let Some(outbox) = self.lock().outboxes.get_mut(&id) {
            outbox.take(buffer, fill);
        }
    }

    pub(crate) fn waiting(&self, id: ClientId) -> Waiting {
        self.lock()
            .outboxes
            .get(&id)
            .map_or_else(Waiting::default, |outbox| Waiting {
                reply_bytes: outbox.reply_bytes(),
                event_bytes: outbox.event_bytes(),
                lost: outbox.lost_ever(),
            })
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("inner", &*self.lock())
            .finish_non_exhaustive()
    }
}
