//! What every watchdog here consists of: registers behind a lock, and a countdown on the virtual
//! clock that ends once.
//!
//! ```text
//!   a register access, a tick:  catch up ─▶ change ─▶ catch up ─▶ (lock released) ─▶ tell
//! ```
//!
//! What follows from an expiry is the VMM's to decide. The guest goes on if it is allowed to, and may
//! start the watchdog again.
//!
//! The rules that must never be broken: **a start expires at most once**, and nobody is told
//! anything while the lock is held.

use std::fmt;
use std::sync::Arc;

use crate::sync::Guarded;
use crate::{Clock, Notify, PowerRequest, PowerSink};

/// What a watchdog is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Where an expiry goes.
    pub power: Arc<dyn PowerSink>,
    /// The virtual clock: it stands still while the VM is stopped or suspended, and so does the
    /// watchdog.
    pub clock: Arc<dyn Clock>,
    /// Called when [`next_deadline`](crate::Timed::next_deadline) may have changed.
    pub rearm: Arc<dyn Notify>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// The registers of a watchdog, one of which is when the countdown ends.
pub(crate) trait Registers: Copy {
    /// When the countdown ends, in nanoseconds of the virtual clock; `None` if there is none.
    fn expires_at(&mut self) -> &mut Option<u64>;

    /// The countdown has ended. Returns whether the VMM is to hear of it.
    fn expire(&mut self) -> bool;

    /// Begins a countdown of so many nanoseconds. One that is under way starts over.
    fn start(&mut self, now: u64, ns: u64) {
        *self.expires_at() = Some(now.saturating_add(ns));
    }

    /// Ends the countdown without an expiry.
    fn stop(&mut self) {
        *self.expires_at() = None;
    }

    /// Ends a countdown whose time is over. Returns whether the VMM is to hear of it.
    fn catch_up(&mut self, now: u64) -> bool {
        self.expires_at().take_if(|at| *at <= now).is_some() && self.expire()
    }
}

/// A watchdog with these registers.
pub(crate) struct Watchdog<R> {
    registers: Guarded<R>,
    wiring: Wiring,
}

impl<R: Registers> Watchdog<R> {
    pub(crate) fn new(registers: R, wiring: Wiring) -> Self {
        Self {
            registers: Guarded::new(registers),
            wiring,
        }
    }

    /// Catches up, makes an access, and then tells the others. A start that is due at once expires
    /// with the access that makes it; one access tells of an expiry once.
    pub(crate) fn access(&self, access: impl FnOnce(&mut R, u64)) {
        let mut registers = self.registers.lock();
        let now = self.wiring.clock.now_ns();
        let before = *registers.expires_at();
        let mut expired = registers.catch_up(now);
        access(&mut registers, now);
        expired |= registers.catch_up(now);
        let moved = before != *registers.expires_at();
        drop(registers);
        if expired {
            self.wiring.power.power(PowerRequest::WatchdogExpired);
        }
        if moved {
            self.rearm();
        }
    }

    pub(crate) fn tick(&self) {
        self.access(|_, _| ());
    }

    pub(crate) fn next_deadline(&self) -> Option<u64> {
        *self.registers.lock().expires_at()
    }

    /// The registers as they are: nobody catches up.
    pub(crate) fn load(&self) -> R {
        *self.registers.lock()
    }

    /// Changes the registers and tells nobody. Whoever has to knows when to [`rearm`](Self::rearm).
    pub(crate) fn change(&self, change: impl FnOnce(R) -> R) {
        let mut registers = self.registers.lock();
        *registers = change(*registers);
    }

    /// Says that the deadline may be another one.
    pub(crate) fn rearm(&self) {
        self.wiring.rearm.notify();
    }
}

impl<R: fmt::Debug> fmt::Debug for Watchdog<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registers.fmt(f)
    }
}
