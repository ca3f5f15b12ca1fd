//! What a counter does as the pulses of the crystal pass: its cycles, its output, its value.

use super::{Counter, Run};

impl Counter {
    /// Catches up with the pulse `now`.
    pub(in crate::pit) fn settle(&mut self, now: u64) {
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
    pub(in crate::pit) fn out(&self, now: u64) -> bool {
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
    pub(in crate::pit) fn next_change(&self, now: u64) -> Option<u64> {
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

    /// The value, at a pulse up to which the counter is settled: 1 to the most, or 0.
    pub(super) fn left(&self, now: u64) -> u32 {
        let (since, from) = match self.run {
            Run::Counting { since, from, .. } => (since, from),
            Run::Idle { left } | Run::Paused { left, .. } => return left,
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
