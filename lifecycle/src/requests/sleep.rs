//! Sleep and wakeup: the requests around ACPI S3, and what may end it.

use runstate::RunState;

use super::{Requests, WAKEUP_UNAPPLIED};
use crate::cause::WakeupReason;
use crate::compat::Compat;
use crate::error::Error;
use crate::posting::Posted;
use crate::sync::Ordering;

impl Requests {
    /// Asks for a suspend (ACPI S3). Ignored when the machine is suspended.
    pub fn suspend(&self) -> Posted {
        if self.state.load() == RunState::Suspended {
            return Posted::Continue;
        }
        self.suspend.store(true, Ordering::Release);
        self.wake.stop_current_vcpu();
        self.kick();
        Posted::Hold
    }

    /// Asks to wake a suspended machine. A reason that is not enabled does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotSuspended`].
    pub fn wakeup(&self, reason: WakeupReason) -> Result<(), Error> {
        if self.admit_wakeup(reason)? {
            self.latch_wakeup(reason, self.compat == Compat::Qemu7_2);
            self.kick();
        }
        Ok(())
    }

    /// Whether a wakeup for this reason is to be latched.
    pub(crate) fn admit_wakeup(&self, reason: WakeupReason) -> Result<bool, Error> {
        if self.state.load() != RunState::Suspended {
            return Err(Error::NotSuspended);
        }
        Ok(self.wakeup_enabled(reason))
    }

    pub(crate) fn latch_wakeup(&self, reason: WakeupReason, unapplied: bool) {
        match self.compat {
            Compat::Qemu7_2 => {
                let flag = if unapplied { WAKEUP_UNAPPLIED } else { 0 };
                self.wakeup.store(reason.index() | flag, Ordering::Release);
            }
            Compat::Current => {
                let _first_stands = self.wakeup.compare_exchange(
                    0,
                    reason.index(),
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
            }
        }
    }

    pub(crate) fn kick_wakeup(&self) {
        self.kick();
    }

    /// Lets this reason wake the machine, or not. At first every one does.
    pub fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        let bit = 1 << reason.index();
        if enabled {
            self.wakeup_mask.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.wakeup_mask.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    /// Whether this reason wakes the machine.
    #[must_use]
    pub fn wakeup_enabled(&self, reason: WakeupReason) -> bool {
        self.wakeup_mask.load(Ordering::Acquire) & (1 << reason.index()) != 0
    }

    /// The machine has something that can wake it.
    pub fn register_wakeup_support(&self) {
        self.wakeup_support.store(true, Ordering::Release);
    }

    /// Whether the machine has something that can wake it (`query-current-machine`).
    #[must_use]
    pub fn wakeup_support(&self) -> bool {
        self.wakeup_support.load(Ordering::Acquire)
    }
}
