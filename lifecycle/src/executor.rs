//! Performs plans on the machine: a start, a stop, a turn of the main loop.
//!
//! Nothing is decided here. Under [`Compat::Qemu7_2`] a callback that asks for a change gets it at
//! once, in the middle of the present one, as in QEMU. Under [`Compat::Current`] changes do not
//! nest: it waits until the present plan is complete, so no plan is overtaken by another.
//!
//! The rule that must never be broken: a plan that cannot go on leaves the machine as it was, or
//! stopped.

use core::cell::Cell;
use std::sync::atomic::Ordering;

use notifiers::NestingExceeded;
use runstate::{Change, InvalidTransition, RunState, TransitionTable};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::decide::{admit_set, decide, plan_start, plan_stop, start_takes_vmstop};
use crate::error::Error;
use crate::event::{Event, EventSink, Report};
use crate::exit::ExitStatus;
use crate::handlers::StateNotice;
use crate::latch::ShutdownRequest;
use crate::lifecycle::{Lifecycle, Outcome, Turn};
use crate::machine::Machine;
use crate::panic::{GuestPanicAction, PanicInfo};
use crate::replay::Checkpoint;
use crate::requests::WAKEUP_UNAPPLIED;
use crate::step::{Latched, Listeners, Notice, Phase, Situation, Step, Steps};
use crate::trace::Happening;

/// A change of the state that the main loop's thread asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Start,
    Stop { target: RunState, announced: bool },
    Force(RunState),
    Set(RunState),
}

/// How many operations may wait for the present one; also how many of them are performed in a
/// row, so that a pair of handlers that undo each other comes to an end.
const MAX_DEFERRED: usize = 16;

/// The way back from a stop whose vCPUs would not pause: edges that no request may take.
const ROLL_BACK: TransitionTable<RunState> = runstate::transitions! { RunState {
    Debug => Running, Suspended;
    InternalError => Running, Suspended;
    IoError => Running, Suspended;
    Paused => Running, Suspended;
    FinishMigrate => Running, Suspended;
    RestoreVm => Running, Suspended;
    SaveVm => Running, Suspended;
    Shutdown => Running, Suspended;
    Watchdog => Running, Suspended;
    GuestPanicked => Running, Suspended;
    Colo => Running, Suspended;
    PostMigrate => Running, Suspended;
} };

/// Why a plan was not performed to its end.
enum Cut {
    /// The process ends.
    Exit { failure: bool },
    /// `Qemu7_2`: QEMU aborts here.
    Abort(InvalidTransition<RunState>),
    /// Something failed, and the plan was taken back.
    Failed(Error),
}

/// What the guest told with its reports, for the events of this turn.
#[derive(Default, Clone, Copy)]
struct Told {
    panicked: Option<PanicInfo>,
    crashloaded: Option<PanicInfo>,
}

/// Sets a flag, and clears it when dropped: also when a callback panics.
struct Flag<'a>(&'a Cell<bool>, bool);

impl<'a> Flag<'a> {
    fn raise(cell: &'a Cell<bool>) -> Self {
        Self(cell, cell.replace(true))
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

impl<M: Machine, S: EventSink> Lifecycle<M, S> {
    /// One turn of the main loop: serves what is latched, in QEMU's order. Call it after every
    /// wake-up, and until it says otherwise.
    ///
    /// Under [`Compat::Current`] a call from a callback does nothing: the turn that is under way
    /// goes on, and serves what it finds.
    pub fn dispatch(&self) -> Turn {
        if self.compat == Compat::Current && (self.in_turn.get() || self.busy.get()) {
            return Turn::Continue;
        }
        let _turn = Flag::raise(&self.in_turn);
        if let Err(abort) = self.apply_wakeup() {
            return Turn::Abort(abort);
        }
        let mut latched = Latched::default();
        let mut told = Told::default();
        for phase in Phase::ALL {
            self.look(*phase, &mut latched, &mut told);
            match self.perform_phase(*phase, &mut latched, told) {
                Ok(()) => {}
                Err(Cut::Exit { failure }) => {
                    self.note(Happening::Exit);
                    let request = latched.shutdown;
                    let none = ShutdownRequest::new(ShutdownCause::None);
                    let signal = latched.signal;
                    let status = ExitStatus::new(request.unwrap_or(none), failure, signal);
                    return Turn::Exit(status);
                }
                Err(Cut::Abort(abort)) => return Turn::Abort(abort),
                Err(Cut::Failed(error)) => {
                    let broken = matches!(error, Error::Reset(_));
                    self.sink.report(&Report::Failed(error));
                    if broken {
                        latched.reset = None;
                        self.break_down();
                    }
                }
            }
            self.perform_deferred();
        }
        Turn::Continue
    }

    /// `Qemu7_2`: a wakeup that another thread asked for shows in the state now.
    fn apply_wakeup(&self) -> Result<(), InvalidTransition<RunState>> {
        let latch = &self.requests.wakeup;
        let applied = latch.fetch_and(!WAKEUP_UNAPPLIED, Ordering::AcqRel);
        if applied & WAKEUP_UNAPPLIED != 0 && self.state() == RunState::Suspended {
            self.note(Happening::Set {
                to: RunState::Running,
            });
            self.change_state(RunState::Running)?;
        }
        Ok(())
    }

    /// Looks into the latches that this phase serves.
    fn look(&self, phase: Phase, latched: &mut Latched, told: &mut Told) {
        let requests = &self.requests;
        let pending = |cause| (cause != ShutdownCause::None).then_some(cause);
        let passes = |checkpoint| requests.gate().checkpoint(checkpoint);
        match phase {
            Phase::Panic => {
                let crashloaded = requests.crashloaded.take();
                let panicked = requests.panicked.take();
                latched.crashloaded = crashloaded.is_some();
                latched.panicked = panicked.is_some();
                told.crashloaded = crashloaded.flatten();
                told.panicked = panicked.flatten();
            }
            Phase::Debug => latched.debug = requests.debug.swap(false, Ordering::AcqRel),
            Phase::Suspend => {
                latched.reset = pending(requests.reset_pending());
                latched.suspend = requests.suspend.load(Ordering::Acquire)
                    && passes(Checkpoint::SuspendRequested)
                    && requests.suspend.swap(false, Ordering::AcqRel);
            }
            Phase::Shutdown => {
                latched.shutdown = requests.shutdown.take();
                latched.signal = match latched.shutdown {
                    Some(_) => requests.signal.take(),
                    None => None,
                };
            }
            Phase::Reset => {
                latched.reset = pending(requests.reset_pending())
                    .filter(|_| passes(Checkpoint::ResetRequested));
                if latched.reset.is_some() {
                    let taken = requests.reset.swap(0, Ordering::AcqRel);
                    latched.reset = ShutdownCause::from_index(taken).and_then(pending);
                }
            }
            Phase::Wakeup => {
                let latch = &requests.wakeup;
                let held = match self.compat {
                    // QEMU clears it when the notifiers have run.
                    Compat::Qemu7_2 => latch.load(Ordering::Acquire),
                    Compat::Current => latch.swap(0, Ordering::AcqRel),
                };
                let reason = WakeupReason::from_index(held).unwrap_or(WakeupReason::None);
                latched.wakeup = (reason != WakeupReason::None).then_some(reason);
            }
            Phase::Powerdown => {
                latched.powerdown = requests.powerdown.swap(false, Ordering::AcqRel);
            }
            Phase::VmStop => latched.vmstop = requests.vmstop.take(),
            Phase::ShutdownOutcome | Phase::ResetOutcome => {}
        }
    }

    fn perform_phase(&self, phase: Phase, latched: &mut Latched, told: Told) -> Result<(), Cut> {
        let now = self.situation();
        let actions = self.policy().actions();
        let steps = decide(phase, now, latched, actions, self.compat);
        if steps.is_empty() {
            return Ok(());
        }
        if steps.as_slice() != [Step::Hold(phase)] {
            // What is held is looked at in every turn: it would fill the trace.
            self.note(Happening::Turn {
                phase,
                now,
                latched: *latched,
                actions,
            });
        }
        self.perform(&steps, now, told, false)
    }

    /// A reset failed: the machine is of no use before another one.
    fn break_down(&self) {
        let target = RunState::InternalError;
        let now = self.situation();
        self.memory.set(now.after(Step::RequireReset, self.compat));
        let stopped = self.operate(Operation::Stop {
            target,
            announced: true,
        });
        if let Err(error) = stopped {
            self.sink.report(&Report::Failed(error));
        }
    }

    /// Performs a change of the state, now or later.
    pub(crate) fn operate(&self, operation: Operation) -> Result<Outcome, Error> {
        if self.compat == Compat::Qemu7_2 {
            return self.execute(operation).map(|()| Outcome::Done);
        }
        if self.busy.get() {
            let mut deferred = self.deferred.borrow_mut();
            if deferred.len() >= MAX_DEFERRED {
                return Err(Error::TooManyDeferred);
            }
            deferred.push_back(operation);
            drop(deferred);
            self.note(Happening::Deferred);
            return Ok(Outcome::Deferred);
        }
        let result = self.execute(operation);
        self.perform_deferred();
        result.map(|()| Outcome::Done)
    }

    fn perform_deferred(&self) {
        if self.busy.get() {
            return;
        }
        for _ in 0..MAX_DEFERRED {
            let next = self.deferred.borrow_mut().pop_front();
            let Some(operation) = next else { return };
            if let Err(error) = self.execute(operation) {
                self.sink.report(&Report::Failed(error));
            }
        }
        let left_over = core::mem::take(&mut *self.deferred.borrow_mut());
        if !left_over.is_empty() {
            self.sink.report(&Report::Failed(Error::TooManyDeferred));
        }
    }

    fn execute(&self, operation: Operation) -> Result<(), Error> {
        let now = self.situation();
        let live = match self.compat {
            Compat::Qemu7_2 => now.state.is_running(),
            Compat::Current => now.state.is_live(),
        };
        match operation {
            Operation::Start => {
                let takes = start_takes_vmstop(now, self.compat);
                let vmstop = takes && self.requests.vmstop.take().is_some();
                let steps = self.refused(plan_start(now, vmstop, self.compat))?;
                self.note(Happening::Start { now, vmstop });
                self.perform_all(&steps, now)
            }
            Operation::Stop { target, announced } => self.stop_machine(now, target, announced),
            Operation::Force(target) if live => self.stop_machine(now, target, true),
            Operation::Force(target) => {
                self.refused(admit_set(now, target, self.compat))?;
                self.set(target)?;
                self.machine.drain_and_flush().map_err(Error::Flush)
            }
            Operation::Set(target) => {
                self.refused(admit_set(now, target, self.compat))?;
                self.set(target)
            }
        }
    }

    fn stop_machine(&self, now: Situation, target: RunState, announced: bool) -> Result<(), Error> {
        let steps = self.refused(plan_stop(now, target, announced, self.compat))?;
        self.note(Happening::Stop {
            now,
            target,
            announced,
        });
        self.perform_all(&steps, now)
    }

    fn refused<T>(&self, plan: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::InvalidTransition(transition)) = &plan {
            self.note(Happening::Refused(*transition));
        }
        plan
    }

    fn set(&self, target: RunState) -> Result<(), Error> {
        self.note(Happening::Set { to: target });
        self.change_state(target).map_err(Error::from)
    }

    fn perform_all(&self, steps: &Steps, before: Situation) -> Result<(), Error> {
        // A stop that is not announced is the last before the process ends: it goes on whatever
        // happens.
        let last = steps.as_slice().first() == Some(&Step::SetState(RunState::Shutdown))
            && !steps.as_slice().contains(&Step::Emit(Notice::Stop));
        match self.perform(steps, before, Told::default(), last) {
            Ok(()) | Err(Cut::Exit { .. }) => Ok(()),
            Err(Cut::Abort(transition)) => Err(transition.into()),
            Err(Cut::Failed(error)) => Err(error),
        }
    }

    /// Performs a plan. `insist`: also when the vCPUs cannot be paused.
    fn perform(
        &self,
        steps: &Steps,
        before: Situation,
        told: Told,
        insist: bool,
    ) -> Result<(), Cut> {
        let _busy = Flag::raise(&self.busy);
        let mut flushed = Ok(());
        for step in steps {
            match step {
                Step::SetState(to) => {
                    self.change_state(to).map_err(Cut::Abort)?;
                }
                Step::PauseVcpus => match self.machine.pause_vcpus() {
                    Ok(()) => {}
                    Err(error) if insist => self.sink.report(&Report::Failed(Error::Pause(error))),
                    Err(error) => {
                        self.roll_back(before, steps);
                        return Err(Cut::Failed(Error::Pause(error)));
                    }
                },
                Step::ResumeVcpus => self.resume_vcpus(),
                Step::PrepareResume => self.machine.prepare_resume(),
                Step::StopClock => self.machine.stop_clock(),
                Step::StartClock => self.machine.start_clock(),
                Step::Handlers { running, state } => {
                    self.lists.handlers.notify(&StateNotice { running, state });
                }
                Step::Notify(listeners) => self.notify(listeners),
                Step::Emit(notice) => self.emit(notice, told),
                Step::ReportSignal(signal) => self.sink.report(&Report::Terminating(signal)),
                Step::ReportNotResettable => self.sink.report(&Report::CpusNotResettable),
                Step::DrainFlush => flushed = self.machine.drain_and_flush(),
                Step::SynchronizeState => self.machine.synchronize_state(),
                Step::ResetMachine(cause) => {
                    if let Err(error) = self.machine.reset(cause) {
                        return Err(Cut::Failed(Error::Reset(error)));
                    }
                }
                Step::SynchronizePostReset => self.machine.synchronize_post_reset(),
                Step::DropStale => self.drop_stale(),
                Step::WakeMachine => self.machine.wakeup(),
                Step::ClearWakeup => self.requests.wakeup.store(0, Ordering::Release),
                Step::Forget | Step::RequireReset => {
                    self.memory.set(self.situation().after(step, self.compat));
                }
                Step::LatchVmStop(state) => self.requests.latch_vmstop(state),
                Step::RequestShutdown(cause) => {
                    self.requests.shutdown(cause);
                }
                Step::Drop(phase) => self.dropped(phase),
                Step::Hold(_) => self.requests.suspend.store(true, Ordering::Release),
                Step::Exit { failure } => return Err(Cut::Exit { failure }),
            }
        }
        flushed.map_err(|error| Cut::Failed(Error::Flush(error)))
    }

    fn resume_vcpus(&self) {
        if self.state().is_running() {
            self.machine.resume_vcpus();
        } else {
            self.machine.keep_paused();
        }
    }

    /// The vCPUs were not paused: what the plan had begun is undone, and those of them that hold
    /// themselves run on.
    fn roll_back(&self, before: Situation, steps: &Steps) {
        let now = self.state();
        if now != before.state && self.state.set(before.state, &ROLL_BACK).is_ok() {
            self.memory.set(before);
            self.note(Happening::RolledBack {
                from: now,
                to: before.state,
            });
            self.sink.state_changed(now, before.state);
        }
        if steps.as_slice().contains(&Step::StopClock) {
            self.machine.start_clock();
        }
        if self.state().is_running() {
            self.machine.resume_vcpus();
        }
    }

    /// Requests that the guest made before it was reset mean nothing to the guest after it.
    fn drop_stale(&self) {
        if self.requests.suspend.swap(false, Ordering::AcqRel) {
            self.dropped(Phase::Suspend);
        }
        let again = self.requests.reset_pending();
        if again.is_guest() {
            // One that came in between stands.
            let taken = self.requests.reset.compare_exchange(
                again.index(),
                0,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if taken.is_ok() {
                self.dropped(Phase::Reset);
            }
        }
    }

    fn dropped(&self, phase: Phase) {
        let state = self.state();
        self.note(Happening::Dropped { phase, state });
        self.sink.report(&Report::Dropped { phase, state });
    }

    fn change_state(&self, to: RunState) -> Result<(), InvalidTransition<RunState>> {
        let before = self.situation();
        match self.state.set(to, self.compat.table()) {
            Ok(Change::Unchanged) => Ok(()),
            Ok(_) => {
                self.memory.set(before.entering(to, self.compat));
                self.note(Happening::State {
                    from: before.state,
                    to,
                });
                self.sink.state_changed(before.state, to);
                Ok(())
            }
            Err(error) => {
                self.note(Happening::Refused(error));
                Err(error)
            }
        }
    }

    fn notify(&self, listeners: Listeners) {
        self.notified(match listeners {
            Listeners::Suspend => self.lists.suspend.notify(&()),
            Listeners::Wakeup(reason) => self.lists.wakeup.notify(&reason),
            Listeners::Powerdown => self.lists.powerdown.notify(&()),
            Listeners::Shutdown(cause) => self.lists.shutdown.notify(&cause),
        });
    }

    /// Turns do not nest under `Current`, so a list never refuses a round that a turn begins.
    pub(crate) fn notified(&self, round: Result<(), NestingExceeded>) {
        if round.is_err() {
            self.sink.report(&Report::Failed(Error::TooManyDeferred));
        }
    }

    fn emit(&self, notice: Notice, told: Told) {
        let event = match notice {
            Notice::Stop => Event::Stop,
            Notice::Resume => Event::Resume,
            Notice::Suspend => Event::Suspend,
            Notice::Wakeup => Event::Wakeup,
            Notice::Powerdown => Event::Powerdown,
            Notice::Reset(reason) => Event::Reset {
                guest: reason.is_guest(),
                reason,
            },
            Notice::Shutdown(reason) => Event::Shutdown {
                guest: reason.is_guest(),
                reason,
            },
            Notice::GuestPanicked(action) => Event::GuestPanicked {
                action,
                info: told.panicked,
            },
            Notice::GuestCrashloaded => Event::GuestCrashloaded {
                action: GuestPanicAction::Run,
                info: told.crashloaded,
            },
        };
        self.sink.event(&event);
        if let Event::GuestPanicked {
            info: Some(info), ..
        }
        | Event::GuestCrashloaded {
            info: Some(info), ..
        } = event
        {
            self.sink.report(&Report::GuestCrashed(info));
        }
    }
}
