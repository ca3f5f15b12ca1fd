//! Stops and starts: QEMU's `do_vm_stop` and `vm_prepare_start`, and what becomes of a stop that
//! was latched.

use runstate::{InvalidTransition, RunState};

use crate::compat::Compat;
use crate::error::Error;
use crate::step::{Notice, Phase, Situation, Step, Steps};

/// A stop that was latched, which cannot be refused any more: it is dropped where it does not
/// apply.
pub(super) fn latched_stop(
    phase: Phase,
    now: Situation,
    target: RunState,
    compat: Compat,
) -> Steps {
    if compat == Compat::Qemu7_2 {
        return qemu_stop(now, target, true);
    }
    if !now.state.is_live() {
        let mut steps = Steps::new();
        // What broke the machine while it was stopped keeps it from going on.
        steps.push_if(target == RunState::InternalError, Step::RequireReset);
        steps.push(Step::Drop(phase));
        return steps;
    }
    plan_stop(now, target, true, compat).unwrap_or_else(|_| {
        let mut steps = Steps::of(&[Step::Drop(phase)]);
        steps.push_if(now.state.is_running(), Step::ResumeVcpus);
        steps
    })
}

/// What a stop in this state does: QEMU's `do_vm_stop`. `announced`: with a STOP event.
///
/// # Errors
///
/// Under [`Compat::Current`], [`Error::NotAStop`] and [`Error::InvalidTransition`].
pub fn plan_stop(
    now: Situation,
    target: RunState,
    announced: bool,
    compat: Compat,
) -> Result<Steps, Error> {
    if compat == Compat::Qemu7_2 {
        return Ok(qemu_stop(now, target, announced));
    }
    if target.is_live() {
        return Err(Error::NotAStop(target));
    }
    if !now.state.is_live() {
        return Ok(Steps::of(&[Step::DrainFlush]));
    }
    let entered = stop_target(now.state, target)?;
    let mut steps = Steps::of(&[Step::SetState(entered), Step::StopClock]);
    steps.push_if(now.state.is_running(), Step::PauseVcpus);
    steps.push(Step::Handlers {
        running: false,
        state: entered,
    });
    steps.push_if(target.needs_reset(), Step::RequireReset);
    steps.push_if(announced, Step::Emit(Notice::Stop));
    steps.push(Step::DrainFlush);
    Ok(steps)
}

fn qemu_stop(now: Situation, target: RunState, announced: bool) -> Steps {
    let mut steps = Steps::new();
    if now.state.is_running() {
        steps = Steps::of(&[
            Step::SetState(target),
            Step::StopClock,
            Step::PauseVcpus,
            Step::Handlers {
                running: false,
                state: target,
            },
        ]);
        steps.push_if(announced, Step::Emit(Notice::Stop));
    }
    steps.push(Step::DrainFlush);
    steps
}

/// The state that a stop leads to. A suspended machine that is to stop for a reason which its
/// state has no edge for is paused: stopped is what matters.
fn stop_target(from: RunState, target: RunState) -> Result<RunState, Error> {
    let table = Compat::Current.table();
    match table.check(from, target) {
        Ok(_) => Ok(target),
        Err(_) if from == RunState::Suspended && table.allows(RunState::Running, target) => {
            Ok(RunState::Paused)
        }
        Err(error) => Err(error.into()),
    }
}

/// What a start does: QEMU's `vm_prepare_start` and the resume after it. `vmstop`: a stop is
/// latched.
///
/// # Errors
///
/// Under [`Compat::Current`], [`Error::ResetRequired`] and [`Error::InvalidTransition`].
pub fn plan_start(now: Situation, vmstop: bool, compat: Compat) -> Result<Steps, Error> {
    if now.state.is_running() {
        let mut steps = Steps::new();
        if vmstop {
            // The stop that was promised, and at once taken back.
            steps.push(Step::Emit(Notice::Stop));
            steps.push(Step::Emit(Notice::Resume));
        }
        return Ok(steps);
    }
    let mut target = RunState::Running;
    if compat == Compat::Current {
        if now.state == RunState::Suspended {
            // A sleeping guest is in nobody's way; it takes a wakeup to run it.
            return Ok(Steps::new());
        }
        if now.reset_required() {
            return Err(Error::ResetRequired);
        }
        if now.was_suspended {
            target = RunState::Suspended;
        }
        compat.table().check(now.state, target)?;
    }
    let mut steps = Steps::of(&[
        Step::PrepareResume,
        Step::Emit(Notice::Resume),
        Step::StartClock,
        Step::SetState(target),
        Step::Handlers {
            running: true,
            state: target,
        },
    ]);
    steps.push_if(target.is_running(), Step::ResumeVcpus);
    Ok(steps)
}

/// Whether the state alone may be changed to this one: for the states of a migration. Under
/// [`Compat::Current`] not to or from one in which the machine is live, where more than the state
/// has to change.
///
/// # Errors
///
/// [`Error::InvalidTransition`], [`Error::BareChange`].
pub fn admit_set(now: Situation, to: RunState, compat: Compat) -> Result<(), Error> {
    let from = now.state;
    compat.table().check(from, to)?;
    if compat == Compat::Current && from != to && (from.is_live() || to.is_live()) {
        return Err(Error::BareChange(InvalidTransition { from, to }));
    }
    Ok(())
}

/// Whether a start takes a latched stop. Where it does not, the next turn serves it: nothing
/// that was asked for is lost.
#[must_use]
pub const fn start_takes_vmstop(now: Situation, compat: Compat) -> bool {
    matches!(compat, Compat::Qemu7_2) || now.state.is_running()
}
