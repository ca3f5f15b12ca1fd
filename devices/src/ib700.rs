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
//! The value 15 is no time at all: the watchdog expires in that write.
//!
//! The rule that must never be broken: **a start expires at most once.**
//!
//! Behaviour: QEMU's `ib700`; Linux's `ib700wdt` driver.

use crate::bus::{read_bytes, write_bytes};
use crate::watchdog::{Registers, Watchdog};
use crate::{BusDevice, Error, Mapping, Pausable, ResetType, Resettable, SaveRestore, Timed};

pub use crate::watchdog::Wiring;

/// Where the watchdog is: drivers expect it here, without looking.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x441, 4)];

/// The longest time, in seconds, which the value 0 asks for.
pub const MAX_SECONDS: u64 = 30;

/// By how much each step of the value shortens the time, in seconds.
const STEP_SECONDS: u64 = 2;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// The bits of the value that count.
const TIME_MASK: u8 = 0x0f;

/// The state of an [`Ib700`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// When the watchdog expires, in nanoseconds of the virtual clock; `None` while it is stopped.
    pub expires_at: Option<u64>,
}

/// The watchdog.
#[derive(Debug)]
pub struct Ib700(Watchdog<State>);

impl Registers for State {
    fn expires_at(&mut self) -> &mut Option<u64> {
        &mut self.expires_at
    }

    fn expire(&mut self) -> bool {
        true
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
        Self(Watchdog::new(State::default(), wiring))
    }

    fn write_byte(&self, offset: u64, value: u8) {
        match offset {
            0 | 1 => self.0.access(|state, _| state.stop()),
            2 | 3 => self
                .0
                .access(|state, now| state.start(now, timeout_ns(value))),
            _ => {}
        }
    }
}

impl Timed for Ib700 {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        self.0.next_deadline()
    }

    fn tick(&self) {
        self.0.tick();
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
        self.0.change(|_| State::default());
    }

    fn hold(&self, _kind: ResetType) {
        self.0.rearm();
    }
}

impl SaveRestore for Ib700 {
    type State = State;

    fn save(&self) -> State {
        self.0.load()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        self.0.change(|_| *state);
        self.0.rearm();
        Ok(())
    }
}

impl Pausable for Ib700 {}
