//! The real-time clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::cmos_rtc::{CmosRtc, Memory, Wiring};
use devices::{
    Clock as _, IrqProbe, ManualClock, PowerProbe, PowerRequest, ResetType, Resettable,
    SaveRestore, Timed, WakeupReason,
};

use crate::{inb, outb};

/// 2023-11-14 22:13:20 UTC, a Tuesday.
const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

const SET: u8 = 0x80;
const PIE: u8 = 0x40;
const AIE: u8 = 0x20;
const UIE: u8 = 0x10;
const BINARY: u8 = 0x04;
const HOURS_24: u8 = 0x02;

struct Rig {
    irq: Arc<IrqProbe>,
    power: Arc<PowerProbe>,
    clock: Arc<ManualClock>,
    rearmed: Arc<AtomicU64>,
    rtc: CmosRtc,
}

impl Rig {
    fn new() -> Self {
        Self::with_memory(Memory::default())
    }

    fn with_memory(memory: Memory) -> Self {
        let irq = Arc::new(IrqProbe::new());
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(START));
        let rearmed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rearmed);
        let rearm = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let wiring = Wiring {
            irq: irq.clone(),
            power: power.clone(),
            clock: clock.clone(),
            rearm,
        };
        Self {
            irq,
            power,
            clock,
            rearmed,
            rtc: CmosRtc::new(memory, wiring),
        }
    }

    fn get(&self, index: u8) -> u8 {
        outb(&self.rtc, 0, index);
        inb(&self.rtc, 1)
    }

    fn set(&self, index: u8, value: u8) {
        outb(&self.rtc, 0, index);
        outb(&self.rtc, 1, value);
    }

    /// Hour, minute, second.
    fn time(&self) -> [u8; 3] {
        [4, 2, 0].map(|index| self.get(index))
    }

    /// Century, year, month, day, day of the week.
    fn date(&self) -> [u8; 5] {
        [0x32, 9, 8, 7, 6].map(|index| self.get(index))
    }

    fn set_alarm(&self, [hour, minute, second]: [u8; 3]) {
        self.set(5, hour);
        self.set(3, minute);
        self.set(1, second);
    }

    /// Lets the time until the next deadline pass, and ticks.
    fn run(&self) -> u64 {
        let due = self.rtc.next_deadline().unwrap();
        self.clock.set(due);
        self.rtc.tick();
        due - START
    }
}

#[test]
fn a_fresh_clock_shows_the_wall_clock_in_bcd() {
    let rig = Rig::new();
    assert_eq!(rig.time(), [0x22, 0x13, 0x20]);
    assert_eq!(rig.date(), [0x20, 0x23, 0x11, 0x14, 0x03]);
    assert_eq!(
        [0x0a, 0x0b, 0x0c, 0x0d].map(|index| rig.get(index)),
        [0x26, 0x02, 0, 0x80]
    );
    rig.clock.advance(2 * 3600 * SECOND);
    assert_eq!(rig.time(), [0x00, 0x13, 0x20]);
    assert_eq!(rig.date(), [0x20, 0x23, 0x11, 0x15, 0x04]);
    assert_eq!(inb(&rig.rtc, 0), 0xff, "the index cannot be read");
}

#[test]
fn binary_and_twelve_hour_modes() {
    let rig = Rig::new();
    rig.set(0x0b, HOURS_24 | BINARY);
    assert_eq!(rig.time(), [22, 13, 20]);
    rig.set(0x0b, BINARY);
    assert_eq!(rig.time(), [0x80 | 10, 13, 20]);
    rig.set(0x0b, 0);
    assert_eq!(rig.time(), [0x90, 0x13, 0x20]);
    rig.clock.advance(3600 * SECOND * 2);
    assert_eq!(rig.time()[0], 0x12);
}

#[test]
fn the_guest_sets_its_clock_and_the_wall_clock_carries_it_on() {
    let rig = Rig::new();
    rig.set(0x0b, HOURS_24 | SET);
    for (index, value) in [
        (0, 0x58),
        (2, 0x59),
        (4, 0x23),
        (7, 0x28),
        (8, 0x02),
        (9, 0x24),
        (0x32, 0x20),
    ] {
        rig.set(index, value);
    }
    rig.clock.advance(1000 * SECOND);
    assert_eq!(rig.time(), [0x23, 0x59, 0x58], "held while SET");
    rig.set(0x0b, HOURS_24);
    rig.clock.advance(SECOND);
    assert_eq!(rig.time(), [0x23, 0x59, 0x59]);
    rig.clock.advance(SECOND);
    assert_eq!(rig.time(), [0, 0, 0]);
    assert_eq!(rig.date(), [0x20, 0x24, 0x02, 0x29, 0x05]);
    // Without SET, one register at a time.
    rig.set(4, 0x12);
    assert_eq!(rig.time(), [0x12, 0, 0]);
}

#[test]
fn the_dividers_reset_holds_the_clock_and_starts_it_half_a_second_in() {
    let rig = Rig::new();
    rig.set(0x0a, 0x76);
    rig.clock.advance(100 * SECOND);
    assert_eq!(rig.time(), [0x22, 0x13, 0x20]);
    rig.set(0x0a, 0x26);
    rig.clock.advance(SECOND / 2 - 1);
    assert_eq!(rig.time(), [0x22, 0x13, 0x20]);
    rig.clock.advance(1);
    assert_eq!(rig.time(), [0x22, 0x13, 0x21]);
}

#[test]
fn an_update_is_announced() {
    let rig = Rig::new();
    rig.clock.advance(SECOND - 244_141);
    assert_eq!(rig.get(0x0a), 0x26);
    rig.clock.advance(1);
    assert_eq!(rig.get(0x0a), 0xa6);
    rig.set(0x0b, HOURS_24 | SET);
    assert_eq!(rig.get(0x0a), 0x26, "a clock that is held does not update");
    rig.set(0x0a, 0xff);
    assert_eq!(rig.get(0x0a), 0x7f, "the bit cannot be written");
}

#[test]
fn the_update_interrupt() {
    let rig = Rig::new();
    assert_eq!(rig.rtc.next_deadline(), None);
    rig.set(0x0b, HOURS_24 | UIE);
    assert!(rig.rearmed.load(Ordering::SeqCst) > 0);
    for round in 1..4 {
        assert_eq!(rig.run(), round * SECOND);
        assert!(rig.irq.level());
        assert_eq!(
            rig.rtc.next_deadline(),
            None,
            "nothing more until the flag is read"
        );
        assert_eq!(rig.get(0x0c) & 0x90, 0x90);
        assert!(!rig.irq.level());
        assert_eq!(rig.get(0x0c), 0, "reading clears");
    }
    rig.set(0x0b, HOURS_24 | SET | UIE);
    assert_eq!(
        rig.get(0x0b),
        HOURS_24 | SET,
        "SET clears the update's enable bit"
    );
}

#[test]
fn flags_are_set_without_interrupts_and_interrupt_when_enabled_late() {
    let rig = Rig::new();
    rig.clock.advance(SECOND);
    outb(&rig.rtc, 0, 0x0c);
    assert_eq!(inb(&rig.rtc, 1), 0x50, "update and periodic, no interrupt");
    rig.clock.advance(SECOND);
    rig.rtc.tick();
    assert!(!rig.irq.level());
    rig.set(0x0b, HOURS_24 | UIE);
    assert!(rig.irq.level());
    // Whoever is not enabled any more does not interrupt any more, either.
    rig.set(0x0b, HOURS_24);
    assert!(!rig.irq.level());
    rig.set(0x0b, HOURS_24 | PIE | UIE);
    assert!(rig.irq.level());
    assert_eq!(rig.get(0x0c), 0xd0);
}

#[test]
fn the_periodic_interrupt_keeps_its_rate() {
    // Rate code, cycles of the 32,768 Hz crystal.
    for (code, cycles) in [(1, 128), (2, 256), (3, 4), (6, 32), (15, 16_384)] {
        let rig = Rig::new();
        rig.set(0x0a, 0x20 | code);
        rig.set(0x0b, HOURS_24 | PIE);
        rig.get(0x0c);
        for round in 1..100_u64 {
            assert_eq!(
                rig.run(),
                (round * cycles * SECOND).div_ceil(32_768),
                "code {code}"
            );
            assert!(rig.irq.level());
            assert_eq!(rig.get(0x0c) & 0xc0, 0xc0);
        }
        // A thousand missed periods are one interrupt.
        rig.clock.advance(SECOND * 1000);
        rig.rtc.tick();
        assert_eq!(rig.irq.edges(), 100);
    }
    // Not a nanosecond early: at 2 Hz, half a second.
    let rig = Rig::new();
    rig.set(0x0a, 0x2f);
    rig.set(0x0b, HOURS_24 | PIE);
    rig.clock.advance(SECOND / 2 - 1);
    assert_eq!((rig.get(0x0c), rig.irq.level()), (0, false));
    rig.clock.advance(1);
    assert_eq!(rig.get(0x0c), 0xc0);
    let rig = Rig::new();
    rig.set(0x0a, 0x20);
    rig.set(0x0b, HOURS_24 | PIE);
    assert_eq!(rig.rtc.next_deadline(), None, "rate 0 is none");
}

#[test]
fn a_new_periodic_rate_counts_from_the_last_period() {
    let rig = Rig::new();
    rig.set(0x0a, 0x2d);
    rig.set(0x0b, HOURS_24 | PIE);
    let mut ends = 0;
    for round in 0..50 {
        // 8 Hz, then 2 Hz.
        for (rate, period) in [(0x2d, SECOND / 8), (0x2f, SECOND / 2)] {
            rig.set(0x0a, rate);
            ends += period;
            assert_eq!(rig.run(), ends, "round {round}");
            assert_eq!(rig.get(0x0c) & 0xc0, 0xc0);
        }
    }
    // Where nothing was counted, a period begins now: after rate 0, and after the divider's reset.
    for stop in [0x20, 0x7f] {
        rig.set(0x0a, stop);
        rig.clock.advance(SECOND / 3);
        assert_eq!(rig.rtc.next_deadline(), None);
        rig.set(0x0a, 0x2f);
        ends = rig.clock.now_ns() - START + SECOND / 2;
        assert_eq!(rig.run(), ends);
        rig.get(0x0c);
    }
    // The guest's clock has no part in it.
    rig.clock.advance(SECOND / 4);
    rig.set(0x00, 0x07);
    assert_eq!(rig.run(), ends + SECOND / 2);
    // A wall clock that is set back by a day does not stop it for a day.
    rig.get(0x0c);
    rig.clock.set(START - 86_400 * SECOND);
    rig.rtc.tick();
    let due = rig.rtc.next_deadline().unwrap();
    assert_eq!(due, START - 86_400 * SECOND + SECOND / 2);
}

#[test]
fn an_alarm_interrupts_and_wakes() {
    let rig = Rig::new();
    rig.set_alarm([0x22, 0x14, 0x05]);
    rig.set(0x0b, HOURS_24 | AIE);
    assert_eq!(rig.run(), 45 * SECOND);
    assert!(rig.irq.level());
    assert_eq!(rig.power.take(), [PowerRequest::Wakeup(WakeupReason::Rtc)]);
    assert_eq!(rig.get(0x0c) & 0xa0, 0xa0);
    // The next one is tomorrow's.
    assert_eq!(rig.run(), 86_445 * SECOND);
    assert_eq!(rig.power.take(), [PowerRequest::Wakeup(WakeupReason::Rtc)]);
}

#[test]
fn alarm_wildcards() {
    let rig = Rig::new();
    rig.set(0x0b, HOURS_24 | AIE);
    rig.set_alarm([0xff, 0xc0, 0x30]);
    assert_eq!(rig.run(), 10 * SECOND);
    assert_eq!(rig.run(), 70 * SECOND);
    rig.set_alarm([0xff, 0xff, 0xff]);
    assert_eq!(rig.run(), 71 * SECOND);
    rig.set_alarm([0xff, 0x00, 0x00]);
    assert_eq!(rig.run(), 2800 * SECOND);
    rig.set_alarm([0x24, 0x00, 0x00]);
    assert_eq!(rig.rtc.next_deadline(), None, "there is no hour 24");
}

#[test]
fn an_alarm_that_is_not_enabled_sets_its_flag_and_wakes_nobody() {
    let rig = Rig::new();
    rig.set_alarm([0x22, 0x13, 0x21]);
    rig.clock.advance(SECOND);
    rig.rtc.tick();
    assert_eq!((rig.irq.level(), rig.power.take()), (false, vec![]));
    assert_eq!(rig.get(0x0c) & 0xa0, 0x20);
}

#[test]
fn an_alarm_in_a_long_gap_goes_off_once() {
    let rig = Rig::new();
    rig.set_alarm([0x10, 0x00, 0x00]);
    rig.set(0x0b, HOURS_24 | AIE);
    rig.clock.advance(86_400 * SECOND * 365);
    rig.rtc.tick();
    assert_eq!(rig.power.take(), [PowerRequest::Wakeup(WakeupReason::Rtc)]);
    assert_eq!(rig.irq.edges(), 1);
}

#[test]
fn a_wall_clock_that_is_set_back_starts_over() {
    let rig = Rig::new();
    rig.set(0x0b, HOURS_24 | UIE);
    rig.clock.set(START - 3600 * SECOND);
    rig.rtc.tick();
    assert!(!rig.irq.level());
    assert_eq!(rig.time(), [0x21, 0x13, 0x20]);
    assert_eq!(rig.rtc.next_deadline(), Some(START - 3599 * SECOND));
}

#[test]
fn a_reset_keeps_what_the_battery_keeps() {
    let rig = Rig::new();
    rig.set(0x40, 0x5a);
    rig.set(0x0f, 0x05);
    rig.set(4, 0x03);
    rig.set_alarm([0xff; 3]);
    rig.set(0x0b, PIE | AIE | UIE | 0x08 | BINARY | HOURS_24);
    rig.clock.advance(SECOND);
    rig.rtc.tick();
    assert!(rig.irq.level());
    rig.rtc.reset(ResetType::Cold);
    assert!(!rig.irq.level());
    assert_eq!(rig.get(0x0b), UIE | BINARY | HOURS_24);
    assert_eq!((rig.get(0x0c), rig.get(0x0f), rig.get(0x40)), (0, 0, 0x5a));
    assert_eq!((rig.get(5), rig.time()), (0xff, [3, 13, 21]));
}

#[test]
fn memory_sizes_for_firmware() {
    let words = |rig: &Rig, low| u16::from_le_bytes([rig.get(low), rig.get(low + 1)]);
    let rig = Rig::with_memory(Memory {
        below_4g: 3 << 30,
        above_4g: 5 << 30,
    });
    assert_eq!(words(&rig, 0x15), 640);
    assert_eq!((words(&rig, 0x17), words(&rig, 0x30)), (0xffff, 0xffff));
    assert_eq!(words(&rig, 0x34), ((3 << 14) - 256) as u16);
    assert_eq!(
        [rig.get(0x5b), rig.get(0x5c), rig.get(0x5d)],
        [0x00, 0x40, 0x01]
    );
    let rig = Rig::with_memory(Memory {
        below_4g: 8 << 20,
        above_4g: 0,
    });
    assert_eq!((words(&rig, 0x30), words(&rig, 0x34)), (7 * 1024, 0));
    let rig = Rig::with_memory(Memory {
        below_4g: 512 << 10,
        above_4g: u64::MAX,
    });
    assert_eq!((words(&rig, 0x15), words(&rig, 0x30)), (512, 0));
    assert_eq!([rig.get(0x5b), rig.get(0x5c), rig.get(0x5d)], [0xff; 3]);
}

#[test]
fn the_vmm_fills_in_memory_bytes() {
    let rig = Rig::new();
    rig.rtc.set_byte(0x3d, 0x21).unwrap();
    assert_eq!(rig.get(0x3d), 0x21);
    for index in [0x00, 0x0d, 0x32, 0x80, 0xff] {
        let error = rig.rtc.set_byte(index, 1).unwrap_err();
        assert!(error.to_string().contains("0x0E to 0x7F"), "{error}");
    }
}

#[test]
fn a_restored_clock_rings_for_what_it_missed() {
    let saved = Rig::new();
    saved.set_alarm([0x22, 0x14, 0x05]);
    saved.set(0x0b, HOURS_24 | AIE);
    let state = saved.rtc.save();
    let rig = Rig::new();
    rig.clock.advance(3600 * SECOND);
    rig.rtc.restore(&state).unwrap();
    assert_eq!(rig.rtc.next_deadline(), Some(START + 45 * SECOND));
    rig.rtc.tick();
    assert!(rig.irq.level());
    assert_eq!(rig.power.take(), [PowerRequest::Wakeup(WakeupReason::Rtc)]);
}

#[test]
fn bit_7_of_the_index_is_not_part_of_it() {
    let rig = Rig::new();
    rig.set(0x40, 7);
    assert_eq!(rig.get(0xc0), 7);
}
