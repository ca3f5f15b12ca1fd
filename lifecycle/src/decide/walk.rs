//! A whole turn at once, for tests, tools and whoever wants to know beforehand: as if nothing were
//! posted or changed meanwhile.

use runstate::{Change, InvalidTransition, RunState};

use super::decide;
use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::latch::ShutdownRequest;
use crate::policy::Actions;
use crate::posting::{ResetAdmission, admit_reset};
use crate::step::{End, Latched, Phase, Situation, Step};

/// One turn, decided at once: as if nothing were posted or changed meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnPlan {
    /// What is done, phase by phase.
    pub steps: Vec<Step>,
    /// How the machine is left.
    pub situation: Situation,
    /// How the turn ends.
    pub end: End,
}

/// Decides one main-loop turn: [`decide`] for one phase after the other.
#[must_use]
pub fn step(now: Situation, latched: &Latched, actions: Actions, compat: Compat) -> TurnPlan {
    let mut plan = TurnPlan {
        steps: Vec::new(),
        situation: now,
        end: End::Continue,
    };
    plan.end = walk_turn(&mut plan.situation, latched, actions, compat, |step| {
        plan.steps.push(step);
    });
    plan
}

/// The same without an allocation: `visit` sees each step that is done.
pub fn walk_turn(
    now: &mut Situation,
    latched: &Latched,
    actions: Actions,
    compat: Compat,
    mut visit: impl FnMut(Step),
) -> End {
    let mut latched = *latched;
    for phase in Phase::ALL {
        for step in &decide(*phase, *now, &latched, actions, compat) {
            match step {
                Step::SetState(to) => match check(now.state, to, compat) {
                    Ok(Change::Unchanged) => continue,
                    Ok(_) => {}
                    Err(error) => return End::Abort(error),
                },
                Step::Exit { failure } => {
                    visit(step);
                    return End::Exit { failure };
                }
                other => latch(&mut latched, other, actions, compat),
            }
            visit(step);
            *now = now.after(step, compat);
        }
    }
    End::Continue
}

/// What a step leaves for later phases, as the latches do it: the first stands, or the last. The
/// vCPUs are taken to be ones that can be reset.
fn latch(latched: &mut Latched, step: Step, actions: Actions, compat: Compat) {
    let first_stands = compat == Compat::Current;
    let mut shutdown = |cause, poweroff| {
        let request = ShutdownRequest {
            poweroff,
            ..ShutdownRequest::new(cause)
        };
        let first = latched.shutdown.filter(|_| first_stands);
        latched.shutdown = Some(first.map_or(request, |first| ShutdownRequest {
            poweroff: first.poweroff || poweroff,
            ..first
        }));
    };
    match step {
        Step::LatchVmStop(state) => {
            let first = latched.vmstop.filter(|_| first_stands);
            latched.vmstop = first.or(Some(state));
        }
        Step::RequestShutdown(cause) => shutdown(cause, false),
        Step::RequestPoweroff(cause) => shutdown(cause, true),
        Step::RequestReset(cause) => {
            if admit_reset(cause, actions, true) == ResetAdmission::Shutdown {
                return shutdown(cause, false);
            }
            let stands = |first: &ShutdownCause| first_stands && first.announces_reset();
            latched.reset = latched.reset.filter(stands).or(Some(cause));
        }
        Step::RequestPowerdown => latched.powerdown = true,
        _ => {}
    }
}

fn check(
    from: RunState,
    to: RunState,
    compat: Compat,
) -> Result<Change, InvalidTransition<RunState>> {
    compat.table().check(from, to)
}
