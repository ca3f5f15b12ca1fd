//! The two Intel 8259A interrupt controllers of a PC, and their edge and level control registers.
//!
//! ```text
//!   lines 0, 1, 3 to 7 ────────▶ ┌────────┐
//!   lines 8 to 15 ─▶ ┌───────┐   │ master │──▶ processor
//!                    │ slave │──▶│ 2      │
//!                    └───────┘   └────────┘
//! ```
//!
//! | ports | chip | what |
//! |---|---|---|
//! | 0x20, 0x21 | master | commands (ICW1, OCW2, OCW3) and requests, in service or a poll; mask (OCW1) and ICW2 to 4 |
//! | 0xa0, 0xa1 | slave | the same |
//! | 0x4d0, 0x4d1 | both | lines that are triggered by level: all but 0, 1, 2, 8 and 13 |
//!
//! An edge waits until it is served, even when its line falls, as in QEMU and KVM. (On the chip it
//! becomes a spurious interrupt.) The slave's request goes to the master by level, so none is lost when
//! one follows another. A processor that takes an interrupt calls
//! [`acknowledge`](Pic::acknowledge); a guest can do it too, by a poll.
//!
//! What the lines do while the machine is being reset is no request.
//!
//! The rule that must never be broken: **the processor's line is as the registers say after every
//! access**, and is driven when it changes, not otherwise.
//!
//! Source: Intel 8259A data sheet (231468); Intel 82371SB (PIIX3), section 2.5, for 0x4d0 and 0x4d1.

mod chip;

use std::fmt;
use std::sync::Arc;

pub use chip::{Chip, Expects};

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{BusDevice, Error, IrqLine, Mapping, Pausable, ResetType, Resettable, SaveRestore};

/// Where the controllers are on a PC.
pub const PORTS: [Mapping; 3] = [
    Mapping::new(0x20, 2),
    Mapping::new(0xa0, 2).at_offset(SLAVE_OFFSET),
    Mapping::new(0x4d0, 2).at_offset(LEVEL_OFFSET),
];

/// How many lines there are, with the one that is the slave's.
pub const LINES: u32 = 16;

const SLAVE_OFFSET: u64 = 2;
const LEVEL_OFFSET: u64 = 4;

/// The master's input that is the slave's.
const CASCADE: u8 = 2;
/// The inputs that are by level always, and those that a guest may choose for.
const MASTER_FIXED: u8 = 1 << CASCADE;
const MASTER_FREE: u8 = 0xf8;
const SLAVE_FREE: u8 = 0xde;

/// The state of a [`Pic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The chip of lines 0 to 7.
    pub master: Chip,
    /// The chip of lines 8 to 15.
    pub slave: Chip,
}

/// The two controllers.
pub struct Pic {
    state: Guarded<State>,
    processor: Arc<dyn IrqLine>,
}

impl State {
    const FRESH: Self = Self {
        master: Chip::fresh(MASTER_FIXED),
        slave: Chip::fresh(0),
    };

    /// The master's input that asks for the processor.
    fn pending(&self) -> Option<u8> {
        self.master.pending(MASTER_FIXED)
    }

    /// Whether the processor's line is high.
    fn level(&self) -> bool {
        self.pending().is_some()
    }

    /// Tells the master of the slave.
    fn cascade(&mut self) {
        self.master.set(CASCADE, self.slave.pending(0).is_some());
    }

    fn read(&mut self, offset: u64) -> u8 {
        match offset {
            0 | 1 => {
                let pending = self.pending();
                self.master.read(offset, pending)
            }
            2 | 3 => {
                let pending = self.slave.pending(0);
                self.slave.read(offset & 1, pending)
            }
            4 => self.master.level & MASTER_FREE,
            5 => self.slave.level & SLAVE_FREE,
            _ => 0xff,
        }
    }

    fn write(&mut self, offset: u64, value: u8) {
        match offset {
            0 => self.master.command(value),
            1 => self.master.data(value),
            2 => self.slave.command(value),
            3 => self.slave.data(value),
            4 => self.master.level = MASTER_FIXED | (value & MASTER_FREE),
            5 => self.slave.level = value & SLAVE_FREE,
            _ => {}
        }
    }
}

impl Pic {
    /// Two controllers as after a reset, whose output is `processor`, the line to the processor.
    pub fn new(processor: Arc<dyn IrqLine>) -> Self {
        Self {
            state: Guarded::new(State::FRESH),
            processor,
        }
    }

    /// Drives a line. One that is not there, or is the slave's, has no effect.
    ///
    /// Thread safety: may be called from the [`IrqLine`] of any device.
    pub fn set(&self, line: u32, level: bool) {
        let Ok(line) = u8::try_from(line) else {
            return;
        };
        self.change(|state| match line {
            CASCADE => {}
            0..8 => state.master.set(line, level),
            8..16 => state.slave.set(line & 7, level),
            _ => {}
        });
    }

    /// The processor takes the interrupt of the highest priority: its vector. With none, it is that
    /// of a spurious interrupt.
    pub fn acknowledge(&self) -> u8 {
        self.change(|state| {
            let pending = state.pending();
            let input = state.master.acknowledge(pending);
            if pending == Some(CASCADE) {
                let pending = state.slave.pending(0);
                let input = state.slave.acknowledge(pending);
                state.slave.base | input
            } else {
                state.master.base | input
            }
        })
    }

    /// Changes the state, and drives the processor's line as it says.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.level();
        let result = change(&mut state);
        state.cascade();
        let after = state.level();
        if before != after {
            self.processor.set(after);
        }
        result
    }

    /// Forgets everything but the levels of the lines.
    fn forget(&self) {
        let mut state = self.state.lock();
        let lines = [state.master.lines, state.slave.lines];
        *state = State::FRESH;
        [state.master.lines, state.slave.lines] = lines;
        state.cascade();
    }
}

impl BusDevice for Pic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| self.change(|state| state.read(at)));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| {
            self.change(|state| state.write(at, value));
        });
    }
}

impl Resettable for Pic {
    fn enter(&self, _kind: ResetType) {
        self.forget();
    }

    fn hold(&self, _kind: ResetType) {
        self.processor.set(self.state.lock().level());
    }

    fn exit(&self, _kind: ResetType) {
        self.change(|state| {
            state.master.edges = 0;
            state.slave.edges = 0;
        });
    }
}

impl SaveRestore for Pic {
    type State = State;

    fn save(&self) -> State {
        *self.state.lock()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        let sound =
            state.master.is_sound(MASTER_FIXED, MASTER_FREE) && state.slave.is_sound(0, SLAVE_FREE);
        if !sound {
            return Err(Error::BadState {
                device: "pic",
                field: "lowest, base, level or expects of a chip",
                found: u64::from(state.master.lowest),
                expected: "as `save` returned it",
            });
        }
        let mut current = self.state.lock();
        *current = *state;
        current.cascade();
        self.processor.set(current.level());
        Ok(())
    }
}

impl Pausable for Pic {}

impl fmt::Debug for Pic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pic")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
