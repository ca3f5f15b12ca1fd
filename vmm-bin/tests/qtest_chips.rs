//! The interval timer and the interrupt controllers of a machine without KVM, as a client that plays the
//! guest finds them.

#![expect(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::qtest::{Client, Machine};

const SECOND: u64 = 1_000_000_000;
/// Pulses of the timer's crystal a second.
const HZ: u64 = 1_193_182;

/// The 8259s: command and data.
const PIC1: u16 = 0x20;
const PIC2: u16 = 0xa0;
/// The 8254: counters, control, and the port of the speaker.
const PIT: u16 = 0x40;
const PIT_CONTROL: u16 = 0x43;
const SPEAKER: u16 = 0x61;

/// The I/O APIC's entry of the timer, as the MADT has it, and of the real-time clock.
const TIMER_ENTRY: u8 = 0x14;
const RTC_ENTRY: u8 = 0x20;

/// Counter 0, both bytes, in a mode.
fn start(guest: &mut Client, mode: u8, count: u16) {
    guest.outb(PIT_CONTROL, 0x30 | mode << 1);
    for byte in count.to_le_bytes() {
        guest.outb(PIT, byte);
    }
}

/// Both chips as a PC's firmware sets them up, with everything unmasked: vectors 0x08 and 0x70.
fn set_up_pics(guest: &mut Client) {
    for (port, vector, cascade) in [(PIC1, 0x08, 0x04), (PIC2, 0x70, 0x02)] {
        guest.outb(port, 0x11);
        for word in [vector, cascade, 0x01, 0x00] {
            guest.outb(port + 1, word);
        }
    }
}

/// Takes an interrupt as a processor does, by polls: the line; `None` if nothing waits.
fn poll(guest: &mut Client) -> Option<u8> {
    guest.outb(PIC1, 0x0c);
    let first = guest.inb(PIC1);
    if first & 0x80 == 0 {
        return None;
    }
    if first & 7 != 2 {
        return Some(first & 7);
    }
    guest.outb(PIC2, 0x0c);
    Some(8 + (guest.inb(PIC2) & 7))
}

fn ioapic(guest: &mut Client, index: u8) -> u64 {
    guest.tell(&format!("writeb 0xfec00000 {index}"));
    guest.number("readl 0xfec00010")
}

fn set_ioapic(guest: &mut Client, index: u8, value: u32) {
    guest.tell(&format!("writel 0xfec00000 {index}"));
    guest.tell(&format!("writel 0xfec00010 {value}"));
}

#[test]
fn the_interval_timer_runs_from_power_on_at_18_hz() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.tell("irq_intercept_in ioapic");
    // High and low for 32,768 pulses each; the client takes the line for low at first, and hears of the
    // high half as it ends, as QEMU's client does.
    assert_eq!(guest.step(30_000_000), 30_000_000);
    assert_eq!(guest.timer(), [true, false]);
    guest.step(30_000_000);
    assert_eq!(guest.timer(), [true]);
    guest.step(60_000_000);
    assert_eq!(guest.timer(), [false, true]);
    // The next timer is the line's next change.
    let next = (5 * 32_768 * SECOND).div_ceil(HZ);
    assert_eq!(guest.number("clock_step"), next);
    assert_eq!(guest.timer(), [false]);
    let before = (next * HZ / SECOND) / 65_536;
    let now = guest.step(3600 * SECOND);
    let periods = (now * HZ / SECOND) / 65_536 - before;
    let timer = guest.timer();
    assert!(
        (2 * periods).abs_diff(timer.len() as u64) <= 1,
        "{periods}: {}",
        timer.len()
    );
    assert!(
        timer
            .chunks(2)
            .all(|pair| matches!(pair, [true, false] | [true]))
    );
    machine.end();
}

#[test]
fn every_mode_drives_the_line_at_its_time() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.tell("irq_intercept_in ioapic");
    let ns = |pulses: u64| (pulses * SECOND).div_ceil(HZ);
    // A thousand pulses; within a few pulses of the next thousand, what comes of it.
    for (mode, within, after) in [
        (0, &[][..], &[true][..]),
        (2, &[], &[false, true]),
        (3, &[false], &[true]),
        (4, &[], &[false, true]),
    ] {
        guest.outb(PIT_CONTROL, 0x32);
        guest.timer();
        start(guest, mode, 1000);
        guest.timer();
        guest.step(ns(990));
        assert_eq!(guest.timer(), within, "mode {mode}");
        guest.step(ns(20));
        assert_eq!(guest.timer(), after, "mode {mode}");
    }
    // Modes 1 and 5 wait for a trigger, and the gate of this counter never moves.
    for mode in [1, 5] {
        start(guest, mode, 1000);
        guest.timer();
        guest.step(SECOND);
        assert_eq!(guest.timer(), [false; 0], "mode {mode}");
    }
    machine.end();
}

/// The way of a program that measures time with the speaker's counter.
#[test]
fn the_speakers_counter_is_seen_at_port_0x61() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.outb(SPEAKER, 0);
    guest.outb(PIT_CONTROL, 0xb0);
    guest.outb(PIT + 2, 0xa9);
    guest.outb(PIT + 2, 0x04);
    guest.step(10_000_000);
    assert_eq!(guest.inb(SPEAKER) & 0x2f, 0x00, "the gate is closed");
    guest.outb(SPEAKER, 0x01);
    guest.step(900_000);
    assert_eq!(guest.inb(SPEAKER) & 0x2f, 0x01);
    // Status and count, latched: low output, counting, both bytes, mode 0.
    guest.outb(PIT_CONTROL, 0xc8);
    let latched: Vec<u8> = (0..3).map(|_| guest.inb(PIT + 2)).collect();
    assert_eq!(latched[0], 0x30);
    let left = u16::from_le_bytes([latched[1], latched[2]]);
    assert!((115..125).contains(&left), "{left}");
    guest.step(200_000);
    assert_eq!(guest.inb(SPEAKER) & 0x2f, 0x21);
    // The refresh bit turns with each read.
    assert_ne!(guest.inb(SPEAKER) & 0x10, guest.inb(SPEAKER) & 0x10);
    machine.end();
}

#[test]
fn an_interrupt_is_requested_taken_and_ended() {
    let mut machine = Machine::start(&["--rtc", "clock=vm"]);
    let guest = &mut machine.guest;
    guest.stop_timer();
    set_up_pics(guest);
    assert_eq!(poll(guest), None);
    // A tick of the timer, and the clock's interrupt behind the second chip.
    start(guest, 0, 100);
    guest.outb(0x70, 0x0b);
    guest.outb(0x71, 0x52);
    guest.step(2 * SECOND);
    assert_eq!((guest.inb(PIC1), guest.inb(PIC2)), (0x05, 0x01));
    assert_eq!(poll(guest), Some(0));
    assert_eq!(poll(guest), None, "a higher one is in service");
    guest.outb(PIC1, 0x0b);
    assert_eq!(guest.inb(PIC1), 0x01);
    guest.outb(PIC1, 0x20);
    assert_eq!(poll(guest), Some(8));
    for port in [PIC2, PIC1] {
        guest.outb(port, 0x20);
    }
    assert_eq!(poll(guest), None);
    // Masked, it waits.
    guest.outb(PIC1 + 1, 0x01);
    start(guest, 0, 100);
    guest.step(SECOND);
    assert_eq!(poll(guest), None);
    guest.outb(PIC1 + 1, 0x00);
    assert_eq!(poll(guest), Some(0));
    // The registers that say which lines are triggered by level.
    for (port, written, read) in [(0x4d0, 0xff, 0xf8), (0x4d1, 0xff, 0xde)] {
        guest.outb(port, written);
        assert_eq!(guest.inb(port), read);
    }
    machine.end();
}

#[test]
fn the_io_apic_keeps_a_level_until_its_end() {
    let mut machine = Machine::start(&["--rtc", "clock=vm"]);
    let guest = &mut machine.guest;
    guest.stop_timer();
    assert_eq!(ioapic(guest, 1), 0x0017_0020);
    assert_eq!(ioapic(guest, RTC_ENTRY), 0x0001_0000, "masked at first");
    // Triggered by level, vector 0x48.
    set_ioapic(guest, RTC_ENTRY, 0x8048);
    guest.outb(0x70, 0x0b);
    guest.outb(0x71, 0x52);
    guest.step(2 * SECOND);
    assert_eq!(ioapic(guest, RTC_ENTRY), 0xc048, "remote IRR");
    guest.tell("writel 0xfec00040 0x47");
    assert_eq!(ioapic(guest, RTC_ENTRY), 0xc048);
    guest.tell("writel 0xfec00040 0x48");
    assert_eq!(ioapic(guest, RTC_ENTRY), 0xc048, "it is still high");
    guest.outb(0x70, 0x0c);
    guest.inb(0x71);
    guest.tell("writel 0xfec00040 0x48");
    assert_eq!(ioapic(guest, RTC_ENTRY), 0x8048);
    // An edge has no end. The timer comes where the MADT says.
    set_ioapic(guest, TIMER_ENTRY, 0x8030);
    start(guest, 0, 100);
    guest.step(SECOND);
    assert_eq!(ioapic(guest, TIMER_ENTRY), 0xc030);
    set_ioapic(guest, TIMER_ENTRY, 0x0030);
    assert_eq!(ioapic(guest, TIMER_ENTRY), 0x0030);
    guest.tell("set_irq_in ioapic unnamed-gpio-in 23 1");
    set_ioapic(guest, 0x3e, 0x8051);
    assert_eq!(ioapic(guest, 0x3e), 0xc051);
    machine.end();
}

#[test]
fn a_reset_has_them_as_at_power_on() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    set_up_pics(guest);
    guest.outb(PIC1 + 1, 0xff);
    guest.outb(0x4d0, 0xf8);
    set_ioapic(guest, TIMER_ENTRY, 0x8030);
    guest.outb(PIT_CONTROL, 0x1a);
    guest.outb(0xcf9, 6);
    assert_eq!(guest.inb(PIC1 + 1), 0);
    assert_eq!((guest.inb(PIC1), guest.inb(PIC2)), (0, 0), "no request");
    assert_eq!(guest.inb(0x4d0), 0);
    assert_eq!(ioapic(guest, TIMER_ENTRY), 0x0001_0000);
    guest.outb(PIT_CONTROL, 0xe2);
    assert_eq!(guest.inb(PIT), 0xb6, "high, both bytes, mode 3");
    assert_eq!(machine.qmp.events_so_far(), ["RESET"]);
    machine.end();
}

/// While the machine stands no timer goes off, and the periods that were missed are not made up for one
/// by one.
#[test]
fn a_timer_that_was_stepped_past_goes_off_when_the_machine_runs() {
    let mut machine = Machine::start(&[]);
    let Machine { guest, qmp, .. } = &mut machine;
    guest.tell("irq_intercept_in ioapic");
    start(guest, 2, 1193);
    guest.timer();
    qmp.execute("stop");
    assert_eq!(guest.step(3600 * SECOND), 3600 * SECOND);
    assert_eq!(guest.timer(), [false; 0]);
    qmp.execute("cont");
    guest.tell("outb 0x80 0");
    let late = guest.timer();
    assert!((2..6).contains(&late.len()), "{late:?}");
    machine.end();
}

/// The fastest rate there is, for a day: the step ends, and so does what the client is told.
#[test]
fn a_guest_that_asks_for_half_a_million_interrupts_a_second_gets_an_end() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.tell("irq_intercept_in ioapic");
    guest.timer();
    let begun = Instant::now();
    start(guest, 2, 2);
    assert_eq!(guest.step(86_400 * SECOND), 86_400 * SECOND);
    let told = guest.timer().len();
    assert!((1 << 17..=(1 << 18) + 8).contains(&told), "{told}");
    assert!(
        begun.elapsed() < Duration::from_secs(120),
        "{:?}",
        begun.elapsed()
    );
    // What a guest may not ask for stops the counter.
    start(guest, 2, 1);
    guest.timer();
    guest.step(SECOND);
    assert_eq!(guest.timer(), [false; 0]);
    let now = guest.step(0);
    assert_eq!(guest.step(1 << 62), now + (1 << 62));
    machine.end();
}

/// Any value in any of their registers, with time in between.
#[test]
fn no_register_value_breaks_them() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.tell("irq_intercept_in ioapic");
    let ports = [
        0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61,
    ];
    let mut random = 0x9e37_79b9_u32;
    for round in 0..3_000_usize {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let port = ports[round % ports.len()];
        guest.tell(&format!("outl {port} {random:#x}"));
        guest.number(&format!("inl {port}"));
        set_ioapic(guest, random.to_le_bytes()[3] % 0x40, random);
        guest.step(u64::from(random >> 12));
    }
    // As firmware sets them up, they are as good as new.
    set_up_pics(guest);
    guest.stop_timer();
    while poll(guest).is_some() {}
    set_up_pics(guest);
    start(guest, 0, 100);
    guest.step(SECOND);
    assert_eq!(poll(guest), Some(0));
    machine.end();
}
