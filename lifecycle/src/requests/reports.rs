//! What vCPU threads and device timers tell of the guest. The main loop tells it on, as events, and
//! acts on it, at the head of its next turn.
//!
//! The rule that must never be broken: what a report leads to is requested by the main loop, after
//! its event. Nobody can see the consequence first.

use super::Requests;
use crate::panic::PanicInfo;
use crate::policy::PanicAction;
use crate::posting::Posted;
use crate::sync::{AtomicBool, Ordering};

impl Requests {
    /// The guest has saved itself to disk (ACPI S4): an event, and a shutdown.
    pub fn suspend_to_disk(&self) -> Posted {
        self.report(&self.suspend_disk)
    }

    /// The guest asked the VMM for a shutdown through pvpanic: an event, and a shutdown.
    pub fn guest_pvshutdown(&self) -> Posted {
        self.report(&self.pvshutdown)
    }

    /// A watchdog expired: an event, and what the watchdog action says by then. Several that were
    /// not served yet are one.
    ///
    /// As in QEMU the guest runs on until the main loop has acted: it may not even be a vCPU that
    /// found out.
    pub fn watchdog_expired(&self) -> Posted {
        self.report(&self.watchdog)
    }

    fn report(&self, latch: &AtomicBool) -> Posted {
        latch.store(true, Ordering::Release);
        self.kick();
        Posted::Continue
    }

    /// The guest panicked: from a vCPU thread. The main loop emits the event and acts on it.
    pub fn guest_panicked(&self, info: Option<PanicInfo>) -> Posted {
        let goes_on = self.policy.actions().panic == PanicAction::None;
        self.panicked.post(info);
        if !goes_on {
            self.wake.stop_current_vcpu();
        }
        self.kick();
        if goes_on {
            Posted::Continue
        } else {
            Posted::Hold
        }
    }

    /// The guest has loaded its crash kernel: from a vCPU thread.
    pub fn guest_crashloaded(&self, info: Option<PanicInfo>) -> Posted {
        self.crashloaded.post(info);
        self.kick();
        Posted::Continue
    }
}
