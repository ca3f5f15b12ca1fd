//! Plays a trace through the decisions: what was recorded must be what they say.
//!
//! The rule that must never be broken: a state that no decision leads to is found.

use runstate::RunState;

use super::{Happening, TraceRecord};
use crate::compat::Compat;
use crate::decide::{decide, plan_start, plan_stop};
use crate::step::{Step, Steps};

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
/// first decision is believed. So is what comes behind a gap in the numbers.
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
    let mut next = None;
    for record in records {
        if next.is_some_and(|next| next != record.sequence) {
            // Records are missing: nothing is known of what they did.
            state = None;
            owed.clear();
            plan_known = Some(false);
        }
        next = Some(record.sequence.wrapping_add(1));
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
            | Happening::Event(_)
            | Happening::Pausing
            | Happening::Paused
            | Happening::PauseFailed
            | Happening::Resumed
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
