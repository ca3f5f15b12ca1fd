//! The I/O APIC, with a struct for each pin instead of bits.

use std::sync::{Arc, Mutex};

use devices::ioapic::{Interrupt, InterruptSink, IoApic};
use devices::{BusDevice, ResetType, Resettable, SaveRestore};

use super::Source;

#[derive(Default)]
struct Inbox(Mutex<Vec<Interrupt>>);

impl InterruptSink for Inbox {
    fn interrupt(&self, interrupt: Interrupt) {
        self.0.lock().unwrap().push(interrupt);
    }
}

/// A pin with its entry.
#[derive(Debug, Clone, Copy)]
struct Pin {
    high: bool,
    /// The low half, without what cannot be written.
    low: u32,
    destination: u8,
    served: bool,
}

impl Pin {
    const FRESH: Self = Self {
        high: false,
        low: 0x1_0000,
        destination: 0,
        served: false,
    };

    fn by_level(&self) -> bool {
        self.low >> 15 & 1 == 1
    }

    fn masked(&self) -> bool {
        self.low >> 16 & 1 == 1
    }

    fn message(&self) -> Interrupt {
        Interrupt {
            vector: (self.low % 256) as u8,
            delivery: (self.low / 256 % 8) as u8,
            destination: self.destination,
            logical: self.low >> 11 & 1 == 1,
            level: self.by_level(),
        }
    }

    /// Sends what a level has to send.
    fn serve(&mut self, sent: &mut Vec<Interrupt>) {
        if self.by_level() && self.high && !self.masked() && !self.served {
            self.served = true;
            sent.push(self.message());
        }
    }
}

struct Rig {
    device: IoApic,
    inbox: Arc<Inbox>,
    pins: [Pin; 24],
    id: u32,
    sent: Vec<Interrupt>,
}

impl Rig {
    fn write(&mut self, index: u8, value: u32) {
        let data = value.to_le_bytes();
        self.device.write(0, &[index]);
        self.device.write(0x10, &data);
        if index == 0 {
            self.id = value & 0x0f00_0000;
        }
        let Some(pin) = index
            .checked_sub(16)
            .and_then(|at| self.pins.get_mut(usize::from(at / 2)))
        else {
            return;
        };
        if index % 2 == 1 {
            pin.destination = (value >> 24) as u8;
        } else {
            pin.low = value & 0x0001_afff;
        }
        pin.served &= pin.by_level();
        pin.serve(&mut self.sent);
    }

    fn expected(&self, index: u8) -> u32 {
        match index {
            0 | 2 => self.id,
            1 => 0x0017_0020,
            16..64 => {
                let pin = self.pins[usize::from(index) / 2 - 8];
                if index % 2 == 1 {
                    u32::from(pin.destination) << 24
                } else {
                    pin.low | u32::from(pin.served) << 14
                }
            }
            _ => 0,
        }
    }

    fn set(&mut self, at: u32, level: bool) {
        self.device.set(at, level);
        if let Some(pin) = self.pins.get_mut(at as usize) {
            let rises = level && !pin.high;
            pin.high = level;
            if !pin.by_level() && rises && !pin.masked() {
                self.sent.push(pin.message());
            }
            pin.serve(&mut self.sent);
        }
    }

    fn end(&mut self, vector: u8) {
        self.device.write(0x40, &[vector, 0, 0, 0]);
        for pin in &mut self.pins {
            if pin.message().vector == vector && pin.served {
                pin.served = false;
                pin.serve(&mut self.sent);
            }
        }
    }
}

pub(super) fn run(source: &mut Source<'_>) {
    let inbox = Arc::new(Inbox::default());
    let mut rig = Rig {
        device: IoApic::new(inbox.clone()),
        inbox,
        pins: [Pin::FRESH; 24],
        id: 0,
        sent: Vec::new(),
    };
    while let Some(kind) = source.next() {
        match kind % 16 {
            0..5 => {
                let which = source.byte();
                rig.set(u32::from(which & 0x1f), which & 0x20 != 0);
            }
            5..9 => {
                // Few vectors, so that ends find them.
                let (index, vector, modes) = (source.byte() % 0x42, source.byte(), source.byte());
                let high = [source.byte() & 1, source.byte()];
                let value = u32::from_le_bytes([vector & 3, modes, high[0], high[1]]);
                rig.write(index, value);
            }
            9..12 => {
                let index = source.byte() % 0x42;
                let mut data = [0; 4];
                rig.device.write(0, &[index]);
                rig.device.read(0x10, &mut data);
                let found = u32::from_le_bytes(data);
                assert_eq!(found, rig.expected(index), "{index:#x}: {:?}", rig.pins);
            }
            12..14 => {
                let vector = source.byte() & 3;
                rig.end(vector);
            }
            14 => {
                let state = rig.device.save();
                rig.device.restore(&state).unwrap();
                assert_eq!(rig.device.save(), state);
            }
            _ => {
                rig.device.reset(ResetType::Cold);
                rig.id = 0;
                rig.pins = rig.pins.map(|pin| Pin {
                    high: pin.high,
                    ..Pin::FRESH
                });
            }
        }
        let found = std::mem::take(&mut *rig.inbox.0.lock().unwrap());
        assert_eq!(found, std::mem::take(&mut rig.sent), "{:?}", rig.pins);
    }
}
