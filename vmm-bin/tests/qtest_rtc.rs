//! The real-time clock on the virtual clock (`--rtc clock=vm`), as a guest sees it: what the data
//! sheet of the MC146818 says, nanosecond by nanosecond. No KVM is needed.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may fail by overflowing"
)]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::qtest::{Client, Machine};

const SECOND: u64 = 1_000_000_000;
/// How long before an update register A says so: 8 cycles of 32,768 Hz.
const UIP_HOLD: u64 = 8 * SECOND / 32_768;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const CENTURY: u8 = 0x32;
const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

const UIP: u8 = 0x80;
const DIVIDER_RESET: u8 = 0x76;
const RUN: u8 = 0x26;
const SET: u8 = 0x80;
const PIE: u8 = 0x40;
const AIE: u8 = 0x20;
const UIE: u8 = 0x10;
const BINARY: u8 = 0x04;
const HOURS_24: u8 = 0x02;
const INTERRUPT: u8 = 0x80;

/// In an alarm: whatever it is.
const ANY: u8 = 0xc0;

/// The interrupt line.
const LINE: u32 = 8;

fn get(guest: &mut Client, index: u8) -> u8 {
    guest.outb(0x70, index);
    guest.inb(0x71)
}

fn set(guest: &mut Client, index: u8, value: u8) {
    guest.outb(0x70, index);
    guest.outb(0x71, value);
}

/// A clock that begins with `base`, and whose interrupts are watched.
fn machine(base: &str) -> Machine {
    let mut machine = Machine::start(&["--rtc", &format!("clock=vm,base={base}")]);
    machine.guest.stop_timer();
    machine.guest.tell("irq_intercept_in ioapic");
    machine
}

/// The host's time, in seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Hours, minutes, seconds.
fn time(guest: &mut Client) -> [u8; 3] {
    [HOURS, MINUTES, SECONDS].map(|index| get(guest, index))
}

/// Sets the time as an operating system does: the divider held in reset.
fn set_time(guest: &mut Client, mode: u8, time: [u8; 3]) {
    set(guest, B, mode);
    set(guest, A, DIVIDER_RESET);
    for (index, value) in [HOURS, MINUTES, SECONDS].into_iter().zip(time) {
        set(guest, index, value);
    }
    set(guest, A, RUN);
}

/// The second, the minute and the hour at which the alarm goes off.
fn set_alarm(guest: &mut Client, alarm: [u8; 3]) {
    for (index, value) in [0x01, 0x03, 0x05].into_iter().zip(alarm) {
        set(guest, index, value);
    }
}

/// Century, year, month, day, hour, minute, second.
fn set_date(guest: &mut Client, date: [u8; 7]) {
    for (index, value) in DATE.into_iter().zip(date) {
        set(guest, index, value);
    }
}

const DATE: [u8; 7] = [CENTURY, YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS];

fn date(guest: &mut Client) -> [u8; 7] {
    DATE.map(|index| get(guest, index))
}

fn from_bcd(value: u8) -> u64 {
    u64::from(value >> 4) * 10 + u64::from(value & 0xf)
}

#[test]
fn it_begins_with_the_hosts_time_and_follows_the_guests() {
    for mode in [HOURS_24, HOURS_24 | BINARY] {
        let before = now();
        let mut machine = Machine::start(&["--rtc", "clock=vm"]);
        let after = now();
        let guest = &mut machine.guest;
        set(guest, B, mode);
        let read = if mode & BINARY != 0 {
            u64::from
        } else {
            from_bcd
        };
        let shown = time(guest).map(read);
        let [hour, minute, second] = shown;
        let shown = hour * 3600 + minute * 60 + second;
        let possible = (before..=after).any(|second| second % 86_400 == shown);
        assert!(possible, "{shown}, between {before} and {after}");
        guest.step(3 * SECOND);
        let [hour, minute, second] = time(guest).map(read);
        assert_eq!(hour * 3600 + minute * 60 + second, (shown + 3) % 86_400);
        machine.end();
    }
}

#[test]
fn a_given_date_is_shown_in_every_mode() {
    let mut machine = machine("2006-06-17T16:01:21");
    let guest = &mut machine.guest;
    assert_eq!(date(guest), [0x20, 0x06, 0x06, 0x17, 0x16, 0x01, 0x21]);
    assert_eq!(get(guest, 0x06), 7, "a Saturday");
    set(guest, B, HOURS_24 | BINARY);
    assert_eq!(date(guest), [20, 6, 6, 17, 16, 1, 21]);
    set(guest, B, BINARY);
    assert_eq!(get(guest, HOURS), 0x84);
    set(guest, B, 0);
    assert_eq!(get(guest, HOURS), 0x84);
    assert_eq!(get(guest, D), 0x80, "the battery is good");
    machine.end();
}

#[test]
fn years_of_two_centuries_can_be_set() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    set(guest, B, HOURS_24);
    for (century, year) in [(0x20, 0x11), (0x20, 0x80), (0x19, 0x80), (0x20, 0x38)] {
        let wanted = [century, year, 0x02, 0x02, 0x02, 0x04, 0x58];
        set(guest, A, DIVIDER_RESET);
        set_date(guest, wanted);
        set(guest, A, RUN);
        assert_eq!(date(guest), wanted);
        // Over the end of the month of February, and of the 29th in a leap year.
        set(guest, A, DIVIDER_RESET);
        set_date(guest, [century, year, 0x02, 0x28, 0x23, 0x59, 0x59]);
        set(guest, A, RUN);
        guest.step(SECOND);
        let leap = from_bcd(year).is_multiple_of(4);
        let after = if leap { [0x02, 0x29] } else { [0x03, 0x01] };
        assert_eq!(date(guest)[2..4], after);
    }
    machine.end();
}

/// Hours of both ways to write them, through midnight and noon.
#[test]
fn hours_carry_over_in_every_mode() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    for (mode, from, to) in [
        (HOURS_24, [0x09, 0x59, 0x59], [0x10, 0x00, 0x00]),
        (HOURS_24, [0x23, 0x59, 0x59], [0x00, 0x00, 0x00]),
        (HOURS_24 | BINARY, [9, 59, 59], [10, 0, 0]),
        (HOURS_24 | BINARY, [23, 59, 59], [0, 0, 0]),
        (0, [0x09, 0x59, 0x59], [0x10, 0x00, 0x00]),
        (0, [0x11, 0x59, 0x59], [0x92, 0x00, 0x00]),
        (0, [0x92, 0x59, 0x59], [0x81, 0x00, 0x00]),
        (0, [0x91, 0x59, 0x59], [0x12, 0x00, 0x00]),
        (0, [0x12, 0x59, 0x59], [0x01, 0x00, 0x00]),
        (BINARY, [9, 59, 59], [10, 0, 0]),
        (BINARY, [11, 59, 59], [0x8c, 0, 0]),
        (BINARY, [0x8c, 59, 59], [0x81, 0, 0]),
        (BINARY, [0x8b, 59, 59], [12, 0, 0]),
        (BINARY, [12, 59, 59], [1, 0, 0]),
    ] {
        set_time(guest, mode, from);
        guest.step(SECOND);
        assert_eq!(time(guest), to, "mode {mode:#x}, from {from:x?}");
        // A minute later, but for a second.
        set_time(guest, mode, from);
        guest.step(60 * SECOND);
        assert_eq!(
            get(guest, SECONDS),
            if mode & BINARY != 0 { 59 } else { 0x59 }
        );
    }
    machine.end();
}

#[test]
fn a_clock_that_is_being_set_stands_still() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    let wanted = [0x20, 0x11, 0x02, 0x02, 0x02, 0x04, 0x58];
    set(guest, B, HOURS_24 | SET);
    set_date(guest, wanted);
    assert_eq!(date(guest), wanted);
    guest.step(SECOND);
    assert_eq!(date(guest), wanted);
    assert_eq!(get(guest, A) & UIP, 0);
    assert_eq!(get(guest, C) & UIE, 0, "no update has ended");
    set(guest, B, HOURS_24);
    assert_eq!(date(guest), wanted);
    guest.step(SECOND);
    assert_eq!(get(guest, SECONDS), 0x59);
    // SET takes the update's enable bit with it.
    set(guest, B, HOURS_24 | UIE | SET);
    assert_eq!(get(guest, B), HOURS_24 | SET);
    machine.end();
}

/// The first update comes half a second after the divider is let go, and register A says 244 us
/// before that it does.
#[test]
fn the_divider_starts_again_in_the_middle_of_a_second() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    set(guest, B, HOURS_24);
    set(guest, A, DIVIDER_RESET);
    let wanted = [0x20, 0x11, 0x02, 0x02, 0x02, 0x04, 0x58];
    set_date(guest, wanted);
    guest.step(SECOND);
    assert_eq!(date(guest), wanted);
    set(guest, A, RUN);
    guest.step(SECOND / 2 - UIP_HOLD - 1);
    assert_eq!(get(guest, A), RUN);
    guest.step(1);
    assert_eq!(get(guest, A), RUN | UIP);
    assert_eq!(date(guest), wanted);
    guest.step(UIP_HOLD);
    assert_eq!(get(guest, A), RUN);
    assert_eq!(get(guest, SECONDS), 0x59);
    // And from then on every second.
    guest.step(SECOND - 1);
    assert_eq!((get(guest, A), get(guest, SECONDS)), (RUN | UIP, 0x59));
    guest.step(1);
    assert_eq!((get(guest, A), get(guest, SECONDS)), (RUN, 0x00));
    machine.end();
}

/// However the time is stepped, the notice of an update does not stand.
#[test]
fn the_notice_of_an_update_does_not_stick() {
    let mut machine = machine("2026-01-01T00:00:00");
    let guest = &mut machine.guest;
    for (index, value) in [
        (0x01, 0x02),
        (0x03, 0x00),
        (0x05, 0x00),
        (B, HOURS_24 | AIE),
    ] {
        set(guest, index, value);
    }
    for round in 0..20 {
        guest.step(SECOND - UIP_HOLD);
        assert_eq!(get(guest, A) & UIP, UIP, "round {round}");
        guest.step(UIP_HOLD);
        assert_eq!(get(guest, A) & UIP, 0, "round {round}");
        if round % 3 == 0 {
            get(guest, C);
        }
    }
    // Long past many updates and an alarm that nobody has seen.
    guest.step(1000 * SECOND);
    assert_eq!(get(guest, A) & UIP, 0);
    machine.end();
}

#[test]
fn an_alarm_goes_off_when_all_that_it_names_agrees() {
    let mut machine = machine("2026-01-01T12:34:55");
    let guest = &mut machine.guest;
    // Second, minute, hour of the alarm; after how many seconds.
    for (alarm, after) in [
        ([0x57, ANY, ANY], 2),
        ([ANY, ANY, ANY], 1),
        ([0xff, 0xfe, 0xc0], 1),
        ([0x10, 0x36, 0x12], 75),
        ([0x00, 0x00, 0x13], 25 * 60 + 5),
        ([0x54, 0x34, 0x12], 86_399),
        ([ANY, 0x35, ANY], 5),
        ([0x30, ANY, 0x13], 25 * 60 + 35),
    ] {
        set_time(guest, HOURS_24, [0x12, 0x34, 0x55]);
        // The divider begins in the middle of the second.
        guest.step(SECOND / 2 - 1);
        set_alarm(guest, alarm);
        get(guest, C);
        set(guest, B, HOURS_24 | AIE);
        guest.pins();
        guest.step((after - 1) * SECOND);
        assert_eq!(guest.pins(), [], "{alarm:x?}");
        guest.step(1);
        assert_eq!(guest.pins(), [(LINE, true)], "{alarm:x?}");
        assert_eq!(get(guest, C) & (INTERRUPT | AIE), INTERRUPT | AIE);
        assert_eq!(guest.pins(), [(LINE, false)]);
        assert_eq!(get(guest, C), 0, "reading has cleared it");
        set(guest, B, HOURS_24);
    }
    // Nothing that is no time of day ever comes.
    set_alarm(guest, [0x60, ANY, ANY]);
    set(guest, B, HOURS_24 | AIE);
    guest.step(90_000 * SECOND);
    assert_eq!(get(guest, C) & AIE, 0);
    machine.end();
}

#[test]
fn each_interrupt_is_enabled_by_its_own_bit() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    set(guest, B, HOURS_24);
    set_alarm(guest, [ANY, ANY, ANY]);
    // The flags are there without an interrupt, and with it once their bit is set.
    for enable in [PIE, AIE, UIE] {
        get(guest, C);
        guest.step(2 * SECOND);
        guest.pins();
        assert_eq!(get(guest, C), PIE | AIE | UIE);
        guest.step(2 * SECOND);
        set(guest, B, HOURS_24 | enable);
        assert_eq!(guest.pins(), [(LINE, true)]);
        set(guest, B, HOURS_24);
        assert_eq!(guest.pins(), [(LINE, false)]);
        assert_eq!(get(guest, C), PIE | AIE | UIE);
    }
    machine.end();
}

#[test]
fn the_update_ended_interrupt_comes_every_second() {
    let mut machine = machine("2026-01-01T00:00:00.25");
    let guest = &mut machine.guest;
    set(guest, B, HOURS_24 | UIE);
    for second in 0..20 {
        assert_eq!(guest.number("clock_step"), second * SECOND + SECOND * 3 / 4);
        assert_eq!(guest.pins(), [(LINE, true)]);
        assert_eq!(get(guest, C) & (INTERRUPT | UIE), INTERRUPT | UIE);
        assert_eq!(guest.pins(), [(LINE, false)]);
    }
    machine.end();
}

/// Rates that change from one interrupt to the next: each period is whole.
#[test]
fn periodic_interrupts_keep_whole_periods() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    set(guest, A, 0x2d);
    set(guest, B, HOURS_24 | PIE);
    let start = guest.number("clock_step");
    let mut now = start;
    assert_eq!(get(guest, C) & PIE, PIE);
    for round in 0..50 {
        for rate in [0x0d, 0x2f] {
            set(guest, A, rate);
            guest.pins();
            now = guest.number("clock_step");
            assert_eq!(guest.pins(), [(LINE, true)], "round {round}");
            assert_eq!(get(guest, C) & PIE, PIE);
        }
    }
    let expected = 50 * (SECOND / 8 + SECOND / 2);
    assert!(
        (now - start).abs_diff(expected) < SECOND / 1000,
        "{} instead of {expected}",
        now - start
    );
    // 1,024 Hz, and rate 0.
    set(guest, A, RUN);
    let first = guest.number("clock_step");
    get(guest, C);
    let period = guest.number("clock_step") - first;
    assert!(period.abs_diff(32 * SECOND / 32_768) <= 1, "{period}");
    get(guest, C);
    set(guest, A, 0x20);
    let now = guest.step(1);
    assert_eq!(guest.number("clock_step"), now, "no timer is left");
    machine.end();
}

/// Any value in any register: the machine lives, and the clock can be set right again.
#[test]
fn no_register_value_breaks_the_clock() {
    let mut machine = machine("2026-01-01");
    let guest = &mut machine.guest;
    let mut random: u32 = 0x2545_f491;
    for _ in 0..1000 {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let [index, value, step, _] = random.to_le_bytes();
        set(guest, index & 0x3f, value);
        get(guest, index & 0x3f);
        if step < 32 {
            guest.step(u64::from(step) * SECOND / 7);
        }
    }
    set_time(guest, HOURS_24, [0x01, 0x02, 0x03]);
    guest.step(SECOND);
    assert_eq!(time(guest), [0x01, 0x02, 0x04]);
    machine.end();
}

/// Zones that a POSIX `TZ` spells out, so that no database is asked: with and without daylight saving,
/// which is then on all year; and one that nobody can read, which is UTC.
#[test]
fn local_time_is_that_of_the_zone_now() {
    for (zone, ahead) in [
        ("UTC0", 0),
        ("IST-5:30", 19_800),
        ("NST3:30NDT,0/0,J365/25", -9_000),
        ("no such zone", 0),
    ] {
        for clock in ["vm", "host"] {
            let base = format!("clock={clock},base=localtime");
            let before = now().cast_signed() + ahead;
            let mut program = common::program();
            let mut machine = Machine::start_from(program.env("TZ", zone), &["--rtc", &base]);
            set(&mut machine.guest, B, HOURS_24);
            let bcd = |byte: u8| i64::from(byte >> 4) * 10 + i64::from(byte & 0xf);
            let [hours, minutes, seconds] = time(&mut machine.guest).map(bcd);
            let shown = hours * 3600 + minutes * 60 + seconds;
            // It may have become later between the two looks, and past midnight.
            let late = (shown - before).rem_euclid(86_400);
            assert!(late < 600, "{zone}, {clock}: {late} s after {before}");
            machine.end();
        }
    }
}

/// Sets an alarm for each second, lets it wake the machine, and falls asleep.
fn sleep_with_an_alarm(guest: &mut Client) {
    set_alarm(guest, [ANY, ANY, ANY]);
    set(guest, B, HOURS_24 | AIE);
    // RTC_EN, and then SLP_EN with the sleep type of S3.
    guest.outw(0x602, 0x400);
    guest.outw(0x604, 0x2400);
}

/// With `clock=vm` the alarm stands with the machine; with `clock=host` it wakes it.
#[test]
fn an_alarm_on_the_virtual_clock_does_not_wake_a_sleeping_machine() {
    let mut machine = machine("2026-01-01");
    let Machine { guest, qmp, .. } = &mut machine;
    sleep_with_an_alarm(guest);
    assert_eq!(qmp.status(), "suspended");
    guest.step(10 * SECOND);
    assert_eq!(qmp.status(), "suspended");
    machine.end();

    let mut machine = Machine::start(&["--rtc", "clock=host"]);
    let Machine { guest, qmp, .. } = &mut machine;
    sleep_with_an_alarm(guest);
    qmp.event("WAKEUP");
    assert_eq!(guest.inw(0x600) & 0x8400, 0x8400, "WAK and RTC");
    machine.end();
}
