//! The 8259s; step by step they are held to a model in the property tests.

use std::sync::Arc;

use devices::pic::Pic;
use devices::{IrqProbe, ResetType, Resettable};

use crate::{inb, outb};

const COMMAND: u64 = 0;
const DATA: u64 = 1;
const LEVEL: u64 = 4;
const SLAVE: u64 = 2;

struct Rig {
    processor: Arc<IrqProbe>,
    device: Pic,
}

impl Rig {
    /// Set up as by a PC's firmware, but for ICW4.
    fn new(icw4: u8) -> Self {
        let processor = Arc::new(IrqProbe::new());
        let device = Pic::new(processor.clone());
        for (chip, base, cascade) in [(0, 0x20, 4), (SLAVE, 0x28, 2)] {
            outb(&device, chip, 0x11);
            for word in [base, cascade, icw4, 0] {
                outb(&device, chip + DATA, word);
            }
        }
        Self { processor, device }
    }

    fn pulse(&self, line: u32) {
        self.device.set(line, true);
        self.device.set(line, false);
    }

    /// What the processor takes; `None` if its line is low.
    fn take(&self) -> Option<u8> {
        self.processor.level().then(|| self.device.acknowledge())
    }
}

#[test]
fn every_line_has_its_vector() {
    let rig = Rig::new(0x01);
    for line in 0..16 {
        rig.pulse(line);
        let expected = (line != 2).then_some(0x20 + line as u8);
        assert_eq!(rig.take(), expected, "line {line}");
        // Ends: of the slave first, if it had one.
        outb(&rig.device, SLAVE, 0x20);
        outb(&rig.device, COMMAND, 0x20);
    }
}

#[test]
fn the_slaves_lines_are_between_the_masters() {
    let rig = Rig::new(0x01);
    for line in [7, 3, 15, 8, 1, 0] {
        rig.pulse(line);
    }
    let mut taken = Vec::new();
    while let Some(vector) = rig.take() {
        taken.push(vector);
        outb(&rig.device, SLAVE, 0x20);
        outb(&rig.device, COMMAND, 0x20);
    }
    assert_eq!(taken, [0x20, 0x21, 0x28, 0x2f, 0x23, 0x27]);
}

#[test]
fn what_is_in_service_holds_up_what_is_not_higher() {
    let rig = Rig::new(0x01);
    rig.pulse(4);
    assert_eq!(rig.take(), Some(0x24));
    for line in [4, 5] {
        rig.pulse(line);
        assert_eq!(rig.take(), None, "line {line}");
    }
    rig.pulse(1);
    assert_eq!(rig.take(), Some(0x21));
    // A specific end of the lower one lets nothing through: the higher one is in service.
    outb(&rig.device, COMMAND, 0x64);
    assert_eq!(rig.take(), None);
    outb(&rig.device, COMMAND, 0x20);
    assert_eq!(rig.take(), Some(0x24));
}

#[test]
fn automatic_ends_lose_nothing_behind_the_slave() {
    let rig = Rig::new(0x03);
    for line in [9, 10, 11] {
        rig.pulse(line);
    }
    let taken: Vec<_> = std::iter::from_fn(|| rig.take()).collect();
    assert_eq!(taken, [0x29, 0x2a, 0x2b]);
    assert_eq!(inb(&rig.device, SLAVE), 0);
}

#[test]
fn rotation_serves_equals_in_turn() {
    let rig = Rig::new(0x01);
    let mut taken = Vec::new();
    for _ in 0..6 {
        rig.pulse(3);
        rig.pulse(5);
        taken.push(rig.take().unwrap());
        // Rotate on a non-specific end.
        outb(&rig.device, COMMAND, 0xa0);
    }
    assert_eq!(taken, [0x23, 0x25, 0x23, 0x25, 0x23, 0x25]);
    // The lowest is set: 4, so that 5 is the highest.
    outb(&rig.device, COMMAND, 0xc4);
    rig.pulse(0);
    rig.pulse(5);
    assert_eq!(rig.take(), Some(0x25));
}

#[test]
fn special_mask_mode_lets_lower_ones_through() {
    let rig = Rig::new(0x01);
    rig.pulse(1);
    assert_eq!(rig.take(), Some(0x21));
    rig.pulse(6);
    assert_eq!(rig.take(), None);
    outb(&rig.device, DATA, 0x02);
    assert_eq!(rig.take(), None);
    outb(&rig.device, COMMAND, 0x68);
    assert_eq!(rig.take(), Some(0x26));
}

#[test]
fn special_nesting_lets_a_higher_line_of_the_slave_through() {
    for (icw4, expected) in [(0x01, None), (0x11, Some(0x28))] {
        let rig = Rig::new(icw4);
        rig.pulse(12);
        assert_eq!(rig.take(), Some(0x2c));
        rig.pulse(8);
        assert_eq!(rig.take(), expected, "ICW4 {icw4:#x}");
    }
}

#[test]
fn a_level_stays_requested_while_it_stands_and_no_longer() {
    let rig = Rig::new(0x01);
    outb(&rig.device, LEVEL, 1 << 5);
    rig.device.set(5, true);
    assert_eq!(rig.take(), Some(0x25));
    outb(&rig.device, COMMAND, 0x20);
    assert_eq!(rig.take(), Some(0x25), "still high");
    outb(&rig.device, COMMAND, 0x20);
    rig.device.set(5, false);
    assert_eq!(rig.take(), None);
}

#[test]
fn a_processor_that_takes_what_is_not_there_gets_a_spurious_vector() {
    let rig = Rig::new(0x01);
    assert_eq!(rig.device.acknowledge(), 0x27);
    outb(&rig.device, COMMAND, 0x0b);
    assert_eq!(inb(&rig.device, COMMAND), 0, "nothing is in service");
}

#[test]
fn a_setup_without_icw3_or_icw4_is_shorter() {
    for (icw1, words) in [(0x10, 2), (0x11, 3), (0x12, 1), (0x13, 2)] {
        let rig = Rig::new(0x03);
        outb(&rig.device, COMMAND, icw1);
        for _ in 0..words {
            outb(&rig.device, DATA, 0x40);
        }
        outb(&rig.device, DATA, 0x5a);
        assert_eq!(inb(&rig.device, DATA), 0x5a, "ICW1 {icw1:#x}");
    }
}

#[test]
fn what_lines_do_during_a_reset_is_no_request() {
    let rig = Rig::new(0x01);
    rig.device.enter(ResetType::Cold);
    rig.device.set(0, true);
    rig.device.hold(ResetType::Cold);
    rig.device.exit(ResetType::Cold);
    assert_eq!(inb(&rig.device, COMMAND), 0);
    assert!(!rig.processor.level());
    rig.device.set(0, false);
    rig.device.set(0, true);
    assert_eq!(inb(&rig.device, COMMAND), 1);
    assert!(rig.processor.level());
}
