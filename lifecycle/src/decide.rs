//! The decisions: pure functions from the machine's situation and a request to a plan.
//!
//! Admission, execution and tests call these, and nothing else decides. The order of phases and
//! the steps of each are those of QEMU's `main_loop_should_exit`, `do_vm_stop` and
//! `vm_prepare_start`.
//!
//! The rule that must never be broken: under [`Compat::Current`] no plan holds a transition that
//! the table forbids. What does not apply is dropped or held, and says so.

use runstate::{Change, InvalidTransition, RunState};

use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::error::Error;
use crate::latch::ShutdownRequest;
use crate::panic::{GuestPanicAction, panic_action};
use crate::policy::{Actions, PanicAction, ShutdownAction};
use crate::step::{End, Latched, Listeners, Notice, Phase, Situation, Step, Steps};

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
        Phase::Reports => report_steps(now, latched, actions),
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

/// What vCPU threads told. As in QEMU, a panic's stop and its shutdown are latched, so that one
/// which ends the process shows no stop.
fn report_steps(now: Situation, latched: &Latched, actions: Actions) -> Steps {
    let mut steps = Steps::new();
    steps.push_if(latched.suspend_disk, Step::Emit(Notice::SuspendDisk));
    if latched.crashloaded {
        steps.push(Step::Emit(Notice::GuestCrashloaded));
    }
    if latched.panicked {
        let action = panic_action(actions);
        steps.push(Step::Emit(Notice::GuestPanicked(action)));
        match action {
            GuestPanicAction::Run => steps.push_if(now.state.is_running(), Step::ResumeVcpus),
            GuestPanicAction::Pause => steps.push(Step::LatchVmStop(RunState::GuestPanicked)),
            GuestPanicAction::Poweroff => {
                steps.push(Step::LatchVmStop(RunState::GuestPanicked));
                steps.push(Step::RequestShutdown(ShutdownCause::GuestPanic));
            }
        }
    }
    steps
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

/// A stop that was latched, which cannot be refused any more: it is dropped where it does not
/// apply.
fn latched_stop(phase: Phase, now: Situation, target: RunState, compat: Compat) -> Steps {
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
                // As the latches do it: the first stands, or the last.
                Step::LatchVmStop(state) => {
                    let first = latched.vmstop.filter(|_| compat == Compat::Current);
                    latched.vmstop = first.or(Some(state));
                }
                Step::RequestShutdown(cause) => {
                    let first = latched.shutdown.filter(|_| compat == Compat::Current);
                    latched.shutdown = first.or(Some(ShutdownRequest::new(cause)));
                }
                Step::Exit { failure } => {
                    visit(step);
                    return End::Exit { failure };
                }
                _ => {}
            }
            visit(step);
            *now = now.after(step, compat);
        }
    }
    End::Continue
}

fn check(
    from: RunState,
    to: RunState,
    compat: Compat,
) -> Result<Change, InvalidTransition<RunState>> {
    compat.table().check(from, to)
}
