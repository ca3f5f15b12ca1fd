//! The watchdog behind an ACPI WDAT table: a guest without PCI has a driver for it in every
//! mainline kernel (`wdat_wdt` in Linux).
//!
//! A WDAT says which register accesses make up each action of a watchdog, so the registers can be
//! anybody's. These are this crate's own. [`table`] describes them in the WDAT's terms.
//!
//! ```text
//!                 RUN = 1                      RESTART
//!   stopped ──────────────────▶ counting ◀─────────────────┐
//!      ▲          RUN = 0          │ │                     │
//!      ├───────────────────────────┘ └──────────────▶ expired (RUN is still 1)
//!      └─────────────────────────────── RUN = 0 ───────────┘
//! ```
//!
//! | offset | bytes | register | write | read |
//! |---|---|---|---|---|
//! | 0 | 1 | RUN | bit 0: 1 starts a watchdog that is stopped, 0 stops it | bit 0 |
//! | 1 | 1 | RESTART | anything: the countdown of a running watchdog starts over | 0 |
//! | 2 | 1 | REBOOT | bit 0: whether an expiry has consequences; 1 after a reset | bit 0 |
//! | 3 | 1 | STATUS | a 1 in bit 0 clears it | bit 0: the watchdog has expired |
//! | 4 | 2 | COUNT | what the next start counts down from, in periods | the same |
//! | 6 | 2 | CURRENT | ignored | periods left, begun ones included; 0 if expired, COUNT if stopped |
//! | 8 | 2 | PERIOD | ignored | the length of a period, in milliseconds |
//!
//! Time is that of the virtual clock. A countdown from 0 expires at once. With REBOOT clear an
//! expiry ends the countdown and is not seen. Each register has its address to itself, so no action
//! needs a read before its write, which two processors could do across each other.
//!
//! STATUS outlives a reset, so that the next boot can tell why it happened. The guest clears it
//! (Linux does when its driver starts).
//!
//! The rule that must never be broken: **a start expires at most once.**
//!
//! Source: Microsoft, Hardware Watchdog Timers Design Specification, version 1.01.
//! Behaviour: what Linux's `wdat_wdt` and `acpi_watchdog` expect.

mod registers;
pub mod table;

use crate::bus::{read_bytes, write_bytes};
use crate::watchdog::Watchdog;
use crate::{
    BusDevice, Error, Granularity, Mapping, Pausable, ResetType, Resettable, SaveRestore, Timed,
};

pub use crate::watchdog::Wiring;

/// Where the registers are unless the VMM has them elsewhere and says so in the table.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x660, 10)];

/// The length of a period, in milliseconds.
pub const PERIOD_MS: u16 = 100;
/// COUNT after a reset: one minute.
pub const DEFAULT_COUNT: u16 = 600;

const RUN_OFFSET: u64 = 0;
const RESTART_OFFSET: u64 = 1;
const REBOOT_OFFSET: u64 = 2;
const STATUS_OFFSET: u64 = 3;
const COUNT_OFFSET: u64 = 4;
const CURRENT_OFFSET: u64 = 6;
const PERIOD_OFFSET: u64 = 8;

/// The state of a [`Wdat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// RUN.
    pub running: bool,
    /// REBOOT.
    pub reboot: bool,
    /// STATUS.
    pub expired: bool,
    /// COUNT, in periods.
    pub count: u16,
    /// When the countdown ends, in nanoseconds of the virtual clock; `None` if the watchdog is
    /// stopped or has expired.
    pub expires_at: Option<u64>,
}

/// The watchdog.
#[derive(Debug)]
pub struct Wdat(Watchdog<State>);

impl Wdat {
    /// A watchdog that is stopped and has never expired.
    pub fn new(wiring: Wiring) -> Self {
        Self(Watchdog::new(State::fresh(), wiring))
    }
}

impl Timed for Wdat {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        self.0.next_deadline()
    }

    fn tick(&self) {
        self.0.tick();
    }
}

impl BusDevice for Wdat {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // One look at the clock, so that a read of CURRENT is one value and agrees with STATUS.
        self.0
            .access(|state, now| read_bytes(offset, data, |at| state.read(at, now)));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.0.access(|state, now| {
            write_bytes(offset, data, |at, value| state.write(at, value, now));
        });
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for Wdat {
    fn enter(&self, _kind: ResetType) {
        self.0.change(State::after_reset);
    }

    fn hold(&self, _kind: ResetType) {
        self.0.rearm();
    }
}

impl SaveRestore for Wdat {
    type State = State;

    fn save(&self) -> State {
        self.0.load()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if !state.is_sound() {
            return Err(Error::BadState {
                device: "wdat",
                field: "expires_at",
                found: state.expires_at.unwrap_or(0),
                expected: "absent in a watchdog that is stopped",
            });
        }
        self.0.change(|_| *state);
        self.0.rearm();
        Ok(())
    }
}

impl Pausable for Wdat {}
