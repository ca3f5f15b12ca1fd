//! Fixtures for the interval timer and the interrupt controllers.

use std::sync::{Arc, Mutex};

use devices::conformance::Fixture;
use devices::{BusDevice, Clock, IrqProbe, ManualClock, NoNotify, Timed, conformance};

#[cfg(feature = "pit")]
mod pit_fixture {
    use super::*;
    use devices::pit::{Pit, Wiring};

    pub(super) struct PitFixture {
        irq: Arc<IrqProbe>,
        clock: Arc<ManualClock>,
        device: Pit,
    }

    impl Fixture for PitFixture {
        type Device = Pit;

        fn fresh() -> Self {
            let irq = Arc::new(IrqProbe::new());
            let clock = Arc::new(ManualClock::new(0));
            let device = Pit::new(Wiring {
                irq: irq.clone(),
                clock: clock.clone(),
                rearm: Arc::new(NoNotify),
            });
            Self { irq, clock, device }
        }

        fn device(&self) -> &Pit {
            &self.device
        }

        fn window(&self) -> u64 {
            5
        }

        fn disturb(&self) {
            for (offset, value) in [
                (3, 0x35),
                (0, 0x12),
                (0, 0x34),
                (3, 0x52),
                (1, 7),
                (3, 0xb8),
                (2, 9),
                (3, 0xce),
                (4, 3),
            ] {
                self.device.write(offset, &[value]);
            }
            self.device.read(4, &mut [0]);
        }

        /// A count that ends in a millisecond.
        fn begin_work(&self) {
            for (offset, value) in [(3, 0x30), (0, 0xa9), (0, 0x04)] {
                self.device.write(offset, &[value]);
            }
        }

        fn finish_work(&self) -> Vec<u64> {
            let before = u64::from(self.irq.level());
            while let Some(due) = self.device.next_deadline().filter(|due| *due < 2_000_000) {
                self.clock.set(due);
                self.device.tick();
            }
            let mut port = [0];
            self.device.read(4, &mut port);
            vec![before, u64::from(self.irq.level()), self.clock.now_ns()]
        }
    }

    conformance!(pit, PitFixture);
}

#[cfg(feature = "pic")]
mod pic_fixture {
    use super::*;
    use devices::pic::Pic;

    pub(super) struct PicFixture {
        processor: Arc<IrqProbe>,
        device: Pic,
    }

    impl Fixture for PicFixture {
        type Device = Pic;

        fn fresh() -> Self {
            let processor = Arc::new(IrqProbe::new());
            Self {
                device: Pic::new(processor.clone()),
                processor,
            }
        }

        fn device(&self) -> &Pic {
            &self.device
        }

        fn window(&self) -> u64 {
            6
        }

        fn disturb(&self) {
            for (offset, value) in [(0, 0x11), (1, 0x20), (1, 4), (1, 0x13), (1, 0x55)] {
                self.device.write(offset, &[value]);
                self.device.write(offset | 2, &[value]);
            }
            for (offset, value) in [(0, 0xc3), (0, 0x80), (0, 0x6f), (4, 0xff), (5, 0xff)] {
                self.device.write(offset, &[value]);
            }
            self.device.set(9, true);
            self.device.set(9, false);
            self.device.acknowledge();
        }

        fn begin_work(&self) {
            self.device.set(1, true);
            self.device.set(1, false);
        }

        fn finish_work(&self) -> Vec<u64> {
            let level = u64::from(self.processor.level());
            vec![level, u64::from(self.device.acknowledge())]
        }
    }

    conformance!(pic, PicFixture);
}

#[cfg(feature = "ioapic")]
mod ioapic_fixture {
    use super::*;
    use devices::ioapic::{Interrupt, InterruptSink, IoApic};

    #[derive(Default)]
    struct Inbox(Mutex<Vec<u8>>);

    impl InterruptSink for Inbox {
        fn interrupt(&self, interrupt: Interrupt) {
            self.0.lock().unwrap().push(interrupt.vector);
        }
    }

    pub(super) struct IoApicFixture {
        inbox: Arc<Inbox>,
        device: IoApic,
    }

    impl IoApicFixture {
        fn set(&self, index: u8, value: u32) {
            self.device.write(0, &[index]);
            self.device.write(0x10, &value.to_le_bytes());
        }
    }

    impl Fixture for IoApicFixture {
        type Device = IoApic;

        fn fresh() -> Self {
            let inbox = Arc::new(Inbox::default());
            Self {
                device: IoApic::new(inbox.clone()),
                inbox,
            }
        }

        fn device(&self) -> &IoApic {
            &self.device
        }

        fn window(&self) -> u64 {
            0x44
        }

        fn disturb(&self) {
            for index in 0..0x40 {
                self.set(index, 0x0300_8000 | u32::from(index));
            }
            self.device.set(5, true);
            self.device.set(5, false);
        }

        /// A level that waits for its entry to be unmasked.
        fn begin_work(&self) {
            self.set(0x10, 0x0001_8042);
            self.device.set(0, true);
        }

        fn finish_work(&self) -> Vec<u64> {
            self.inbox.0.lock().unwrap().clear();
            self.set(0x10, 0x8042);
            let sent = self.inbox.0.lock().unwrap().clone();
            sent.into_iter().map(u64::from).collect()
        }
    }

    conformance!(ioapic, IoApicFixture);
}
