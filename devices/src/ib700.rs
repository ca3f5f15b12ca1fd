//! `ib700`: a watchdog of four ports, as on single-board computers of iBASE.
//!
//! ```text
//!            write to 0x443 or 0x444
//!   stopped ────────────────────────▶ counting ──▶ (each such write starts over)
//!      ▲     write to 0x441 or 0x442     │
//!      ├─────────────────────────────────┤
//!      └──── the time is over: WatchdogExpired, once
//! ```
//!
//! | port | write | read |
//! |---|---|---|
//! | 0x441, 0x442 | stops | 0xFF |
//! | 0x443, 0x444 | starts, or starts over: 30 - 2 × (low 4 bits) seconds of the virtual clock | 0xFF |
//!
//! The value 15 is no time at all: the watchdog expires in that write. What follows from an expiry
//! is the VMM's to decide. The guest goes on if it is allowed to, and may start the watchdog again.
//!
//! The rule that must never be broken: **a start expires at most once.**
//!
//! Behaviour: QEMU's `ib700`; Linux's `ib700wdt` driver.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{
    BusDevice, Clock, Error, Mapping, Notify, Pausable, PowerRequest, PowerSink, ResetType,
    Resettable, SaveRestore, Timed,
};

/// Where the watchdog is: drivers expect it here, without looking.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x441, 4)];

/// The longest time, in seconds, which the value 0 asks for.
pub const MAX_SECONDS: u64 = 30;

/// By how much each step of the value shortens the time, in seconds.
const STEP_SECONDS: u64 = 2;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// The bits of the value that count.
const TIME_MASK: u8 = 0x0f;

/// What an [`Ib700`] is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Where an expiry goes.
    pub power: Arc<dyn PowerSink>,
    /// The virtual clock: it stands still while the VM is stopped or suspended, and so does the
    /// watchdog.
    pub clock: Arc<dyn Clock>,
    /// Called when [`next_deadline`](Timed::next_deadline) may have changed.
    pub rearm: Arc<dyn Notify>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// The state of an [`Ib700`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// When the watchdog expires, in nanoseconds of the virtual clock; `None` while it is stopped.
    pub expires_at: Option<u64>,
}

/// The watchdog.
pub struct Ib700 {
    state: Guarded<State>,
    wiring: Wiring,
}

impl State {
    /// Stops a watchdog whose time is over. Returns whether it was.
    fn take_expiry(&mut self, now: u64) -> bool {
        self.expires_at.take_if(|at| *at <= now).is_some()
    }
}

/// How long `value` gives the guest, in nanoseconds.
fn timeout_ns(value: u8) -> u64 {
    let cut = u64::from(value & TIME_MASK).saturating_mul(STEP_SECONDS);
    MAX_SECONDS
        .saturating_sub(cut)
        .saturating_mul(NS_PER_SECOND)
}

impl Ib700 {
    /// A watchdog that is stopped.
    pub fn new(wiring: Wiring) -> Self {
        Self {
            state: Guarded::new(State::default()),
            wiring,
        }
    }

    /// Catches up, changes the state, and then tells the others. A start that is due at once expires
    /// with the access that makes it; one access tells of an expiry once.
    fn update(&self, change: impl FnOnce(&mut State, u64)) {
        let mut state = self.state.lock();
        let now = self.wiring.clock.now_ns();
        let before = state.expires_at;
        let mut expired = state.take_expiry(now);
        change(&mut state, now);
        expired |= state.take_expiry(now);
        let moved = before != state.expires_at;
        drop(state);
        if expired {
            self.wiring.power.power(PowerRequest::WatchdogExpired);
        }
        if moved {
            self.wiring.rearm.notify();
        }
    }

    fn write_byte(&self, offset: u64, value: u8) {
        match offset {
            0 | 1 => self.update(|state, _| state.expires_at = None),
            2 | 3 => self.update(|state, now| {
                state.expires_at = Some(now.saturating_add(timeout_ns(value)));
            }),
            _ => {}
        }
    }
}

impl Timed for Ib700 {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        self.state.lock().expires_at
    }

    fn tick(&self) {
        self.update(|_, _| ());
    }
}

impl BusDevice for Ib700 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |_| 0xff);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for Ib700 {
    fn enter(&self, _kind: ResetType) {
        *self.state.lock() = State::default();
    }

    fn hold(&self, _kind: ResetType) {
        self.wiring.rearm.notify();
    }
}

impl SaveRestore for Ib700 {
    type State = State;

    fn save(&self) -> State {
        *self.state.lock()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        *self.state.lock() = *state;
        self.wiring.rearm.notify();
        Ok(())
    }
}

impl Pausable for Ib700 {}

impl fmt::Debug for Ib700 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ib700")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
