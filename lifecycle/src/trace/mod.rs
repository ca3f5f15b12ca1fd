//! What happened, in order: every request, decision, state, event and pause of the vCPUs.
//!
//! ```text
//!  Lifecycle ──▶ Trace                   the last records, bounded
//!           └──▶ EventSink::traced       every record, as it happens ──▶ TraceLine, a line of a file
//!                                                                            │
//!                replay  ◀── records ◀───────────────────────────────────────┘
//! ```
//!
//! The rule that must never be broken: the trace never grows beyond its capacity, and the numbers
//! of its records have no gap but at the front. A record that a file lacks shows as a gap in the
//! numbers.

use std::collections::VecDeque;

use runstate::{InvalidTransition, RunState};

use crate::event::Event;
use crate::policy::Actions;
use crate::step::{Latched, Phase, Situation};

mod fields;
mod line;
mod read;
mod replay;
mod write;

pub use line::{TraceLine, TraceLineError};
pub use replay::{Divergence, replay};

/// One thing that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Happening {
    /// A phase of a turn found something, and decided.
    Turn {
        /// The phase.
        phase: Phase,
        /// The machine.
        now: Situation,
        /// What was found.
        latched: Latched,
        /// The policy.
        actions: Actions,
    },
    /// A start was asked for, and admitted.
    Start {
        /// The machine.
        now: Situation,
        /// A stop was latched.
        vmstop: bool,
    },
    /// A stop was asked for, and admitted.
    Stop {
        /// The machine.
        now: Situation,
        /// The state asked for.
        target: RunState,
        /// With a STOP event.
        announced: bool,
    },
    /// A bare change of the state was asked for, and admitted.
    Set {
        /// The state asked for.
        to: RunState,
    },
    /// The state changed.
    State {
        /// It was this.
        from: RunState,
        /// It is this.
        to: RunState,
    },
    /// A stop was taken back: the vCPUs could not be paused.
    RolledBack {
        /// The state that was entered.
        from: RunState,
        /// The state that it is again.
        to: RunState,
    },
    /// A request did not apply, and was dropped.
    Dropped {
        /// The phase that found it.
        phase: Phase,
        /// The state that it did not apply to.
        state: RunState,
    },
    /// A callback asked for a change of the state; it waits until the present one is complete.
    Deferred,
    /// A transition was refused.
    Refused(InvalidTransition<RunState>),
    /// An event, before the sink is told.
    Event(Event),
    /// The vCPUs are about to be parked. They may be already.
    Pausing,
    /// The vCPUs are parked.
    Paused,
    /// The vCPUs could not be parked in time, and run on.
    PauseFailed,
    /// The vCPUs run on.
    Resumed,
    /// The process ends.
    Exit,
}

/// A numbered [`Happening`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRecord {
    /// Its number, from 0, without gaps.
    pub sequence: u64,
    /// What happened.
    pub happening: Happening,
}

/// The last things that happened.
#[derive(Debug, Clone)]
pub struct Trace {
    records: VecDeque<TraceRecord>,
    capacity: usize,
    next: u64,
}

impl Trace {
    /// How many records are kept unless said otherwise.
    pub const DEFAULT_CAPACITY: usize = 256;

    /// A trace that keeps this many records.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            records: VecDeque::new(),
            capacity,
            next: 0,
        }
    }

    pub(crate) fn push(&mut self, happening: Happening) -> TraceRecord {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        let record = TraceRecord {
            sequence,
            happening,
        };
        if self.capacity > 0 {
            if self.records.len() >= self.capacity {
                self.records.pop_front();
            }
            self.records.push_back(record);
        }
        record
    }

    /// What is kept, the oldest first.
    pub fn records(&self) -> impl Iterator<Item = &TraceRecord> {
        self.records.iter()
    }

    /// How many records there have been, kept or not.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.next
    }
}
