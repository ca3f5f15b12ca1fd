//! One counter of the timer, as a pure function of its registers and the time: no lock, no line.
//!
//! ```text
//!                     count written; modes 1 and 5: trigger
//!   control word ─▶ Idle ───────────▶ load at the next pulse ─▶ Counting ◀── gate ──▶ Paused
//!                    ▲                         ▲                   │
//!                    └── mode 0: first byte    └── new count (0, 4), trigger (1, 2, 3, 5)
//! ```
//!
//! Time is the number of the last pulse of the timer's crystal, [`HZ`](super::HZ) a second. However
//! long the time since the last look, catching up costs the same.
//!
//! The rule that must never be broken: **[`settle`](Counter::settle) comes before any look**, so that
//! `since` is the beginning of the cycle, or half cycle, that is under way.

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

    /// Catches up with the pulse `now`.
    pub(super) fn settle(&mut self, now: u64) {
        if let Some(at) = self.load_at.take_if(|at| *at <= now) {
            self.load(at);
        }
        match self.mode() {
            2 => self.turn_cycles(now),
            3 => self.turn_halves(now),
            _ => {}
        }
    }

    /// The output, at a pulse up to which the counter is settled.
    pub(super) fn out(&self, now: u64) -> bool {
        let mode = self.mode();
        match self.run {
            Run::Idle { .. } => mode != 0,
            Run::Paused { over, .. } => mode != 0 || over,
            Run::Counting { since, from, over } => {
                let passed = now.saturating_sub(since);
                let from = u64::from(from);
                match mode {
                    0 => over || passed >= from,
                    1 => passed >= from,
                    2 => passed != from.saturating_sub(1),
                    3 => !over,
                    _ => over || passed != from,
                }
            }
        }
    }

    /// The next pulse at which the output may change, after one up to which it is settled.
    pub(super) fn next_change(&self, now: u64) -> Option<u64> {
        let counted = match self.run {
            Run::Counting { since, from, over } => {
                let passed = now.saturating_sub(since);
                let whole = u64::from(from);
                let length = match self.mode() {
                    2 if passed < whole.saturating_sub(1) => Some(whole.saturating_sub(1)),
                    2 => Some(whole),
                    3 => Some(half(from, over)),
                    _ if over || passed > whole => None,
                    _ if passed < whole => Some(whole),
                    // The strobe lasts for a pulse.
                    4 | 5 => Some(whole.saturating_add(1)),
                    _ => None,
                };
                length.map(|length| since.saturating_add(length))
            }
            _ => None,
        };
        counted.into_iter().chain(self.load_at).min()
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

    /// Takes the count over at the pulse `at`.
    fn load(&mut self, at: u64) {
        let from = self.full();
        self.null = false;
        let countable = from > 1 || !matches!(self.mode(), 2 | 3);
        let open = self.gate || matches!(self.mode(), 1 | 5);
        self.run = if countable && open {
            Run::Counting {
                since: at,
                from,
                over: false,
            }
        } else {
            Run::Paused {
                left: from,
                over: false,
            }
        };
    }

    /// Stops until a count is loaded.
    fn stop(&mut self, now: u64) {
        self.run = Run::Idle {
            left: self.left(now),
        };
        self.load_at = None;
    }

    /// Mode 2: goes on to the cycle that is under way. A new count is taken over where one ends.
    fn turn_cycles(&mut self, now: u64) {
        self.turn_once(now);
        if let Run::Counting { since, from, .. } = &mut self.run {
            skip(since, *from, now);
        }
    }

    /// Mode 3: the same, with a cycle that has two halves.
    fn turn_halves(&mut self, now: u64) {
        self.turn_once(now);
        if let Run::Counting { since, from, .. } = &mut self.run {
            skip(since, *from, now);
        }
        self.turn_once(now);
    }

    /// Ends the cycle or the half that is under way, if it is over by now.
    fn turn_once(&mut self, now: u64) {
        let Run::Counting { since, from, over } = self.run else {
            return;
        };
        let halves = self.mode() == 3;
        let length = if halves {
            half(from, over)
        } else {
            u64::from(from)
        };
        let end = since.saturating_add(length);
        if end > now {
            return;
        }
        let over = halves && !over;
        self.run = Run::Counting {
            since: end,
            from,
            over,
        };
        if self.null {
            self.load(end);
            if let Run::Counting { over: loaded, .. } = &mut self.run {
                *loaded = over;
            }
        }
    }

    /// The value, at a pulse up to which the counter is settled: 1 to the most, or 0.
    fn left(&self, now: u64) -> u32 {
        let Run::Counting { since, from, .. } = self.run else {
            let (Run::Idle { left } | Run::Paused { left, .. } | Run::Counting { from: left, .. }) =
                self.run;
            return left;
        };
        let passed = now.saturating_sub(since);
        if self.mode() == 3 {
            // Two at once, and an odd count begins one lower.
            let twice = u32::try_from(passed.saturating_mul(2)).unwrap_or(u32::MAX);
            return (from & !1).saturating_sub(twice);
        }
        let most = u64::from(self.most());
        let left = match u64::from(from).checked_sub(passed) {
            Some(left) => left,
            // It goes on below zero, from the top.
            None => {
                let below = passed.saturating_sub(u64::from(from));
                most.saturating_sub(below.checked_rem(most).unwrap_or(0))
            }
        };
        u32::try_from(left).unwrap_or(0)
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

/// How many pulses a half of a cycle of mode 3 has: an odd count is high for one more.
fn half(from: u32, over: bool) -> u64 {
    let low = u64::from(from >> 1);
    if over {
        low
    } else {
        low.saturating_add(u64::from(from & 1))
    }
}

/// Moves the beginning of a cycle of `from` pulses on to the last one that began by now.
fn skip(since: &mut u64, from: u32, now: u64) {
    let rest = now
        .saturating_sub(*since)
        .checked_rem(u64::from(from))
        .unwrap_or(0);
    *since = now.saturating_sub(rest).max(*since);
}

fn low_byte(value: u16) -> u8 {
    value.to_le_bytes()[0]
}

fn high_byte(value: u16) -> u8 {
    value.to_le_bytes()[1]
}
