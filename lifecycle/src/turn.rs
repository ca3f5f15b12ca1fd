//! A turn of the main loop: looks into the latches phase by phase, and has the plans performed.
//!
//! ```text
//!  for each phase:   look into its latches ─▶ decide ─▶ perform ─▶ what callbacks deferred
//! ```
//!
//! The rule that must never be broken: a latch is taken in the phase that serves it, not before.

use runstate::{InvalidTransition, RunState};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::decide::decide;
use crate::error::Error;
use crate::event::{EventSink, Report};
use crate::executor::{Cut, Flag, Operation, Told};
use crate::exit::ExitStatus;
use crate::latch::ShutdownRequest;
use crate::lifecycle::{Lifecycle, Turn};
use crate::machine::Machine;
use crate::replay::Checkpoint;
use crate::requests::WAKEUP_UNAPPLIED;
use crate::step::{Latched, Phase, Step};
use crate::sync::{AtomicBool, Ordering};
use crate::trace::Happening;

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
                    // What callbacks still wanted of the machine has no machine any more.
                    self.deferred.take();
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
            // A shutdown and a reset are complete with their outcome.
            if !matches!(phase, Phase::Shutdown | Phase::Reset) {
                self.perform_deferred();
            }
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
            Phase::Reports => {
                let crashloaded = requests.crashloaded.take();
                let panicked = requests.panicked.take();
                let take = |flag: &AtomicBool| flag.swap(false, Ordering::AcqRel);
                latched.suspend_disk = take(&requests.suspend_disk);
                latched.pvshutdown = take(&requests.pvshutdown);
                latched.watchdog = take(&requests.watchdog);
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
                // A signal's own request powers off: one that came in just now has yet to follow.
                let reports = match self.compat {
                    Compat::Qemu7_2 => latched.shutdown.is_some(),
                    Compat::Current => latched.shutdown.is_some_and(|request| request.poweroff),
                };
                latched.signal = reports.then(|| requests.signal.take()).flatten();
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
}
