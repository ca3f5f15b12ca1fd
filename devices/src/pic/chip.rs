//! One 8259A, as a pure function of its registers and its inputs: no lock, no line.
//!
//! ```text
//!            ICW1           ICW2             ICW3              ICW4
//!   ready ─────────▶ Icw2 ─────────▶ Icw3 ─────────▶ Icw4 ─────────▶ ready
//!                     └── if it is alone, without ICW3; and without ICW4 if ICW1 says so
//! ```

/// Command port: this is ICW1; or else, this is OCW3.
const ICW1: u8 = 0x10;
const OCW3: u8 = 0x08;

/// ICW1.
const ICW4_FOLLOWS: u8 = 0x01;
const ALONE: u8 = 0x02;
const LEVEL_TRIGGERED: u8 = 0x08;
/// ICW4.
const AUTO_END: u8 = 0x02;
const SPECIAL_NESTING: u8 = 0x10;
/// OCW3.
const READS: u8 = 0x02;
const IN_SERVICE: u8 = 0x01;
const POLL: u8 = 0x04;
const MASKS: u8 = 0x40;
const SPECIAL: u8 = 0x20;

/// A poll's answer: there is an interrupt.
const FOUND: u8 = 0x80;
/// The input that a spurious interrupt is taken for.
const SPURIOUS: u8 = 7;

/// What the data port takes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expects {
    /// The mask: the chip is ready.
    Mask,
    /// ICW2: the vector.
    Icw2,
    /// ICW3: which is the slave, or whose.
    Icw3,
    /// ICW4: the modes.
    Icw4,
}

/// A chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chip {
    /// The levels of its inputs, a bit each.
    pub lines: u8,
    /// Edges that wait to be served, a bit each.
    pub edges: u8,
    /// The inputs that are triggered by level, a bit each (ELCR).
    pub level: u8,
    /// The mask register.
    pub mask: u8,
    /// The in-service register.
    pub in_service: u8,
    /// The first of its eight vectors.
    pub base: u8,
    /// The input of the lowest priority, 0 to 7; the one after it has the highest.
    pub lowest: u8,
    /// What the data port takes next.
    pub expects: Expects,
    /// ICW1, as it was written.
    pub icw1: u8,
    /// ICW4, as it was written; 0 without one.
    pub icw4: u8,
    /// Automatic ends rotate the priorities.
    pub rotates: bool,
    /// Special mask mode.
    pub special_mask: bool,
    /// The command port shows the in-service register, not the requests.
    pub shows_service: bool,
    /// The next read is a poll.
    pub polled: bool,
}

impl Chip {
    /// A chip whose inputs in `level` are triggered by level, whatever the guest says.
    pub(super) const fn fresh(level: u8) -> Self {
        Self {
            lines: 0,
            edges: 0,
            level,
            mask: 0,
            in_service: 0,
            base: 0,
            lowest: 7,
            expects: Expects::Mask,
            icw1: 0,
            icw4: 0,
            rotates: false,
            special_mask: false,
            shows_service: false,
            polled: false,
        }
    }

    /// Drives an input.
    pub(super) fn set(&mut self, input: u8, level: bool) {
        let bit = bit(input);
        if level {
            self.edges |= bit & !self.lines;
            self.lines |= bit;
        } else {
            self.lines &= !bit;
        }
    }

    /// The interrupt request register.
    pub(super) fn requests(&self) -> u8 {
        let level = if self.icw1 & LEVEL_TRIGGERED != 0 {
            u8::MAX
        } else {
            self.level
        };
        (self.lines & level) | (self.edges & !level)
    }

    /// The input that asks for the processor: of the highest priority, and higher than what is in
    /// service. Of the inputs in `nested`, what is in service does not count in special fully nested
    /// mode.
    pub(super) fn pending(&self, nested: u8) -> Option<u8> {
        let mut served = self.in_service;
        if self.special_mask {
            served &= !self.mask;
        }
        if self.icw4 & SPECIAL_NESTING != 0 {
            served &= !nested;
        }
        let first = self.first(self.requests() & !self.mask)?;
        match self.first(served) {
            Some(served) if self.rank(served) <= self.rank(first) => None,
            _ => Some(first),
        }
    }

    /// The processor takes what is pending. Returns the input: a spurious one if nothing is.
    pub(super) fn acknowledge(&mut self, pending: Option<u8>) -> u8 {
        let Some(input) = pending else {
            return SPURIOUS;
        };
        self.edges &= !bit(input);
        if self.icw4 & AUTO_END == 0 {
            self.in_service |= bit(input);
        } else if self.rotates {
            self.lowest = input;
        }
        input
    }

    /// A read of the command port (`port` 0) or the data port.
    pub(super) fn read(&mut self, port: u64, pending: Option<u8>) -> u8 {
        if std::mem::take(&mut self.polled) {
            return match pending {
                Some(_) => FOUND | self.acknowledge(pending),
                None => 0,
            };
        }
        match (port, self.shows_service) {
            (0, false) => self.requests(),
            (0, true) => self.in_service,
            _ => self.mask,
        }
    }

    /// A write to the command port.
    pub(super) fn command(&mut self, value: u8) {
        if value & ICW1 != 0 {
            *self = Self {
                lines: self.lines,
                icw1: value,
                expects: Expects::Icw2,
                ..Self::fresh(self.level)
            };
        } else if value & OCW3 != 0 {
            self.polled = value & POLL != 0;
            if value & READS != 0 {
                self.shows_service = value & IN_SERVICE != 0;
            }
            if value & MASKS != 0 {
                self.special_mask = value & SPECIAL != 0;
            }
        } else {
            self.end(value >> 5, value & 7);
        }
    }

    /// A write to the data port.
    pub(super) fn data(&mut self, value: u8) {
        let last = if self.icw1 & ICW4_FOLLOWS == 0 {
            Expects::Mask
        } else {
            Expects::Icw4
        };
        self.expects = match self.expects {
            Expects::Mask => {
                self.mask = value;
                Expects::Mask
            }
            Expects::Icw2 => {
                self.base = value & 0xf8;
                if self.icw1 & ALONE == 0 {
                    Expects::Icw3
                } else {
                    last
                }
            }
            // How a PC's two chips hang together is not the guest's to say.
            Expects::Icw3 => last,
            Expects::Icw4 => {
                self.icw4 = value;
                Expects::Mask
            }
        };
    }

    /// OCW2: ends of interrupts, and rotations.
    fn end(&mut self, command: u8, input: u8) {
        match command {
            0 => self.rotates = false,
            4 => self.rotates = true,
            // The one in service that has the highest priority.
            1 | 5 => {
                if let Some(served) = self.first(self.in_service) {
                    self.in_service &= !bit(served);
                    if command == 5 {
                        self.lowest = served;
                    }
                }
            }
            3 => self.in_service &= !bit(input),
            6 => self.lowest = input,
            7 => {
                self.in_service &= !bit(input);
                self.lowest = input;
            }
            _ => {}
        }
    }

    /// The one of the highest priority.
    fn first(&self, inputs: u8) -> Option<u8> {
        let inputs = (0..8).filter(|input| inputs & bit(*input) != 0);
        inputs.min_by_key(|input| self.rank(*input))
    }

    /// How many have a higher priority.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    /// Whether a saved chip can be: one with these inputs by level, and these others that may be.
    pub(super) fn is_sound(&self, fixed: u8, free: u8) -> bool {
        self.lowest < 8
            && self.base & 7 == 0
            && self.level & !free == fixed
            && (self.icw1 == 0 || self.icw1 & ICW1 != 0)
            && (self.expects == Expects::Mask || self.icw1 != 0)
    }
}

fn bit(input: u8) -> u8 {
    1_u8.checked_shl(input.into()).unwrap_or(0)
}
