//! What happened, in order: a bounded record of every decision and every state, which can be
//! played back through the decisions.
//!
//! The rule that must never be broken: the trace never grows beyond its capacity, and the numbers
//! of its records have no gap but at the front.

use std::collections::VecDeque;

use runstate::{InvalidTransition, RunState};

use crate::compat::Compat;
use crate::decide::{decide, plan_start, plan_stop};
use crate::policy::Actions;
use crate::step::{Latched, Phase, Situation, Step, Steps};

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

    pub(crate) fn push(&mut self, happening: Happening) {
        let sequence = self.next;
        self.next = sequence.wrapping_add(1);
        if self.capacity == 0 {
            return;
        }
        if self.records.len() >= self.capacity {
            self.records.pop_front();
        }
        self.records.push_back(TraceRecord {
            sequence,
            happening,
        });
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

/// A trace that the decisions do not reproduce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Divergence {
    /// The record that does not follow from those before it.
    pub record: TraceRecord,
    /// The state that the machine is in by those before it, if they tell.
    pub state: Option<RunState>,
}

impl core::fmt::Display for Divergence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "record {} of the trace does not follow: {:?}",
            self.record.sequence, self.record.happening
        )
    }
}

impl core::error::Error for Divergence {}

/// Plays a trace through the decisions: every state in it must be one that they lead to. Returns
/// the state at the end, if the trace tells.
///
/// A trace that has lost its front may begin in the middle of a plan: what it tells before the
/// first decision is believed.
///
/// # Errors
///
/// [`Divergence`], the first.
pub fn replay<'a>(
    records: impl IntoIterator<Item = &'a TraceRecord>,
    compat: Compat,
) -> Result<Option<RunState>, Divergence> {
    let mut state = None;
    // The changes that plans under way still owe, the innermost plan last.
    let mut owed: Vec<RunState> = Vec::new();
    // The plan that a trace without its front begins in is not known.
    let mut plan_known = None;
    for record in records {
        plan_known.get_or_insert(record.sequence == 0);
        let diverged = Divergence {
            record: *record,
            state,
        };
        let steps = match record.happening {
            Happening::Turn {
                phase,
                now,
                latched,
                actions,
            } => {
                agree(&mut state, now.state).ok_or(diverged)?;
                decide(phase, now, &latched, actions, compat)
            }
            Happening::Start { now, vmstop } => {
                agree(&mut state, now.state).ok_or(diverged)?;
                plan_start(now, vmstop, compat).map_err(|_| diverged)?
            }
            Happening::Stop {
                now,
                target,
                announced,
            } => {
                agree(&mut state, now.state).ok_or(diverged)?;
                plan_stop(now, target, announced, compat).map_err(|_| diverged)?
            }
            Happening::Set { to } => Steps::of(&[Step::SetState(to)]),
            Happening::State { from, to } => {
                agree(&mut state, from).ok_or(diverged)?;
                state = Some(to);
                match owed.iter().rposition(|owed| *owed == to) {
                    Some(at) => drop(owed.remove(at)),
                    None if plan_known == Some(false) => {}
                    None => return Err(diverged),
                }
                continue;
            }
            Happening::RolledBack { from, to } => {
                agree(&mut state, from).ok_or(diverged)?;
                state = Some(to);
                continue;
            }
            Happening::Dropped { .. }
            | Happening::Deferred
            | Happening::Refused(_)
            | Happening::Exit => continue,
        };
        plan_known = Some(true);
        owed.extend(steps.into_iter().filter_map(|step| match step {
            Step::SetState(to) => Some(to),
            _ => None,
        }));
    }
    Ok(state)
}

fn agree(known: &mut Option<RunState>, told: RunState) -> Option<()> {
    (*known.get_or_insert(told) == told).then_some(())
}
