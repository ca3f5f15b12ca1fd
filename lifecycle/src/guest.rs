//! What the guest, its devices and its past do to the machine, told on the main loop's thread:
//! panics, resets, wakeups, and the state that a migration brings.
//!
//! The rule that must never be broken: an event that explains a stop comes before the stop.

use runstate::{InvalidTransition, RunState};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::error::Error;
use crate::event::{Event, EventSink, Report};
use crate::lifecycle::{Lifecycle, Outcome};
use crate::machine::Machine;
use crate::panic::{GuestPanicAction, PanicInfo, panic_action};
use crate::posting::{Posted, ResetAdmission, admit_reset};

impl<M: Machine, S: EventSink> Lifecycle<M, S> {
    /// An incoming machine is complete: it enters the state that its source had, by name.
    ///
    /// A live machine starts if [`autostart`](Self::autostart) says so (one that was suspended
    /// stays suspended), else it is paused. A name that is unknown, or not that of a state which
    /// can be restored, is `paused`: a stream cannot do harm. Returns the state it was taken for.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`] when the machine is not `inmigrate`.
    pub fn restore(&self, name: &str) -> Result<RunState, Error> {
        let table = self.compat.table();
        if self.state() != RunState::InMigrate {
            let (from, to) = (self.state(), RunState::Paused);
            return Err(Error::InvalidTransition(InvalidTransition { from, to }));
        }
        let source = name
            .parse::<RunState>()
            .ok()
            .filter(|state| table.allows(RunState::InMigrate, *state))
            .unwrap_or(RunState::Paused);
        let sleeps = source == RunState::Suspended && self.compat == Compat::Current;
        if source.is_running() || sleeps {
            let mut memory = self.memory.get();
            memory.was_suspended = sleeps;
            self.memory.set(memory);
            if self.autostart() {
                self.start()?;
            } else {
                self.set_state(RunState::Paused)?;
            }
        } else {
            self.set_state(source)?;
        }
        Ok(source)
    }

    /// The guest panicked, reported on the main loop's thread. vCPU threads use
    /// [`Requests::guest_panicked`](crate::Requests::guest_panicked).
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop).
    pub fn guest_panicked(&self, info: Option<PanicInfo>) -> Result<Outcome, Error> {
        let action = panic_action(self.policy().actions());
        self.announce(Event::GuestPanicked { action, info });
        let outcome = match action {
            GuestPanicAction::Run => Ok(Outcome::Done),
            GuestPanicAction::Pause => self.stop(RunState::GuestPanicked),
            GuestPanicAction::Poweroff => {
                let stopped = self.stop(RunState::GuestPanicked);
                let aborts = self.compat == Compat::Qemu7_2;
                if !(aborts && matches!(stopped, Err(Error::InvalidTransition(_)))) {
                    self.requests.shutdown(ShutdownCause::GuestPanic);
                }
                stopped
            }
        };
        if let Some(info) = info {
            self.sink.report(&Report::GuestCrashed(info));
        }
        outcome
    }

    /// The guest has loaded its crash kernel, reported on the main loop's thread.
    pub fn guest_crashloaded(&self, info: Option<PanicInfo>) {
        self.announce(Event::GuestCrashloaded {
            action: GuestPanicAction::Run,
            info,
        });
        if let Some(info) = info {
            self.sink.report(&Report::GuestCrashed(info));
        }
    }

    /// The guest saved itself to disk (ACPI S4): an event, and a shutdown.
    pub fn suspend_to_disk(&self) {
        self.announce(Event::SuspendDisk);
        self.requests.shutdown(ShutdownCause::GuestShutdown);
    }

    /// Asks for a reset, and reports at once if it has to be a shutdown.
    pub fn request_reset(&self, cause: ShutdownCause) -> Posted {
        let actions = self.policy().actions();
        let admission = admit_reset(cause, actions, self.requests.cpus_resettable());
        if admission == ResetAdmission::NotResettable {
            self.sink.report(&Report::CpusNotResettable);
        }
        self.requests.post_reset(cause, admission, false)
    }

    /// Asks to wake a suspended machine. Under [`Compat::Qemu7_2`] it reads `running` at once.
    ///
    /// # Errors
    ///
    /// [`Error::NotSuspended`].
    pub fn request_wakeup(&self, reason: WakeupReason) -> Result<(), Error> {
        if self.requests.admit_wakeup(reason)? {
            if self.compat == Compat::Qemu7_2 {
                self.set_state(RunState::Running)?;
            }
            self.requests.latch_wakeup(reason, false);
            self.requests.kick_wakeup();
        }
        Ok(())
    }

    /// QMP's `system_wakeup`.
    ///
    /// # Errors
    ///
    /// [`Error::WakeupNotSupported`], [`Error::NotSuspended`].
    pub fn system_wakeup(&self) -> Result<(), Error> {
        if !self.requests.wakeup_support() {
            return Err(Error::WakeupNotSupported);
        }
        self.request_wakeup(WakeupReason::Other)
    }
}
