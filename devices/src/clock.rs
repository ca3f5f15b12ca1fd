//! Where a device takes its time from.
//!
//! A device never asks the host for the time: the VMM hands it a clock. The *virtual* clock stands
//! still while the VM is stopped; the *wall* clock (nanoseconds since 1970-01-01 00:00 UTC) runs
//! on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A clock, in nanoseconds.
///
/// Thread safety: called from vCPU threads and from the main loop, at times with the device's own
/// lock held. It must not block and must not call back into the device.
pub trait Clock: Send + Sync {
    /// The time, in nanoseconds since the clock's own start (for a wall clock, the Unix epoch).
    fn now_ns(&self) -> u64;
}

/// The host's wall clock, in nanoseconds since the Unix epoch; 0 if the host's clock is set before
/// 1970.
#[derive(Debug, Default, Clone, Copy)]
pub struct HostClock;

impl Clock for HostClock {
    fn now_ns(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            })
    }
}

/// A clock that moves only when it is told to, for tests, replay and fuzzing.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that reads `ns`.
    pub const fn new(ns: u64) -> Self {
        Self(AtomicU64::new(ns))
    }

    /// Sets the clock, forwards or backwards.
    pub fn set(&self, ns: u64) {
        self.0.store(ns, Ordering::Release);
    }

    /// Moves the clock forward by `ns`; it stops at the largest value instead of wrapping.
    pub fn advance(&self, ns: u64) {
        let now = self.now_ns();
        self.set(now.saturating_add(ns));
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
