//! What the two watchdogs must do.

/// A countdown: when it began, and how long it is. No end is worked out before it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Countdown {
    run: Option<(u64, u128)>,
    /// How often it has ended, since this was last taken.
    pub(crate) ended: usize,
}

impl Countdown {
    /// Lets time pass. Returns whether it ended.
    fn pass(&mut self, now: u64) -> bool {
        let ends = self
            .run
            .is_some_and(|(began, long)| u128::from(now - began) >= long);
        if ends {
            self.run = None;
        }
        ends
    }

    /// A start that is over and a new one that is over at once, both in one access, are told as one.
    fn at_most_one(&mut self, before: usize) {
        self.ended = self.ended.min(before + 1);
    }

    pub(crate) fn end(&self) -> Option<u64> {
        self.run
            .map(|(began, long)| began + u64::try_from(long).unwrap())
    }
}

/// The ib700.
#[derive(Debug, Default)]
pub(crate) struct Ib700 {
    pub(crate) countdown: Countdown,
}

impl Ib700 {
    pub(crate) fn pass(&mut self, now: u64) {
        self.countdown.ended += usize::from(self.countdown.pass(now));
    }

    pub(crate) fn write(&mut self, offset: u16, value: u8, now: u64) {
        let ended = self.countdown.ended;
        self.pass(now);
        let seconds = u128::from(15 - value % 16) * 2;
        self.countdown.run = (offset >= 2).then_some((now, seconds * 1_000_000_000));
        self.pass(now);
        self.countdown.at_most_one(ended);
    }

    pub(crate) fn reset(&mut self) {
        self.countdown.run = None;
    }
}

/// The watchdog of the WDAT.
#[derive(Debug)]
pub(crate) struct Wdat {
    pub(crate) countdown: Countdown,
    registers: [u8; 6],
}

impl Default for Wdat {
    fn default() -> Self {
        Self {
            countdown: Countdown::default(),
            registers: [0, 0, 1, 0, 0x58, 0x02],
        }
    }
}

impl Wdat {
    const PERIOD: u128 = 100_000_000;

    pub(crate) fn pass(&mut self, now: u64) {
        if self.countdown.pass(now) && self.registers[2] == 1 {
            self.registers[3] = 1;
            self.countdown.ended += 1;
        }
    }

    fn count(&self) -> u128 {
        u128::from(self.registers[4]) + 256 * u128::from(self.registers[5])
    }

    pub(crate) fn write(&mut self, offset: u16, data: &[u8], now: u64) {
        let ended = self.countdown.ended;
        self.pass(now);
        for (at, byte) in (offset..).zip(data) {
            let whole = (now, self.count() * Self::PERIOD);
            let was = self.registers[0];
            match at {
                0 | 2 => self.registers[usize::from(at)] = byte % 2,
                3 if byte % 2 == 1 => self.registers[3] = 0,
                4 | 5 => self.registers[usize::from(at)] = *byte,
                _ => {}
            }
            match (at, was, self.registers[0]) {
                (0, 0, 1) | (1, 1, 1) => self.countdown.run = Some(whole),
                (0, _, 0) => self.countdown.run = None,
                _ => {}
            }
        }
        self.pass(now);
        self.countdown.at_most_one(ended);
    }

    pub(crate) fn read_byte(&mut self, offset: u16, now: u64) -> u8 {
        self.pass(now);
        let left = match self.countdown.run {
            Some((began, long)) => (long - u128::from(now - began)).div_ceil(Self::PERIOD),
            None if self.registers[0] == 1 => 0,
            None => self.count(),
        };
        match offset {
            1 => 0,
            0..=5 => self.registers[usize::from(offset)],
            6 => (left % 256) as u8,
            7 => (left / 256) as u8,
            8 => 100,
            _ => 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        let expired = self.registers[3];
        let ended = self.countdown.ended;
        *self = Self::default();
        self.registers[3] = expired;
        self.countdown.ended = ended;
    }
}
