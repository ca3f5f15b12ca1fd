//! The interrupt controllers of a machine without KVM, and its interrupt lines.
//!
//! ```text
//!   device ─▶ line ──┬─▶ 8259s, lines 0 to 15
//!                    ├─▶ what a test client is told of
//!                    └─▶ I/O APIC                     set_irq_in ─▶ the last two
//! ```
//!
//! Nothing executes: the way ends at the processor's input and at the local APICs, which are not
//! there. A client finds what would have arrived in the controllers' registers.

use std::sync::Arc;

use devices::ioapic::{IoApic, NoInterrupts};
use devices::pic::Pic;
use devices::{IrqLine, NoIrq};

use super::Pins;

/// The timer's line, and the pin of the I/O APIC that it comes to, as the MADT says.
const TIMER: u32 = 0;
const TIMER_PIN: u32 = 2;

/// The controllers.
#[derive(Debug)]
pub(crate) struct Chips {
    pins: Pins,
    pic: Arc<Pic>,
    ioapic: Arc<IoApic>,
}

impl Chips {
    pub(super) fn new() -> Self {
        Self {
            pins: Pins::default(),
            pic: Arc::new(Pic::new(Arc::new(NoIrq))),
            ioapic: Arc::new(IoApic::new(Arc::new(NoInterrupts))),
        }
    }

    /// The 8259s.
    pub(crate) fn pic(&self) -> &Arc<Pic> {
        &self.pic
    }

    /// The I/O APIC.
    pub(crate) fn ioapic(&self) -> &Arc<IoApic> {
        &self.ioapic
    }

    /// What a test client is told of.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The interrupt line of this number.
    pub(super) fn line(self: &Arc<Self>, number: u32) -> Line {
        Line {
            chips: Arc::clone(self),
            number,
        }
    }

    /// Drives an input of the I/O APIC, by the number of its line. `false` if there is no such one.
    pub(crate) fn set_input(&self, number: u32, level: bool) -> bool {
        let pin = if number == TIMER { TIMER_PIN } else { number };
        self.ioapic.set(pin, level);
        self.pins.set(number, level)
    }
}

/// An interrupt line.
#[derive(Debug)]
pub(crate) struct Line {
    chips: Arc<Chips>,
    number: u32,
}

impl IrqLine for Line {
    fn set(&self, level: bool) {
        self.chips.pic.set(self.number, level);
        self.chips.set_input(self.number, level);
    }
}

#[cfg(test)]
mod tests {
    use devices::BusDevice;

    use super::*;

    fn read(device: &impl BusDevice, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        device.read(offset, &mut data);
        data
    }

    #[test]
    fn a_line_reaches_both_controllers_and_the_client() {
        let chips = Arc::new(Chips::new());
        chips.pins().watch();
        // Level-triggered, unmasked: the timer's entry, and that of line 9.
        for index in [0x14, 0x22] {
            chips.ioapic().write(0, &[index]);
            chips.ioapic().write(0x10, &0x8030_u32.to_le_bytes());
        }
        for (number, index, requests) in [(0, 0x14, [1, 0]), (9, 0x22, [4, 2])] {
            chips.line(number).set(true);
            assert_eq!(read(chips.pic(), 0, 1), [requests[0]]);
            assert_eq!(read(chips.pic(), 2, 1), [requests[1]]);
            chips.ioapic().write(0, &[index]);
            assert_eq!(read(chips.ioapic(), 0x10, 4), [0x30, 0xc0, 0, 0]);
            let told = chips.pins().take();
            assert_eq!(told.len(), 1);
            assert_eq!((told[0].pin, told[0].level), (number, true));
            // The first chip's requests are taken, so that the other's are seen alone.
            chips.pic().acknowledge();
        }
    }

    #[test]
    fn an_input_of_the_io_apic_is_not_one_of_the_8259s() {
        let chips = Chips::new();
        assert!(chips.set_input(3, true));
        assert_eq!(read(chips.pic().as_ref(), 0, 1), [0]);
        assert!(!chips.set_input(24, true));
    }
}
