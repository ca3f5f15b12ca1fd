//! What a device asks of the VM's lifecycle.
//!
//! A device decides nothing about the VM. It posts a request and goes on: the write that raised it
//! completes, and the VMM's main loop does what its policy says, later. That is why a guest can
//! reset itself from inside any device.

use std::sync::Arc;

use crate::sync::Guarded;

/// Why a suspended guest wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WakeupReason {
    /// The alarm of the real-time clock.
    Rtc,
    /// The ACPI power-management timer.
    PmTimer,
    /// Anything else: a key, the monitor, a serial byte.
    Other,
}

/// A request that a guest makes through a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PowerRequest {
    /// Reset the machine. In QEMU's words: the cause is `guest-reset`.
    Reset,
    /// Power the machine off (`guest-shutdown`).
    Shutdown {
        /// The process exit status that the guest asked for, unmasked; an operating system keeps
        /// its low 8 bits.
        exit_code: Option<u32>,
    },
    /// Enter ACPI S3.
    Suspend,
    /// Enter ACPI S4: the guest has saved itself and powers off.
    SuspendToDisk,
    /// Leave S3. Means nothing in a VM that is not suspended.
    Wakeup(WakeupReason),
    /// The guest's kernel has panicked.
    GuestPanicked,
    /// The guest's kernel has panicked and runs its crash kernel.
    GuestCrashloaded,
    /// The guest has asked to be shut down through pvpanic. In QEMU's words: the event is
    /// `GUEST_PVSHUTDOWN`, and then a shutdown follows (`guest-shutdown`).
    PvShutdown,
    /// A watchdog has expired. What happens then is the policy's: the event is `WATCHDOG`, with the
    /// action. Comes from a vCPU's register access or from a [`Timed::tick`](crate::Timed::tick).
    WatchdogExpired,
}

/// Where devices post their [`PowerRequest`]s.
///
/// Thread safety: called from vCPU threads and from the main loop, never with a device's lock held.
/// It must not block and must not wait for the request to be served (the vCPU that raised it could
/// then never be paused). A hostile guest posts as fast as it can run: a sink keeps a latch for
/// each kind, not a queue.
pub trait PowerSink: Send + Sync {
    /// Posts a request.
    fn power(&self, request: PowerRequest);

    /// Says whether `reason` may wake the guest. Called when a guest writes its wakeup-enable bits
    /// and when they are reset. A VMM without suspend leaves it as it is: nothing happens.
    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        let _ = (reason, enabled);
    }
}

impl<S: PowerSink + ?Sized> PowerSink for Arc<S> {
    fn power(&self, request: PowerRequest) {
        (**self).power(request);
    }

    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        (**self).enable_wakeup(reason, enabled);
    }
}

/// How many requests a [`PowerProbe`] keeps.
const PROBE_LIMIT: usize = 1024;

/// A sink that remembers what it was asked, for tests. It keeps the first 1024 requests and drops
/// the rest.
#[derive(Debug, Default)]
pub struct PowerProbe {
    seen: Guarded<Vec<PowerRequest>>,
    enables: Guarded<Vec<(WakeupReason, bool)>>,
}

impl PowerProbe {
    /// A sink that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes what was requested since the last call, in order.
    pub fn take(&self) -> Vec<PowerRequest> {
        std::mem::take(&mut *self.seen.lock())
    }

    /// Takes what wakeup reasons were switched since the last call, in order.
    pub fn take_enables(&self) -> Vec<(WakeupReason, bool)> {
        std::mem::take(&mut *self.enables.lock())
    }
}

impl PowerSink for PowerProbe {
    fn power(&self, request: PowerRequest) {
        let mut seen = self.seen.lock();
        if seen.len() < PROBE_LIMIT {
            seen.push(request);
        }
    }

    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        let mut enables = self.enables.lock();
        if enables.len() < PROBE_LIMIT {
            enables.push((reason, enabled));
        }
    }
}
