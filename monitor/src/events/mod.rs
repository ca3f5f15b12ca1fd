//! Events: from any thread to every client that has negotiated, in one order.
//!
//! ```text
//!   any thread                       server's thread
//!   EventSender ──▶ rate limit ──▶ outbox of client 1 ──▶ socket 1
//!       │            (some events)  outbox of client 2 ──▶ socket 2
//!       └── wakes the loop               ▲
//!                                     replies
//! ```
//!
//! The rule that must never be broken: **nobody waits for a client**. Emitting takes a short lock,
//! copies one pointer for each client and returns; what a client does not read costs it events,
//! never the VM time or unbounded memory.
//!
//! Each client's outbox holds so many bytes of events ([`ServerLimits`](crate::ServerLimits)). When
//! it is full, the events that follow are counted by name instead of being kept. As soon as half of
//! the outbox is free again, or a reply is sent, the client is told in the place where they are
//! missing:
//!
//! ```text
//! {"timestamp": {...}, "event": "EVENTS_LOST", "data": {"count": 3, "events": {"RESET": 3}}}
//! ```
//!
//! So no event is lost silently, and a client that reads on knows when to ask `query-status` again.
//! Events from before the negotiation are not for the client and not counted.
//!
//! A client that must know what exactly it missed asks for numbers (`x-number-events`) and, when it
//! was told of a loss or has connected anew, for the events themselves (`x-replay-events`): the
//! latest are kept, up to a bound of their own. Nobody else sees anything of this.

mod history;
mod hub;
mod outbox;
mod replay;
mod throttle;

pub(crate) use hub::{ClientId, Hub};
pub(crate) use outbox::EventsLost;
pub(crate) use replay::{Caller, register as register_replay};

use crate::Error;
use crate::registry::EventTable;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// The event that tells a client what it missed.
pub const EVENTS_LOST: &str = "EVENTS_LOST";

/// Emits events. Clones share one server; each may be on a thread of its own.
///
/// Emitting takes a lock for as long as it takes to queue one event, and may write to an eventfd.
/// It is not for signal handlers: post to a latch there and emit from the main loop.
#[derive(Clone)]
pub struct EventSender {
    hub: Arc<Hub>,
    events: Arc<EventTable>,
}

impl EventSender {
    pub(crate) fn new(hub: Arc<Hub>, events: Arc<EventTable>) -> Self {
        EventSender { hub, events }
    }

    /// Emits an event with data, stamped with the time of this call.
    ///
    /// # Errors
    ///
    /// [`Error::UnregisteredEvent`], [`Error::EventData`]. Nothing was sent.
    pub fn emit<T: Serialize + ?Sized>(&self, name: &str, data: &T) -> Result<(), Error> {
        let data = serde_json::to_value(data);
        let data = data.map_err(|source| Error::EventData {
            name: name.to_owned(),
            source,
        })?;
        self.send(name, Some(&data))
    }

    /// Emits an event that has no data.
    ///
    /// # Errors
    ///
    /// [`Error::UnregisteredEvent`]. Nothing was sent.
    pub fn emit_bare(&self, name: &str) -> Result<(), Error> {
        self.send(name, None)
    }

    fn send(&self, name: &str, data: Option<&Value>) -> Result<(), Error> {
        let Some(spec) = self.events.find(name) else {
            return Err(Error::UnregisteredEvent {
                name: name.to_owned(),
            });
        };
        self.hub.emit(spec, data, SystemTime::now);
        Ok(())
    }
}

impl fmt::Debug for EventSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSender").finish_non_exhaustive()
    }
}
