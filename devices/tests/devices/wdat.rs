//! The registers behind a WDAT, by themselves and through the table as Linux's driver uses it.

use devices::wdat::table::{self, Action, ENTRIES, Instruction, Width};
use devices::wdat::{DEFAULT_COUNT, PERIOD_MS, PORTS, Wdat};
use devices::{Mapping, ResetType, Resettable, SaveRestore, Timed};

use crate::watchdog::{Rig, SECOND};

const BASE: u16 = 0x0a40;
const PERIOD: u64 = 1_000_000 * PERIOD_MS as u64;

const RUN: u16 = 0;
const RESTART: u16 = 1;
const REBOOT: u16 = 2;
const STATUS: u16 = 3;
const COUNT: u16 = 4;
const CURRENT: u16 = 6;

impl Rig<Wdat> {
    fn new() -> Self {
        Self::at(3, Mapping::new(BASE.into(), PORTS[0].len), Wdat::new)
    }

    fn outb(&self, register: u16, value: u8) {
        self.bus.write(u64::from(BASE + register), &[value]);
    }

    fn outw(&self, register: u16, value: u16) {
        self.bus
            .write(u64::from(BASE + register), &value.to_le_bytes());
    }

    fn inb(&self, register: u16) -> u8 {
        let mut data = [0xaa];
        self.bus.read(u64::from(BASE + register), &mut data);
        data[0]
    }

    fn inw(&self, register: u16) -> u16 {
        let mut data = [0xaa; 2];
        self.bus.read(u64::from(BASE + register), &mut data);
        u16::from_le_bytes(data)
    }
}

#[test]
fn a_fresh_watchdog_is_stopped_and_reboots() {
    let rig = Rig::<Wdat>::new();
    let mut data = [0xaa; 12];
    rig.bus.read(BASE.into(), &mut data);
    assert_eq!(data, [0, 0, 1, 0, 0x58, 2, 0x58, 2, 100, 0, 0, 0]);
    assert_eq!(rig.device.next_deadline(), None);
}

#[test]
fn it_counts_down_by_periods_and_expires_once() {
    let rig = Rig::<Wdat>::new();
    rig.outw(COUNT, 3);
    assert_eq!(rig.rearmed(), 0);
    rig.outb(RUN, 1);
    assert_eq!(rig.rearmed(), 1);
    assert_eq!(rig.device.next_deadline(), Some(3 * SECOND + 3 * PERIOD));
    for (pass, left) in [(0, 3), (1, 3), (PERIOD - 2, 3), (1, 2), (2 * PERIOD - 1, 1)] {
        rig.advance(pass);
        assert_eq!((rig.inw(CURRENT), rig.expiries()), (left, 0));
    }
    rig.advance(1);
    assert_eq!((rig.inw(CURRENT), rig.expiries()), (0, 1));
    assert_eq!((rig.inb(RUN), rig.inb(STATUS)), (1, 1));
    for _ in 0..10 {
        rig.advance(SECOND);
        rig.outb(RUN, 1);
    }
    assert_eq!((rig.expiries(), rig.device.next_deadline()), (0, None));
    // A guest that was let go on goes on.
    rig.outb(RESTART, 0);
    assert_eq!(rig.inw(CURRENT), 3);
    rig.advance(3 * PERIOD);
    assert_eq!(rig.expiries(), 1);
}

#[test]
fn running_and_stopped() {
    let rig = Rig::<Wdat>::new();
    rig.outb(RESTART, 1);
    assert_eq!(rig.device.next_deadline(), None, "a stopped one stays so");
    rig.outb(RUN, 0xfe);
    assert_eq!(rig.inb(RUN), 0);
    rig.outb(RUN, 0xff);
    assert_eq!(rig.inb(RUN), 1);
    let due = rig.device.next_deadline();
    rig.clock.advance(SECOND);
    rig.outb(RUN, 1);
    assert_eq!(rig.device.next_deadline(), due, "it runs already");
    rig.outb(RESTART, 0);
    assert_eq!(rig.device.next_deadline(), due.map(|due| due + SECOND));
    rig.outb(RUN, 0);
    assert_eq!((rig.inb(RUN), rig.device.next_deadline()), (0, None));
    rig.advance(1000 * SECOND);
    assert_eq!(rig.expiries(), 0);
    assert_eq!(rig.inw(CURRENT), DEFAULT_COUNT);
}

#[test]
fn a_count_takes_effect_at_the_next_start() {
    let rig = Rig::<Wdat>::new();
    rig.outw(COUNT, 100);
    rig.outb(RUN, 1);
    rig.outw(COUNT, 0xffff);
    assert_eq!((rig.inw(COUNT), rig.inw(CURRENT)), (0xffff, 100));
    rig.outb(RESTART, 1);
    assert_eq!(rig.inw(CURRENT), 0xffff);
    // A byte at a time, too.
    rig.outb(COUNT, 0x34);
    rig.outb(COUNT + 1, 0x12);
    assert_eq!((rig.inw(COUNT), rig.inb(COUNT + 1)), (0x1234, 0x12));
}

#[test]
fn a_countdown_from_nothing_expires_at_once() {
    let rig = Rig::<Wdat>::new();
    rig.outw(COUNT, 0);
    for register in [RUN, RESTART, RESTART] {
        rig.outb(register, 1);
        assert_eq!((rig.expiries(), rig.device.next_deadline()), (1, None));
    }
}

#[test]
fn without_reboot_an_expiry_is_not_seen() {
    let rig = Rig::<Wdat>::new();
    rig.outb(REBOOT, 0xfe);
    rig.outb(RUN, 1);
    rig.advance(60 * SECOND);
    assert_eq!((rig.expiries(), rig.inb(STATUS)), (0, 0));
    assert_eq!((rig.inw(CURRENT), rig.device.next_deadline()), (0, None));
    rig.outb(REBOOT, 1);
    rig.advance(60 * SECOND);
    assert_eq!(rig.expiries(), 0, "what is over is over");
}

#[test]
fn the_status_outlives_resets_until_the_guest_clears_it() {
    for kind in [ResetType::Cold, ResetType::Wakeup, ResetType::SnapshotLoad] {
        let rig = Rig::<Wdat>::new();
        rig.outb(RUN, 1);
        rig.outb(REBOOT, 1);
        rig.outw(COUNT, 1);
        rig.outb(RESTART, 1);
        rig.advance(PERIOD);
        for _ in 0..2 {
            rig.device.reset(kind);
            assert_eq!((rig.inb(RUN), rig.inb(STATUS)), (0, 1), "{kind:?}");
            assert_eq!((rig.inb(REBOOT), rig.inw(COUNT)), (1, DEFAULT_COUNT));
        }
        rig.outb(STATUS, 0xfe);
        assert_eq!(rig.inb(STATUS), 1, "a 0 clears nothing");
        rig.outb(STATUS, 1);
        assert_eq!(rig.inb(STATUS), 0);
        rig.device.reset(kind);
        assert_eq!(rig.inb(STATUS), 0);
    }
}

#[test]
fn a_reset_forgets_a_countdown_that_nobody_has_ticked() {
    let rig = Rig::<Wdat>::new();
    rig.outb(RUN, 1);
    rig.clock.advance(3600 * SECOND);
    rig.device.reset(ResetType::Cold);
    rig.device.tick();
    assert_eq!((rig.expiries(), rig.inb(STATUS)), (0, 0));
}

#[test]
fn a_guest_that_comes_too_late_is_too_late_although_nobody_has_ticked() {
    for register in [RUN, RESTART, STATUS, CURRENT] {
        let rig = Rig::<Wdat>::new();
        rig.outb(RUN, 1);
        rig.clock.advance(60 * SECOND);
        rig.outb(register, 0);
        assert_eq!((rig.expiries(), rig.inb(STATUS)), (1, 1));
    }
    // A read looks too, and agrees with itself: expired, and nothing left.
    let rig = Rig::<Wdat>::new();
    rig.outb(RUN, 1);
    rig.clock.advance(60 * SECOND);
    let mut data = [0xaa; 8];
    rig.bus.read(BASE.into(), &mut data);
    assert_eq!((data[3], data[6], data[7], rig.expiries()), (1, 0, 0, 1));
}

/// An entry, as parsed from the table's bytes.
#[derive(Debug, Clone, Copy)]
struct Parsed {
    action: u8,
    instruction: u8,
    address: u16,
    bytes: usize,
    shift: u8,
    value: u32,
    mask: u32,
}

/// A driver that knows the registers from the table alone, and runs actions as Linux does.
struct Driver<'a> {
    rig: &'a Rig<Wdat>,
    period_ms: u32,
    entries: Vec<Parsed>,
}

impl<'a> Driver<'a> {
    fn probe(rig: &'a Rig<Wdat>) -> Self {
        let table = table::body(BASE);
        let word = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap());
        assert_eq!(word(0), 32, "the header's length");
        assert_eq!(table[4..12], [0xff, 0, 0xff, 0xff, 0xff, 0, 0, 0], "no PCI");
        let (period_ms, max, min) = (word(12), word(16), word(20));
        assert!(period_ms >= 1 && min <= max && min >= 1);
        assert_eq!(table[24] & 0x01, 1, "enabled");
        assert_eq!(table[24] & 0x80, 0x80, "stopped in sleep states");
        let count = usize::try_from(word(28)).unwrap();
        assert_eq!(table.len(), 32 + 24 * count);
        let parse = |entry: &[u8]| {
            assert_eq!(entry[2..4], [0, 0]);
            assert_eq!(entry[4], 1, "system I/O");
            let bytes = 1 << (entry[7] - 1);
            assert_eq!(usize::from(entry[5]), 8 * bytes);
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
            assert_eq!(word(12), 0, "a port has 16 bits");
            Parsed {
                action: entry[0],
                instruction: entry[1],
                address: u16::try_from(word(8)).unwrap(),
                bytes,
                shift: entry[6],
                value: word(16),
                mask: word(20),
            }
        };
        let entries: Vec<_> = table[32..].chunks(24).map(parse).collect();
        let window = u64::from(BASE)..u64::from(BASE) + PORTS[0].len;
        for entry in &entries {
            let last = u64::from(entry.address) + entry.bytes as u64 - 1;
            assert!(window.contains(&u64::from(entry.address)) && window.contains(&last));
            assert!(!(0x70..0x74).contains(&entry.address));
        }
        let driver = Self {
            rig,
            period_ms,
            entries,
        };
        // The driver forgets why it booted, and lets the watchdog reboot.
        driver.run(0x21, 0);
        driver.run(0x11, 0);
        driver
    }

    /// Runs an action, which must be there. Returns what a query gives.
    fn run(&self, action: u8, count: u32) -> u32 {
        let mut result = None;
        let steps = self.entries.iter().filter(|entry| entry.action == action);
        for entry in steps {
            let port = u64::from(entry.address);
            let read = || {
                let mut data = [0; 4];
                self.rig.bus.read(port, &mut data[..entry.bytes]);
                u32::from_le_bytes(data)
            };
            let masked = || (read() >> entry.shift) & entry.mask;
            let preserves = entry.instruction & 0x80 != 0;
            let write = |value: u32| {
                let kept = if preserves {
                    read() & !(entry.mask << entry.shift)
                } else {
                    0
                };
                let value = (value & entry.mask) << entry.shift | kept;
                self.rig
                    .bus
                    .write(port, &value.to_le_bytes()[..entry.bytes]);
                0
            };
            result = Some(match entry.instruction & 0x7f {
                0 => u32::from(masked() == entry.value),
                1 => masked(),
                2 => write(entry.value),
                3 => write(count),
                other => panic!("instruction {other}"),
            });
        }
        result.unwrap_or_else(|| panic!("no action {action:#x}"))
    }

    fn set_timeout(&self, seconds: u32) {
        self.run(0x06, seconds * 1000 / self.period_ms);
    }

    fn start(&self) {
        self.run(0x09, 0);
    }

    fn stop(&self) {
        self.run(0x0b, 0);
    }

    fn ping(&self) {
        self.run(0x01, 0);
    }

    /// Running, stopped: they must never agree.
    fn is_running(&self) -> bool {
        let running = self.run(0x08, 0);
        assert_eq!(self.run(0x0a, 0), 1 - running);
        running == 1
    }

    fn seconds_left(&self) -> u32 {
        self.run(0x04, 0) * self.period_ms / 1000
    }
}

#[test]
fn linuxs_driver_starts_pings_and_stops_it() {
    let rig = Rig::<Wdat>::new();
    let driver = Driver::probe(&rig);
    assert!(!driver.is_running());
    driver.set_timeout(30);
    assert_eq!((driver.run(0x05, 0), driver.seconds_left()), (300, 30));
    driver.start();
    assert!(driver.is_running());
    for _ in 0..100 {
        rig.advance(29 * SECOND);
        assert_eq!(driver.seconds_left(), 1);
        driver.ping();
    }
    assert_eq!((rig.expiries(), driver.seconds_left()), (0, 30));
    // A new timeout, and the ping that the watchdog core sends after it.
    driver.set_timeout(5);
    assert_eq!(driver.seconds_left(), 30);
    driver.ping();
    assert_eq!(driver.seconds_left(), 5);
    driver.stop();
    assert!(!driver.is_running());
    rig.advance(3600 * SECOND);
    assert_eq!(rig.expiries(), 0);
}

#[test]
fn linuxs_driver_starves_it_and_learns_why_it_booted() {
    let rig = Rig::<Wdat>::new();
    let driver = Driver::probe(&rig);
    assert_eq!((driver.run(0x20, 0), driver.run(0x10, 0)), (0, 1));
    rig.outb(REBOOT, 0);
    assert_eq!(driver.run(0x10, 0), 0);
    driver.run(0x11, 0);
    assert_eq!(driver.run(0x10, 0), 1);
    driver.set_timeout(10);
    driver.start();
    rig.advance(10 * SECOND - 1);
    assert_eq!(rig.expiries(), 0);
    rig.advance(1);
    assert_eq!((rig.expiries(), driver.run(0x20, 0)), (1, 1));
    rig.device.reset(ResetType::Cold);
    assert_eq!(driver.run(0x20, 0), 1, "the next boot knows");
    let driver = Driver::probe(&rig);
    assert_eq!(driver.run(0x20, 0), 0, "and the one after it not");
    assert!(!driver.is_running());
}

#[test]
fn linuxs_driver_sleeps_over_it() {
    let rig = Rig::<Wdat>::new();
    let driver = Driver::probe(&rig);
    for _ in 0..50 {
        driver.set_timeout(10);
        driver.start();
        rig.advance(9 * SECOND);
        driver.ping();
        // Suspended for long: the virtual clock stands, and wakeup resets.
        let (before, due) = (driver.seconds_left(), rig.device.next_deadline());
        rig.device.tick();
        assert_eq!(
            (driver.seconds_left(), rig.device.next_deadline()),
            (before, due)
        );
        rig.device.reset(ResetType::Wakeup);
        assert!(!driver.is_running(), "as the table's flags say");
        // Then the driver stops it, sets the time, lets it reboot, and starts it.
        driver.stop();
        driver.set_timeout(10);
        driver.run(0x11, 0);
        driver.start();
        rig.advance(9 * SECOND);
        assert!(driver.is_running());
        driver.stop();
        assert_eq!((rig.expiries(), driver.run(0x20, 0)), (0, 0));
    }
}

#[test]
fn the_table_is_what_the_entries_say() {
    let body = table::body(BASE);
    for (entry, bytes) in ENTRIES.iter().zip(body[32..].chunks(24)) {
        assert_eq!(bytes, entry.to_bytes(BASE));
        assert_eq!(
            (bytes[0], bytes[1]),
            (entry.action as u8, entry.instruction as u8)
        );
    }
    let reset = ENTRIES[0];
    assert_eq!(
        (reset.action, reset.instruction, reset.width),
        (Action::Reset, Instruction::WriteValue, Width::Byte)
    );
    assert_eq!(
        reset.to_bytes(0x1234),
        [
            1, 2, 0, 0, 1, 8, 0, 1, 0x35, 0x12, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0
        ]
    );
    // A base that no port can follow is the VMM's mistake; the address is what was asked for.
    assert_eq!(ENTRIES[1].to_bytes(0xffff)[8..12], [0x05, 0, 1, 0]);
}

#[test]
fn a_restored_watchdog_expires_when_it_would_have() {
    let saved = Rig::<Wdat>::new();
    saved.outw(COUNT, 7);
    saved.outb(RUN, 1);
    let rig = Rig::<Wdat>::new();
    rig.device.restore(&saved.device.save()).unwrap();
    assert_eq!(rig.rearmed(), 1);
    assert_eq!((rig.inb(RUN), rig.inw(CURRENT)), (1, 7));
    rig.advance(7 * PERIOD);
    assert_eq!(rig.expiries(), 1);
}
