//! The timer, pulse by pulse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use devices::pit::{HZ, Pit, Wiring};
use devices::{
    BusDevice, Clock, IrqLine, ManualClock, NoNotify, ResetType, Resettable, SaveRestore, Timed,
};

use super::Source;

/// When a level was driven, and which.
type Change = (u64, bool);

/// A line that notes each change and its time. It is high at first, as a fresh timer's is.
struct Recorder {
    clock: Arc<ManualClock>,
    level: AtomicBool,
    changes: Mutex<Vec<Change>>,
}

impl IrqLine for Recorder {
    fn set(&self, level: bool) {
        if self.level.swap(level, Ordering::Relaxed) != level {
            let now = self.clock.now_ns();
            self.changes.lock().unwrap().push((now, level));
        }
    }
}

/// A counter that is told of every pulse.
#[derive(Debug, Clone)]
struct Slow {
    mode: u8,
    access: u8,
    decimal: bool,
    written: u16,
    low: Option<u8>,
    armed: bool,
    null: bool,
    gate: bool,
    /// It is loaded at the next pulse.
    loads: bool,
    runs: bool,
    from: u32,
    value: u32,
    fired: bool,
    out: bool,
    second_read: bool,
    latch: Vec<u8>,
    status: Option<u8>,
}

impl Slow {
    fn fresh(gate: bool) -> Self {
        Self {
            mode: 3,
            access: 3,
            decimal: false,
            written: 0,
            low: None,
            armed: true,
            null: false,
            gate,
            loads: false,
            runs: true,
            from: 0x1_0000,
            value: 0x1_0000,
            fired: false,
            out: true,
            second_read: false,
            latch: Vec::new(),
            status: None,
        }
    }

    fn most(&self) -> u32 {
        if self.decimal { 10_000 } else { 65_536 }
    }

    fn behaves(&self) -> u8 {
        if self.mode > 5 {
            self.mode - 4
        } else {
            self.mode
        }
    }

    fn waits_for_trigger(&self) -> bool {
        matches!(self.behaves(), 1 | 5)
    }

    fn load(&mut self) {
        let digits = format!("{:04x}", self.written);
        let number = if self.decimal {
            let worth = |digit: char| digit.to_digit(16).unwrap();
            digits.chars().fold(0, |sum, digit| sum * 10 + worth(digit)) % 10_000
        } else {
            u32::from(self.written)
        };
        self.from = if number == 0 { self.most() } else { number };
        self.value = self.from;
        self.null = false;
        if self.behaves() == 3 {
            self.value &= !1;
        }
        self.runs = true;
        if matches!(self.behaves(), 2 | 3) && self.from == 1 {
            (self.runs, self.value, self.out) = (false, 1, true);
        }
    }

    fn pulse(&mut self) {
        if std::mem::take(&mut self.loads) {
            self.load();
            self.out = self.behaves() > 1;
            self.fired = false;
            if self.behaves() == 3 && !self.gate {
                self.value = self.from;
            }
            return;
        }
        if !self.runs || !(self.gate || self.waits_for_trigger()) {
            return;
        }
        match self.behaves() {
            2 => {
                self.value -= 1;
                if self.value == 0 {
                    self.value = self.from;
                    if self.null {
                        self.load();
                    }
                }
                self.out = !self.runs || self.value != 1;
            }
            3 => {
                let extra = self.out && self.from % 2 == 1;
                let ends = if extra {
                    self.value == 0
                } else {
                    self.value == 2
                };
                if ends {
                    self.out = !self.out;
                    self.value = self.from & !1;
                    if self.null {
                        self.load();
                    }
                } else {
                    self.value -= 2;
                }
            }
            mode => {
                self.value = if self.value == 0 {
                    self.most() - 1
                } else {
                    self.value - 1
                };
                let zero = self.value == 0 && !self.fired;
                self.fired |= zero;
                self.out = match mode {
                    0 | 1 => self.fired,
                    _ => !zero,
                };
            }
        }
    }

    fn program(&mut self, control: u8) {
        let (gate, value, written) = (self.gate, self.value, self.written);
        *self = Self {
            mode: control >> 1 & 7,
            access: control >> 4 & 3,
            decimal: control & 1 == 1,
            armed: false,
            null: true,
            runs: false,
            value,
            written,
            ..Self::fresh(gate)
        };
        self.out = self.behaves() != 0;
    }

    fn write(&mut self, value: u8) {
        let stop = |counter: &mut Self| {
            (counter.runs, counter.out, counter.loads) = (false, false, false);
        };
        self.written = match (self.access, self.low.take()) {
            (1, _) => u16::from(value),
            (2, _) => u16::from(value) << 8,
            (_, Some(low)) => u16::from_le_bytes([low, value]),
            (_, None) => {
                self.low = Some(value);
                if self.behaves() == 0 {
                    stop(self);
                }
                return;
            }
        };
        (self.null, self.armed) = (true, true);
        match self.behaves() {
            1 | 5 => {}
            2 | 3 if self.runs && self.gate => {}
            mode => {
                if mode == 0 {
                    stop(self);
                }
                self.loads = true;
            }
        }
    }

    fn set_gate(&mut self, level: bool) {
        let before = std::mem::replace(&mut self.gate, level);
        match (before, level, self.behaves()) {
            (false, true, 1 | 2 | 3 | 5) if self.armed => self.loads = true,
            (true, false, 2..=4) => self.out = true,
            _ => {}
        }
    }

    fn bytes(&self) -> [u8; 2] {
        let value = self.value % self.most();
        let shown = if self.decimal {
            u16::from_str_radix(&format!("{value:04}"), 16).unwrap()
        } else {
            value as u16
        };
        shown.to_le_bytes()
    }

    fn latch_count(&mut self) {
        if self.latch.is_empty() {
            let [low, high] = self.bytes();
            self.latch = match self.access {
                1 => vec![low],
                2 => vec![high],
                _ => vec![low, high],
            };
        }
    }

    fn latch_status(&mut self) {
        let flags = u8::from(self.out) << 7 | u8::from(self.null) << 6;
        let control = self.access << 4 | self.mode << 1 | u8::from(self.decimal);
        self.status.get_or_insert(flags | control);
    }

    fn read(&mut self) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        if !self.latch.is_empty() {
            return self.latch.remove(0);
        }
        let [low, high] = self.bytes();
        match self.access {
            1 => low,
            2 => high,
            _ => {
                self.second_read = !self.second_read;
                if self.second_read { low } else { high }
            }
        }
    }
}

struct Rig {
    device: Pit,
    line: Arc<Recorder>,
    clock: Arc<ManualClock>,
    counters: [Slow; 3],
    pulse: u64,
    expected: Vec<Change>,
    level: bool,
}

fn time_of(pulse: u64) -> u64 {
    (pulse * 1_000_000_000).div_ceil(HZ)
}

impl Rig {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(0));
        let line = Arc::new(Recorder {
            clock: clock.clone(),
            level: AtomicBool::new(true),
            changes: Mutex::default(),
        });
        let device = Pit::new(Wiring {
            irq: line.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        });
        Self {
            device,
            line,
            clock,
            counters: [true, true, false].map(Slow::fresh),
            pulse: 0,
            expected: Vec::new(),
            level: true,
        }
    }

    fn note(&mut self) {
        let level = self.counters[0].out;
        if level != self.level {
            self.level = level;
            self.expected.push((self.clock.now_ns(), level));
        }
    }

    fn out(&mut self, offset: u64, value: u8) {
        self.device.write(offset, &[value]);
        let counters = &mut self.counters;
        match offset {
            3 if value >> 6 == 3 => {
                for (at, counter) in counters.iter_mut().enumerate() {
                    if value >> (at + 1) & 1 == 1 {
                        if value & 0x20 == 0 {
                            counter.latch_count();
                        }
                        if value & 0x10 == 0 {
                            counter.latch_status();
                        }
                    }
                }
            }
            3 if value & 0x30 == 0 => counters[usize::from(value >> 6)].latch_count(),
            3 => counters[usize::from(value >> 6)].program(value),
            4 => counters[2].set_gate(value & 1 == 1),
            _ => counters[offset as usize].write(value),
        }
        self.note();
    }

    /// Lets pulses pass: the device is ticked when it is due, and in no other pulse.
    fn pass(&mut self, pulses: u64) {
        for _ in 0..pulses {
            self.pulse += 1;
            let now = time_of(self.pulse);
            self.clock.set(now);
            self.counters.iter_mut().for_each(Slow::pulse);
            self.note();
            if let Some(due) = self.device.next_deadline() {
                assert!(due >= now, "the deadline of {due} has passed at {now}");
                if due == now {
                    self.device.tick();
                    assert!(self.device.next_deadline().is_none_or(|due| due > now));
                }
            }
        }
    }

    /// The same with a device that nobody ticks before the end.
    fn pass_late(&mut self, pulses: u64) {
        for _ in 0..pulses {
            self.pulse += 1;
            self.counters.iter_mut().for_each(Slow::pulse);
        }
        self.clock.set(time_of(self.pulse));
        self.device.tick();
        self.level = self.counters[0].out;
        let changes = std::mem::take(&mut *self.line.changes.lock().unwrap());
        assert!(changes.len() <= 5, "{changes:?}");
        if let Some((_, level)) = changes.last() {
            assert_eq!(*level, self.level);
        }
    }

    fn compare(&mut self) {
        let changes = std::mem::take(&mut *self.line.changes.lock().unwrap());
        assert_eq!(changes, std::mem::take(&mut self.expected));
        assert_eq!(self.device.save().line, self.level);
    }
}

pub(super) fn run(source: &mut Source<'_>) {
    let mut rig = Rig::new();
    while let Some(kind) = source.next() {
        match kind % 16 {
            0..3 => {
                let value = source.byte();
                rig.out(3, value);
            }
            3..7 => {
                let (at, value) = (source.byte() % 3, source.byte());
                rig.out(at.into(), if kind & 0x10 == 0 { value % 8 } else { value });
            }
            7 => {
                let value = source.byte() % 4;
                rig.out(4, value);
            }
            8..11 => {
                let at = source.byte() % 3;
                let found = inb(&rig.device, at.into());
                let expected = rig.counters[usize::from(at)].read();
                assert_eq!(found, expected, "{:?}", rig.counters[usize::from(at)]);
            }
            11 => {
                let tone = &rig.counters[2];
                let bits = u8::from(tone.gate) | u8::from(tone.out) << 5;
                assert_eq!(inb(&rig.device, 4) & 0x21, bits, "{tone:?}");
            }
            12 | 13 => {
                let pulses = u64::from(source.byte()) << (kind >> 4 & 3);
                rig.pass(pulses);
            }
            14 => {
                rig.compare();
                let pulses = u64::from(source.byte()) << (kind >> 4 & 7);
                rig.pass_late(pulses);
            }
            _ if kind & 0x10 == 0 => {
                let state = rig.device.save();
                rig.compare();
                rig.device.restore(&state).unwrap();
                assert_eq!(rig.device.save(), state);
                rig.line.changes.lock().unwrap().clear();
            }
            _ => {
                rig.compare();
                rig.device.reset(ResetType::Cold);
                rig.counters = [true, true, false].map(Slow::fresh);
                rig.level = true;
                rig.line.changes.lock().unwrap().clear();
            }
        }
        rig.compare();
    }
}

fn inb(device: &Pit, offset: u64) -> u8 {
    let mut data = [0xaa];
    device.read(offset, &mut data);
    data[0]
}
