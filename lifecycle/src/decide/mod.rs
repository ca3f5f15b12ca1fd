//! The decisions: pure functions from the machine's situation and a request to a plan.
//!
//! Admission, execution and tests call these, and nothing else decides. The order of phases and
//! the steps of each are those of QEMU's `main_loop_should_exit`, `do_vm_stop` and
//! `vm_prepare_start`.
//!
//! The rule that must never be broken: under [`Compat::Current`] no plan holds a transition that
//! the table forbids. What does not apply is dropped or held, and says so.

mod reports;
mod stop_start;
mod walk;

use runstate::RunState;

use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::policy::{Actions, PanicAction, ShutdownAction};
use crate::step::{Latched, Listeners, Notice, Phase, Situation, Step, Steps};

use self::reports::report_steps;
use self::stop_start::latched_stop;
pub use self::stop_start::{admit_set, plan_start, plan_stop, start_takes_vmstop};
pub use self::walk::{TurnPlan, step, walk_turn};

/// What one phase of a turn does.
#[must_use]
pub fn decide(
    phase: Phase,
    now: Situation,
    latched: &Latched,
    actions: Actions,
    compat: Compat,
) -> Steps {
    match phase {
        Phase::Reports => report_steps(now, latched, actions, compat),
        Phase::Debug if latched.debug => latched_stop(phase, now, RunState::Debug, compat),
        Phase::Suspend if latched.suspend => suspend_steps(now, latched, compat),
        Phase::Shutdown => shutdown_steps(latched),
        Phase::ShutdownOutcome => shutdown_outcome(now, latched, actions, compat),
        Phase::Reset => reset_steps(latched, compat),
        Phase::ResetOutcome => reset_outcome(now, latched, compat),
        Phase::Wakeup => wakeup_steps(now, latched, compat),
        Phase::Powerdown if latched.powerdown => Steps::of(&[
            Step::Emit(Notice::Powerdown),
            Step::Notify(Listeners::Powerdown),
        ]),
        Phase::VmStop => match latched.vmstop {
            Some(target) => latched_stop(phase, now, target, compat),
            None => Steps::new(),
        },
        Phase::Debug | Phase::Suspend | Phase::Powerdown => Steps::new(),
    }
}

fn suspend_steps(now: Situation, latched: &Latched, compat: Compat) -> Steps {
    if compat == Compat::Current {
        if latched.reset.is_some() || now.state == RunState::Suspended {
            // The guest that wanted to sleep is about to be gone, or sleeps.
            return Steps::of(&[Step::Drop(Phase::Suspend)]);
        }
        if !now.state.is_running() {
            // Its vCPU waits behind the register write: it sleeps when it may go on.
            return Steps::of(&[Step::Hold(Phase::Suspend)]);
        }
    }
    Steps::of(&[
        Step::PauseVcpus,
        Step::Notify(Listeners::Suspend),
        Step::SetState(RunState::Suspended),
        Step::Emit(Notice::Suspend),
    ])
}

fn shutdown_steps(latched: &Latched) -> Steps {
    let mut steps = Steps::new();
    let Some(request) = latched.shutdown else {
        return steps;
    };
    if let Some(signal) = latched.signal {
        steps.push(Step::ReportSignal(signal));
    }
    steps.push_if(request.not_resettable, Step::ReportNotResettable);
    steps.push(Step::Emit(Notice::Shutdown(request.cause)));
    steps.push(Step::Notify(Listeners::Shutdown(request.cause)));
    steps
}

fn shutdown_outcome(now: Situation, latched: &Latched, actions: Actions, compat: Compat) -> Steps {
    let Some(request) = latched.shutdown else {
        return Steps::new();
    };
    // Under `Qemu7_2` a request that insists has rewritten the action, which others may have
    // rewritten since.
    let insists = request.poweroff && compat == Compat::Current;
    if actions.shutdown == ShutdownAction::Pause && !insists {
        return plan_stop(now, RunState::Shutdown, true, compat)
            .unwrap_or_else(|_| Steps::of(&[Step::Drop(Phase::Shutdown)]));
    }
    Steps::of(&[Step::Exit {
        failure: request.cause == ShutdownCause::GuestPanic
            && actions.panic == PanicAction::ExitFailure,
    }])
}

fn reset_steps(latched: &Latched, compat: Compat) -> Steps {
    let mut steps = Steps::new();
    let Some(cause) = latched.reset else {
        return steps;
    };
    steps.push(Step::PauseVcpus);
    steps.push_if(compat == Compat::Current, Step::DropStale);
    for step in &plan_reset(cause, compat) {
        steps.push(step);
    }
    steps.push(Step::ResumeVcpus);
    steps
}

/// The reset itself, of a machine whose vCPUs are paused: QEMU's `qemu_system_reset`.
#[must_use]
pub fn plan_reset(cause: ShutdownCause, compat: Compat) -> Steps {
    let mut steps = Steps::of(&[Step::SynchronizeState, Step::ResetMachine(cause)]);
    steps.push_if(cause.announces_reset(), Step::Emit(Notice::Reset(cause)));
    steps.push(Step::SynchronizePostReset);
    steps.push_if(compat == Compat::Current, Step::Forget);
    steps
}

/// A machine that was not running is fresh after a reset, unless its state belongs to somebody
/// who is at work: a migration, a checkpoint, a dump.
fn reset_outcome(now: Situation, latched: &Latched, compat: Compat) -> Steps {
    let keeps = match now.state {
        RunState::Running | RunState::InMigrate | RunState::FinishMigrate => true,
        RunState::SaveVm | RunState::Colo => compat == Compat::Current,
        _ => false,
    };
    if latched.reset.is_none() || keeps || now.state == RunState::Prelaunch {
        return Steps::new();
    }
    Steps::of(&[Step::SetState(RunState::Prelaunch)])
}

fn wakeup_steps(now: Situation, latched: &Latched, compat: Compat) -> Steps {
    let Some(reason) = latched.wakeup else {
        return Steps::new();
    };
    if compat == Compat::Current && now.state != RunState::Suspended {
        return Steps::of(&[Step::Drop(Phase::Wakeup)]);
    }
    let mut steps = Steps::of(&[
        Step::PauseVcpus,
        Step::WakeMachine,
        Step::Notify(Listeners::Wakeup(reason)),
    ]);
    match compat {
        // The state has been `running` since the request.
        Compat::Qemu7_2 => steps.push(Step::ClearWakeup),
        Compat::Current => steps.push(Step::SetState(RunState::Running)),
    }
    steps.push(Step::ResumeVcpus);
    steps.push(Step::Emit(Notice::Wakeup));
    steps
}
