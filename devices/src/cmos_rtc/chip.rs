//! The clock chip as a pure function of its registers and the wall clock: no lock, no line, no
//! timer.

use super::alarm::Alarm;
use super::calendar::{self, INDICES, Registers};
use super::{RESUME, SHUTDOWN_STATUS, State};

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

const ALARM_SECOND: u8 = 0x01;
const ALARM_MINUTE: u8 = 0x03;
const ALARM_HOUR: u8 = 0x05;

/// Register A: an update is about to happen.
const UPDATING: u8 = 0x80;
/// Register A: both bits set hold the divider, and with it the clock, in reset.
const DIVIDER_RESET: u8 = 0x60;
const RATE_MASK: u8 = 0x0f;
/// Register A at first: a 32,768 Hz crystal, 1,024 Hz periodic rate.
const A_FRESH: u8 = 0x26;

/// Register B.
const SET: u8 = 0x80;
const PERIODIC_ENABLE: u8 = 0x40;
const ALARM_ENABLE: u8 = 0x20;
const UPDATE_ENABLE: u8 = 0x10;
const SQUARE_WAVE: u8 = 0x08;
/// Register B at first: BCD, 24 hours.
const B_FRESH: u8 = calendar::HOURS_24;

/// Register C. Each flag's bit is that of its enable in register B.
const INTERRUPT: u8 = 0x80;
const PERIODIC: u8 = PERIODIC_ENABLE;
const ALARM: u8 = ALARM_ENABLE;
const UPDATE: u8 = UPDATE_ENABLE;

/// Register D: the battery is good.
const BATTERY_GOOD: u8 = 0x80;

const SECOND: i128 = 1_000_000_000;
const CRYSTAL_HZ: i128 = 32_768;
/// How long before an update register A says so: the whole nanoseconds of 8 cycles of the crystal.
const UPDATE_NOTICE: i128 = 244_140;
/// The first update after the divider's reset.
const AFTER_DIVIDER_RESET: i128 = 500_000_000;
/// No offset that time registers can ask for is larger: 10,000 years and a little.
pub(super) const MAX_OFFSET: i128 = 400_000_000_000 * SECOND;

impl State {
    pub(super) fn fresh(wall_ns: u64) -> Self {
        let mut state = Self {
            index: 0,
            cmos: [0; 128],
            offset_ns: 0,
            seen_ns: wall_ns,
            period_start_ns: wall_ns,
        };
        state.set(A, A_FRESH);
        state.set(B, B_FRESH);
        state.set(D, BATTERY_GOOD);
        state
    }

    pub(super) fn get(&self, index: u8) -> u8 {
        self.cmos
            .get(usize::from(index & 0x7f))
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn set(&mut self, index: u8, value: u8) {
        if let Some(slot) = self.cmos.get_mut(usize::from(index & 0x7f)) {
            *slot = value;
        }
    }

    /// Whether the interrupt line is high.
    pub(super) fn interrupts(&self) -> bool {
        self.get(C) & INTERRUPT != 0
    }

    /// Whether the alarm's flag is set, and enabled.
    pub(super) fn alarm_stands(&self) -> bool {
        self.get(B) & self.get(C) & ALARM != 0
    }

    /// Catches up with the wall clock. Returns whether an alarm that is enabled went off.
    ///
    /// However long the time since the last call, the cost is the same, and each flag is set once.
    /// A wall clock that was set back starts over from where it is.
    pub(super) fn advance(&mut self, wall_ns: u64) -> bool {
        let seen = std::mem::replace(&mut self.seen_ns, wall_ns);
        let (from, to) = (self.guest_ns(seen), self.guest_ns(wall_ns));
        if to < from {
            self.period_start_ns = wall_ns;
        }
        if to <= from {
            return false;
        }
        let mut flags = 0;
        if self
            .period_shift()
            .is_some_and(|shift| self.periods(seen, shift) < self.periods(wall_ns, shift))
        {
            flags |= PERIODIC;
        }
        if !self.is_held() && seconds(from) < seconds(to) {
            flags |= UPDATE;
            if self
                .alarm()
                .next_after(seconds(from))
                .is_some_and(|at| at <= seconds(to))
            {
                flags |= ALARM;
            }
        }
        self.raise(flags);
        flags & self.get(B) & ALARM != 0
    }

    /// When [`advance`](Self::advance) would next set a flag that interrupts, as wall-clock time.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let (enabled, flags) = (self.get(B), self.get(C));
        let waits = |flag| enabled & flag != 0 && flags & flag == 0;
        let now = self.guest_ns(self.seen_ns);
        let mut next: Option<i128> = None;
        let mut offer = |at: i128| next = Some(next.map_or(at, |next| next.min(at)));
        if let Some(shift) = self.period_shift().filter(|_| waits(PERIODIC)) {
            let cycle = self.periods(self.seen_ns, shift).saturating_add(1) << shift;
            let after = cycle
                .saturating_mul(SECOND)
                .saturating_add(CRYSTAL_HZ - 1)
                .div_euclid(CRYSTAL_HZ);
            offer(self.guest_ns(self.period_start_ns).saturating_add(after));
        }
        if !self.is_held() {
            if waits(UPDATE) {
                offer(i128::from(seconds(now).saturating_add(1)).saturating_mul(SECOND));
            }
            // An alarm is a wake source, so it counts even while its flag still stands.
            if enabled & ALARM_ENABLE != 0
                && let Some(at) = self.alarm().next_after(seconds(now))
            {
                offer(i128::from(at).saturating_mul(SECOND));
            }
        }
        let wall = next?.saturating_sub(self.offset_ns).max(0);
        u64::try_from(wall).ok()
    }

    /// What the guest reads from the data port.
    pub(super) fn read(&mut self, wall_ns: u64) -> u8 {
        let index = self.index;
        if let Some(register) = INDICES.iter().position(|time| *time == index) {
            return self.registers(wall_ns).get(register).copied().unwrap_or(0);
        }
        match index {
            A if self.is_updating(wall_ns) => self.get(A) | UPDATING,
            C => {
                let flags = self.get(C);
                self.set(C, 0);
                flags
            }
            _ => self.get(index),
        }
    }

    /// What the guest writes to the data port.
    pub(super) fn write(&mut self, value: u8, wall_ns: u64) {
        let index = self.index;
        if let Some(register) = INDICES.iter().position(|time| *time == index) {
            let mut registers = self.registers(wall_ns);
            if let Some(slot) = registers.get_mut(register) {
                *slot = value;
            }
            if self.is_held() {
                self.hold(registers);
            } else {
                self.start(registers, self.phase(wall_ns), wall_ns);
            }
            return;
        }
        match index {
            A => self.control(wall_ns, |state| state.set(A, value & !UPDATING)),
            B => {
                // Setting the clock ends the update interrupt, as the data sheet says.
                let value = if value & SET != 0 {
                    value & !UPDATE_ENABLE
                } else {
                    value
                };
                self.control(wall_ns, |state| state.set(B, value));
                self.raise(0);
            }
            C | D => {}
            _ => self.set(index, value),
        }
    }

    /// A reset of the machine. The battery keeps the time and the memory.
    pub(super) fn reset(&mut self, resuming: bool) {
        self.index = 0;
        let enables = PERIODIC_ENABLE | ALARM_ENABLE | SQUARE_WAVE;
        self.set(B, self.get(B) & !enables);
        self.set(C, 0);
        if !(resuming && self.get(SHUTDOWN_STATUS) == RESUME) {
            self.set(SHUTDOWN_STATUS, 0);
        }
    }

    /// Whether what a saved state holds can be.
    pub(super) fn is_sound(&self) -> bool {
        let flags = self.get(C);
        let interrupts = flags & self.get(B) & (PERIODIC | ALARM | UPDATE) != 0;
        self.index < 0x80
            && (-MAX_OFFSET..=MAX_OFFSET).contains(&self.offset_ns)
            && self.period_start_ns <= self.seen_ns
            && self.get(A) & UPDATING == 0
            && self.get(D) == BATTERY_GOOD
            && (flags & INTERRUPT != 0 || !interrupts)
    }

    /// Sets flags. The interrupt flag is as the data sheet has it: up while any flag is that is
    /// enabled, down otherwise.
    fn raise(&mut self, flags: u8) {
        let flags = (self.get(C) | flags) & !INTERRUPT;
        let interrupt = if flags & self.get(B) & (PERIODIC | ALARM | UPDATE) != 0 {
            INTERRUPT
        } else {
            0
        };
        self.set(C, flags | interrupt);
    }

    /// Changes register A or B: the time registers stand still, or go on from where they stand.
    fn control(&mut self, wall_ns: u64, change: impl FnOnce(&mut Self)) {
        let (held, stopped) = (self.is_held(), self.is_divider_stopped());
        let (registers, phase) = (self.registers(wall_ns), self.phase(wall_ns));
        let period = self.period_shift();
        change(self);
        if self.period_shift() != period {
            self.begin_period(period, wall_ns);
        }
        match (held, self.is_held()) {
            (false, true) => self.hold(registers),
            (true, false) => {
                let phase = if stopped { AFTER_DIVIDER_RESET } else { phase };
                self.start(registers, phase, wall_ns);
            }
            _ => {}
        }
    }

    /// The time registers as the guest reads them.
    fn registers(&self, wall_ns: u64) -> Registers {
        if self.is_held() {
            INDICES.map(|index| self.get(index))
        } else {
            calendar::encode(seconds(self.guest_ns(wall_ns)), self.get(B))
        }
    }

    fn hold(&mut self, registers: Registers) {
        for (index, value) in INDICES.into_iter().zip(registers) {
            self.set(index, value);
        }
    }

    /// Lets the clock run from `registers`, `phase` nanoseconds into that second. While it runs,
    /// the bytes of the time registers are not used, and zero.
    fn start(&mut self, registers: Registers, phase: i128, wall_ns: u64) {
        let second = i128::from(calendar::decode(registers, self.get(B)));
        let guest = second.saturating_mul(SECOND).saturating_add(phase);
        self.offset_ns = guest
            .saturating_sub(i128::from(wall_ns))
            .clamp(-MAX_OFFSET, MAX_OFFSET);
        self.hold(Registers::default());
    }

    fn guest_ns(&self, wall_ns: u64) -> i128 {
        i128::from(wall_ns).saturating_add(self.offset_ns)
    }

    /// How far into its second the clock is.
    fn phase(&self, wall_ns: u64) -> i128 {
        self.guest_ns(wall_ns).rem_euclid(SECOND)
    }

    fn is_held(&self) -> bool {
        self.get(B) & SET != 0 || self.is_divider_stopped()
    }

    fn is_divider_stopped(&self) -> bool {
        self.get(A) & DIVIDER_RESET == DIVIDER_RESET
    }

    fn is_updating(&self, wall_ns: u64) -> bool {
        !self.is_held() && self.phase(wall_ns) >= SECOND - UPDATE_NOTICE
    }

    fn alarm(&self) -> Alarm {
        let [second, minute, hour] =
            [ALARM_SECOND, ALARM_MINUTE, ALARM_HOUR].map(|at| self.get(at));
        Alarm::new(second, minute, hour, self.get(B))
    }

    /// A new periodic rate. Its first period begins where the last one at the old rate did; or now,
    /// if there was none.
    fn begin_period(&mut self, old: Option<u32>, wall_ns: u64) {
        let begun = old.map(|shift| {
            let cycles = self.periods(wall_ns, shift) << shift;
            let passed = cycles.saturating_mul(SECOND).div_euclid(CRYSTAL_HZ);
            u64::try_from(passed).unwrap_or(u64::MAX)
        });
        self.period_start_ns = begun.map_or(wall_ns, |passed| {
            self.period_start_ns.saturating_add(passed).min(wall_ns)
        });
    }

    /// How many periods have ended since they are counted.
    fn periods(&self, wall_ns: u64, shift: u32) -> i128 {
        cycles(i128::from(wall_ns.saturating_sub(self.period_start_ns))) >> shift
    }

    /// The periodic rate, as a power of two of crystal cycles; `None` if there is none.
    fn period_shift(&self) -> Option<u32> {
        if self.is_divider_stopped() {
            return None;
        }
        // The two fastest codes stand for slower rates, with this crystal.
        match u32::from(self.get(A) & RATE_MASK) {
            0 => None,
            code @ 1..=2 => Some(code.saturating_add(6)),
            code => Some(code.saturating_sub(1)),
        }
    }
}

fn seconds(ns: i128) -> i64 {
    i64::try_from(ns.div_euclid(SECOND)).unwrap_or(0)
}

/// Cycles of the crystal. Cannot overflow: an offset and a wall clock stay below 2^70 ns.
fn cycles(ns: i128) -> i128 {
    ns.saturating_mul(CRYSTAL_HZ).div_euclid(SECOND)
}
