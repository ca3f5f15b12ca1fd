//! One counter of the timer, as a pure function of its registers and the time: no lock, no line.
//!
//! ```text
//!                     count written; modes 1 and 5: trigger
//!   control word ─▶ Idle ───────────▶ load at the next pulse ─▶ Counting ◀── gate ──▶ Paused
//!                    ▲                         ▲                   │
//!                    └── mode 0: first byte    └── new count (0, 4), trigger (1, 2, 3, 5)
//! ```
//!
//! What the guest writes and reads is here; `pulses.rs` has what the pulses do meanwhile. Time is the
//! number of the last pulse of the timer's crystal, [`HZ`](super::HZ) a second. However
//! long the time since the last look, catching up costs the same.
//!
//! The rule that must never be broken: **[`settle`](Counter::settle) comes before any look**, so that
//! `since` is the beginning of the cycle, or half cycle, that is under way.

mod pulses;

/// How a count is read and written: bits 5 and 4 of a control word.
const ACCESS_SHIFT: u8 = 4;
const LOW_ONLY: u8 = 1;
const HIGH_ONLY: u8 = 2;
const BOTH: u8 = 3;
/// Counts are decimal: bit 0 of a control word.
const BCD: u8 = 0x01;
/// What a counter keeps of a control word.
const CONTROL: u8 = 0x3f;

/// Status: the output is high.
const STATUS_OUT: u8 = 0x80;
/// Status: the count that was written has not been loaded.
const STATUS_NULL: u8 = 0x40;

/// What a counter is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// It has a value and nothing to count: it waits for a count, or for a trigger.
    Idle {
        /// The value.
        left: u32,
    },
    /// Its gate is low; or, in modes 2 and 3, its count is 1, which cannot be counted.
    Paused {
        /// The value.
        left: u32,
        /// As in [`Counting`](Self::Counting).
        over: bool,
    },
    /// It counts.
    Counting {
        /// The pulse at which it had the value `from`.
        since: u64,
        /// What it counts down from.
        from: u32,
        /// The first part is over: in mode 3 the high half of the cycle, in modes 0 and 4 the way
        /// to zero.
        over: bool,
    },
}

/// A count that was latched, until it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latch {
    /// The low byte is read next.
    Low(u16),
    /// The high byte is read next.
    High(u16),
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter {
    /// The low six bits of its control word: access, mode, BCD.
    pub control: u8,
    /// The count that was written last, as it was written.
    pub count: u16,
    /// A count has been written since the control word.
    pub armed: bool,
    /// That count has not been loaded.
    pub null: bool,
    /// The level of the gate.
    pub gate: bool,
    /// What it is doing.
    pub run: Run,
    /// The pulse at which the count is loaded.
    pub load_at: Option<u64>,
    /// The low byte of a count whose high byte has not been written.
    pub low: Option<u8>,
    /// The next read of a count that is not latched gives the high byte.
    pub reads_high: bool,
    /// A latched count.
    pub latch: Option<Latch>,
    /// A latched status.
    pub status: Option<u8>,
}

impl Counter {
    /// A counter that has run in mode 3, from the largest count, since the pulse `now`.
    pub(super) fn fresh(now: u64, gate: bool) -> Self {
        let (from, over) = (0x1_0000, false);
        let run = if gate {
            Run::Counting {
                since: now,
                from,
                over,
            }
        } else {
            Run::Paused { left: from, over }
        };
        Self {
            control: BOTH << ACCESS_SHIFT | 3 << 1,
            count: 0,
            armed: true,
            null: false,
            gate,
            run,
            load_at: None,
            low: None,
            reads_high: false,
            latch: None,
            status: None,
        }
    }

    /// A control word for this counter.
    pub(super) fn program(&mut self, control: u8, now: u64) {
        let left = self.left(now);
        *self = Self {
            control: control & CONTROL,
            count: self.count,
            armed: false,
            null: true,
            gate: self.gate,
            run: Run::Idle { left },
            load_at: None,
            low: None,
            reads_high: false,
            latch: None,
            status: None,
        };
    }

    /// A byte of a count.
    pub(super) fn write(&mut self, value: u8, now: u64) {
        let [low, high] = match (self.access(), self.low.take()) {
            (LOW_ONLY, _) => [value, 0],
            (HIGH_ONLY, _) => [0, value],
            (_, Some(low)) => [low, value],
            (_, None) => {
                self.low = Some(value);
                if self.mode() == 0 {
                    self.stop(now);
                }
                return;
            }
        };
        self.count = u16::from_le_bytes([low, high]);
        self.null = true;
        self.armed = true;
        match (self.mode(), self.run) {
            // These wait for a trigger; and a cycle that is under way ends as it began.
            (1 | 5, _) | (2 | 3, Run::Counting { .. }) => return,
            (0, _) => self.stop(now),
            _ => {}
        }
        self.load_at = Some(now.saturating_add(1));
    }

    /// What the data port shows.
    pub(super) fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        match self.latch.take() {
            Some(Latch::Low(value)) => {
                if self.access() == BOTH {
                    self.latch = Some(Latch::High(value));
                }
                return low_byte(value);
            }
            Some(Latch::High(value)) => return high_byte(value),
            None => {}
        }
        let value = self.shown(now);
        match self.access() {
            LOW_ONLY => low_byte(value),
            HIGH_ONLY => high_byte(value),
            _ => {
                let high = self.reads_high;
                self.reads_high = !high;
                if high {
                    high_byte(value)
                } else {
                    low_byte(value)
                }
            }
        }
    }

    /// Keeps the count for reading, unless one is kept already.
    pub(super) fn latch_count(&mut self, now: u64) {
        let value = self.shown(now);
        let latch = match self.access() {
            HIGH_ONLY => Latch::High(value),
            _ => Latch::Low(value),
        };
        self.latch.get_or_insert(latch);
    }

    /// Keeps the status for reading, unless one is kept already.
    pub(super) fn latch_status(&mut self, now: u64) {
        let bit = |is: bool, bit| if is { bit } else { 0 };
        let status = self.control | bit(self.out(now), STATUS_OUT) | bit(self.null, STATUS_NULL);
        self.status.get_or_insert(status);
    }

    /// Drives the gate.
    pub(super) fn set_gate(&mut self, level: bool, now: u64) {
        if level == self.gate {
            return;
        }
        self.gate = level;
        let follows_gate = !matches!(self.mode(), 1 | 5);
        match (level, self.mode(), self.run) {
            (true, 0 | 4, Run::Paused { left, over }) => {
                self.run = Run::Counting {
                    since: now,
                    from: left,
                    over,
                };
            }
            (true, 1 | 2 | 3 | 5, _) if self.armed => self.load_at = Some(now.saturating_add(1)),
            (false, _, Run::Counting { since, from, over }) if follows_gate => {
                let passed = now.saturating_sub(since) >= u64::from(from);
                self.run = Run::Paused {
                    left: self.left(now),
                    over: over || passed,
                };
            }
            _ => {}
        }
    }

    /// Whether a saved counter can be.
    pub(super) fn is_sound(&self) -> bool {
        let runs = match self.run {
            // It may have been left by a mode with more values.
            Run::Idle { left } => left <= 0x1_0000,
            Run::Paused { left, .. } => left <= self.most(),
            Run::Counting { from, over, .. } => {
                let least = match self.mode() {
                    2 | 3 => 2,
                    0 | 4 if over => 0,
                    _ => 1,
                };
                (least..=self.most()).contains(&from)
            }
        };
        self.control & !CONTROL == 0 && self.access() != 0 && runs
    }

    fn mode(&self) -> u8 {
        match self.control >> 1 & 7 {
            // The highest bit does not count in these two.
            mode @ 6.. => mode & 3,
            mode => mode,
        }
    }

    fn access(&self) -> u8 {
        self.control >> ACCESS_SHIFT
    }

    fn is_decimal(&self) -> bool {
        self.control & BCD != 0
    }

    /// How many values the counter has, and the count that 0 stands for.
    fn most(&self) -> u32 {
        if self.is_decimal() { 10_000 } else { 0x1_0000 }
    }

    /// The count that was written, as a number from 1 on.
    fn full(&self) -> u32 {
        let count = u32::from(self.count);
        let number = if self.is_decimal() {
            // A digit above 9 has its worth, and what is too much is cut.
            let digits = [12, 8, 4, 0].map(|shift| count >> shift & 0xf);
            let number = digits.into_iter().fold(0_u32, |sum, digit| {
                sum.saturating_mul(10).saturating_add(digit)
            });
            number.checked_rem(self.most()).unwrap_or(0)
        } else {
            count
        };
        if number == 0 { self.most() } else { number }
    }

    /// Stops until a count is loaded.
    fn stop(&mut self, now: u64) {
        self.run = Run::Idle {
            left: self.left(now),
        };
        self.load_at = None;
    }

    /// The value as the guest reads it.
    fn shown(&self, now: u64) -> u16 {
        let left = self.left(now).checked_rem(self.most()).unwrap_or(0);
        let spelled = if self.is_decimal() {
            [1_000_u32, 100, 10, 1].iter().fold(0, |sum, unit| {
                let digit = left.checked_div(*unit).unwrap_or(0).checked_rem(10);
                sum << 4 | digit.unwrap_or(0)
            })
        } else {
            left
        };
        u16::try_from(spelled).unwrap_or(u16::MAX)
    }
}

fn low_byte(value: u16) -> u8 {
    value.to_le_bytes()[0]
}

fn high_byte(value: u16) -> u8 {
    value.to_le_bytes()[1]
}
