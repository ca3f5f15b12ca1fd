//! Performs plans on the machine: a start, a stop, a turn of the main loop.
//!
//! Nothing is decided here. Under [`Compat::Qemu7_2`] a callback that asks for a change gets it at
//! once, in the middle of the present one, as in QEMU. Under [`Compat::Current`] changes do not
//! nest: it waits until the present plan is complete, so no plan is overtaken by another.
//!
//! The rule that must never be broken: a plan that cannot go on leaves the machine as it was, or
//! stopped.

use core::cell::Cell;

use notifiers::NestingExceeded;
use runstate::{Change, InvalidTransition, RunState, TransitionTable};

use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::decide::{admit_set, plan_reset, plan_start, plan_stop, start_takes_vmstop};
use crate::error::{Error, MachineError};
use crate::event::{Event, EventSink, Report};
use crate::handlers::StateNotice;
use crate::lifecycle::{Lifecycle, Outcome};
use crate::machine::Machine;
use crate::panic::{GuestPanicAction, PanicInfo};
use crate::step::{Listeners, Notice, Phase, Situation, Step, Steps};
use crate::sync::Ordering;
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
pub(crate) enum Cut {
    /// The process ends.
    Exit { failure: bool },
    /// `Qemu7_2`: QEMU aborts here.
    Abort(InvalidTransition<RunState>),
    /// Something failed, and the plan was taken back.
    Failed(Error),
}

/// What the guest told with its reports, for the events of this turn.
#[derive(Default, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) panicked: Option<PanicInfo>,
    pub(crate) crashloaded: Option<PanicInfo>,
}

/// Sets a flag, and clears it when dropped: also when a callback panics.
pub(crate) struct Flag<'a>(&'a Cell<bool>, bool);

impl<'a> Flag<'a> {
    pub(crate) fn raise(cell: &'a Cell<bool>) -> Self {
        Self(cell, cell.replace(true))
    }
}

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

impl<M: Machine, S: EventSink> Lifecycle<M, S> {
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

    pub(crate) fn perform_deferred(&self) {
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

    /// Resets the machine now; its vCPUs must be paused. At power-on with the cause `none`, which
    /// nobody is told of; before a snapshot is loaded with `snapshot-load`; and in a machine's own
    /// part of a wakeup. Everybody else asks for a reset and leaves it to a turn.
    ///
    /// # Errors
    ///
    /// [`Error::Reset`]: the machine needs another reset before it runs.
    pub fn system_reset(&self, cause: ShutdownCause) -> Result<(), Error> {
        let result = self.perform_all(&plan_reset(cause, self.compat), self.situation());
        if result.is_err() {
            let now = self.situation();
            self.memory.set(now.after(Step::RequireReset, self.compat));
        }
        result
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
    pub(crate) fn perform(
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
                Step::PauseVcpus => match self.pause_vcpus() {
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
                Step::RequestPoweroff(cause) => {
                    self.requests.post_poweroff(cause);
                }
                Step::RequestReset(cause) => {
                    self.request_reset(cause);
                }
                Step::RequestPowerdown => {
                    self.requests.powerdown();
                }
                Step::ReportWatchdog => self.sink.report(&Report::WatchdogFired),
                Step::InjectNmi => {
                    if let Err(error) = self.machine.inject_nmi() {
                        self.sink.report(&Report::Failed(error));
                    }
                }
                Step::Drop(phase) => self.dropped(phase),
                Step::Hold(_) => self.requests.suspend.store(true, Ordering::Release),
                Step::Exit { failure } => return Err(Cut::Exit { failure }),
            }
        }
        flushed.map_err(|error| Cut::Failed(Error::Flush(error)))
    }

    fn pause_vcpus(&self) -> Result<(), MachineError> {
        self.note(Happening::Pausing);
        let paused = self.machine.pause_vcpus();
        self.note(if paused.is_ok() {
            Happening::Paused
        } else {
            Happening::PauseFailed
        });
        paused
    }

    fn resume_vcpus(&self) {
        if self.state().is_running() {
            self.note(Happening::Resumed);
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
            self.note(Happening::Resumed);
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

    pub(crate) fn change_state(&self, to: RunState) -> Result<(), InvalidTransition<RunState>> {
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

    /// Tells of an event.
    pub(crate) fn announce(&self, event: Event) {
        self.note(Happening::Event(event));
        self.sink.event(&event);
    }

    fn emit(&self, notice: Notice, told: Told) {
        let event = match notice {
            Notice::Stop => Event::Stop,
            Notice::Resume => Event::Resume,
            Notice::Suspend => Event::Suspend,
            Notice::SuspendDisk => Event::SuspendDisk,
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
            Notice::GuestPvshutdown => Event::GuestPvshutdown,
            Notice::Watchdog(action) => Event::Watchdog { action },
            Notice::GuestPanicked(action) => Event::GuestPanicked {
                action,
                info: told.panicked,
            },
            Notice::GuestCrashloaded => Event::GuestCrashloaded {
                action: GuestPanicAction::Run,
                info: told.crashloaded,
            },
        };
        self.announce(event);
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
