//! The Intel 8254 interval timer, and port 0x61, by which a PC's guest has the third counter's gate
//! and output.
//!
//! | port | write | read |
//! |---|---|---|
//! | 0x40, 41, 42 | a counter's count | its latched status, its latched count, or its count |
//! | 0x43 | control word: mode, latch, read-back | 0 |
//! | 0x61 | bit 0: gate of counter 2; bit 1: the speaker's | both; bit 4: refresh, turns with each read; bit 5: output of counter 2 |
//!
//! The output of counter 0 is the interrupt line; the gates of counters 0 and 1 are high.
//!
//! | mode | output |
//! |---|---|
//! | 0 | low until the count is over |
//! | 1 | low for the count after each trigger, a rise of the gate |
//! | 2, 6 | low for the last pulse of each count |
//! | 3, 7 | high for one half of each count, low for the other |
//! | 4 | low for one pulse after the count |
//! | 5 | low for one pulse after the count that follows a trigger |
//!
//! A count is loaded at the pulse after its write, as the data sheet has it. After a reset, which the
//! data sheet leaves open, every counter is as in QEMU: in mode 3, from 65,536. In modes 2 and 3 a
//! count of 1, which the data sheet forbids, stops the counter, with its output high, until another
//! is written.
//!
//! The chip has no thread: [`Timed`] says when the interrupt line changes next. Who ticks at each
//! deadline sees every change. Who comes late sees the first few that were missed, and then the
//! level as it is: what is done in a tick has a bound, whatever the rate.
//!
//! Before time changes the level, the one that ends is driven once more, as QEMU's is: a listener that
//! came in the middle of a pulse, and counts the line as low, hears of all of it.
//!
//! The rule that must never be broken: **each change is driven, in its order, and nothing between two of
//! them.**
//!
//! Source: Intel 8254 data sheet (231164); IBM AT Technical Reference for port 0x61.

mod counter;

use std::fmt;
use std::sync::Arc;

pub use counter::{Counter, Latch, Run};

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{
    BusDevice, Clock, Error, IrqLine, Mapping, Notify, Pausable, ResetType, Resettable,
    SaveRestore, Timed,
};

/// Where the timer is on a PC. Its interrupt line is 0.
pub const PORTS: [Mapping; 2] = [
    Mapping::new(0x40, 4),
    Mapping::new(0x61, 1).at_offset(SPEAKER_OFFSET),
];

/// Pulses of the timer's crystal a second.
pub const HZ: u64 = 1_193_182;

const CONTROL_OFFSET: u64 = 3;
const SPEAKER_OFFSET: u64 = 4;
const NS_PER_SECOND: u128 = 1_000_000_000;

/// A control word's upper two bits: which counter, or read-back.
const READ_BACK: u8 = 3;
/// Read-back: these two are off for what is wanted.
const NO_COUNT: u8 = 0x20;
const NO_STATUS: u8 = 0x10;
/// Control word: the access bits; none is a latch.
const ACCESS: u8 = 0x30;

/// Port 0x61.
const GATE: u8 = 0x01;
const SPEAKER: u8 = 0x02;
const REFRESH: u8 = 0x10;
const OUT: u8 = 0x20;

/// How many changes of the interrupt line a tick that comes late makes up for, one by one.
const MOST_LATE: u32 = 4;

/// What a [`Pit`] is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Interrupt line 0.
    pub irq: Arc<dyn IrqLine>,
    /// The virtual clock.
    pub clock: Arc<dyn Clock>,
    /// Called when [`next_deadline`](Timed::next_deadline) may have changed.
    pub rearm: Arc<dyn Notify>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// The state of a [`Pit`]. Times are numbers of pulses since the virtual clock began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The counters.
    pub counters: [Counter; 3],
    /// The speaker's bit of port 0x61.
    pub speaker: bool,
    /// The refresh bit of port 0x61, as it was read last.
    pub refresh: bool,
    /// The level of the interrupt line.
    pub line: bool,
    /// The pulse up to which all has been worked out.
    pub seen: u64,
}

/// The timer.
pub struct Pit {
    state: Guarded<State>,
    wiring: Wiring,
}

/// The last pulse by a time in nanoseconds.
fn pulse(ns: u64) -> u64 {
    let pulses = u128::from(ns).saturating_mul(HZ.into()) / NS_PER_SECOND;
    u64::try_from(pulses).unwrap_or(u64::MAX)
}

/// The first nanosecond at or after a pulse; `None` if it is past all time.
fn time_of(pulse: u64) -> Option<u64> {
    let ns = u128::from(pulse).saturating_mul(NS_PER_SECOND);
    u64::try_from(ns.div_ceil(HZ.into())).ok()
}

impl State {
    fn fresh(now: u64) -> Self {
        Self {
            counters: [true, true, false].map(|gate| Counter::fresh(now, gate)),
            speaker: false,
            refresh: false,
            line: true,
            seen: now,
        }
    }

    /// Works out all up to the pulse `now`, and drives the line through what it did.
    fn advance(&mut self, now: u64, irq: &dyn IrqLine) {
        let now = now.max(self.seen);
        for _ in 0..MOST_LATE {
            match self.next_change().filter(|at| *at <= now) {
                Some(at) => self.settle(at, irq),
                None => break,
            }
        }
        self.settle(now, irq);
    }

    fn settle(&mut self, now: u64, irq: &dyn IrqLine) {
        self.seen = now;
        for counter in &mut self.counters {
            counter.settle(now);
        }
        if self.level() != self.line {
            irq.set(self.line);
        }
        self.drive(irq);
    }

    fn level(&self) -> bool {
        let [timer, ..] = &self.counters;
        timer.out(self.seen)
    }

    fn drive(&mut self, irq: &dyn IrqLine) {
        let level = self.level();
        if level != self.line {
            self.line = level;
            irq.set(level);
        }
    }

    fn next_change(&self) -> Option<u64> {
        let [timer, ..] = &self.counters;
        timer.next_change(self.seen)
    }

    fn control(&mut self, value: u8) {
        let now = self.seen;
        let which = value >> 6;
        if which == READ_BACK {
            let wanted = (1..4).map(|bit| value >> bit & 1 != 0);
            for (counter, _) in self.counters.iter_mut().zip(wanted).filter(|(_, is)| *is) {
                if value & NO_COUNT == 0 {
                    counter.latch_count(now);
                }
                if value & NO_STATUS == 0 {
                    counter.latch_status(now);
                }
            }
        } else if let Some(counter) = self.counters.get_mut(usize::from(which)) {
            if value & ACCESS == 0 {
                counter.latch_count(now);
            } else {
                counter.program(value, now);
            }
        }
    }

    fn write(&mut self, offset: u64, value: u8) {
        let now = self.seen;
        match offset {
            CONTROL_OFFSET => self.control(value),
            SPEAKER_OFFSET => {
                self.speaker = value & SPEAKER != 0;
                let [.., tone] = &mut self.counters;
                tone.set_gate(value & GATE != 0, now);
            }
            _ => {
                if let Some(counter) = index(offset).and_then(|at| self.counters.get_mut(at)) {
                    counter.write(value, now);
                }
            }
        }
    }

    fn read(&mut self, offset: u64) -> u8 {
        let now = self.seen;
        match offset {
            CONTROL_OFFSET => 0,
            SPEAKER_OFFSET => {
                self.refresh = !self.refresh;
                let [.., tone] = &self.counters;
                let bits = [
                    (tone.gate, GATE),
                    (self.speaker, SPEAKER),
                    (self.refresh, REFRESH),
                    (tone.out(now), OUT),
                ];
                bits.iter()
                    .filter(|(is, _)| *is)
                    .fold(0, |byte, (_, bit)| byte | bit)
            }
            _ => index(offset)
                .and_then(|at| self.counters.get_mut(at))
                .map_or(0xff, |counter| counter.read(now)),
        }
    }
}

fn index(offset: u64) -> Option<usize> {
    usize::try_from(offset).ok()
}

impl Pit {
    /// A timer as after a reset.
    pub fn new(wiring: Wiring) -> Self {
        Self {
            state: Guarded::new(State::fresh(pulse(wiring.clock.now_ns()))),
            wiring,
        }
    }

    /// Catches up, makes an access, drives the line as it says, and then tells of a deadline that
    /// has moved.
    fn access<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.next_change();
        let irq = &*self.wiring.irq;
        state.advance(pulse(self.wiring.clock.now_ns()), irq);
        let result = access(&mut state);
        state.drive(irq);
        let moved = before != state.next_change();
        drop(state);
        if moved {
            self.wiring.rearm.notify();
        }
        result
    }
}

impl Timed for Pit {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        self.state.lock().next_change().and_then(time_of)
    }

    fn tick(&self) {
        self.access(|_| ());
    }
}

impl BusDevice for Pit {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| self.access(|state| state.read(at)));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| {
            self.access(|state| state.write(at, value));
        });
    }
}

impl Resettable for Pit {
    fn enter(&self, _kind: ResetType) {
        *self.state.lock() = State::fresh(pulse(self.wiring.clock.now_ns()));
    }

    fn hold(&self, _kind: ResetType) {
        self.wiring.irq.set(self.state.lock().line);
        self.wiring.rearm.notify();
    }
}

impl SaveRestore for Pit {
    type State = State;

    fn save(&self) -> State {
        self.access(|state| state.clone())
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        for (index, counter) in (0_u64..).zip(&state.counters) {
            if !counter.is_sound() {
                return Err(Error::BadState {
                    device: "pit",
                    field: "the counter of this number",
                    found: index,
                    expected: "as `save` returned it",
                });
            }
        }
        let mut current = self.state.lock();
        *current = state.clone();
        self.wiring.irq.set(current.line);
        drop(current);
        self.wiring.rearm.notify();
        Ok(())
    }
}

impl Pausable for Pit {}

impl fmt::Debug for Pit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pit")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
