//! Fixtures for the devices that know what time it is: power management, watchdogs and the clock.

use std::sync::Arc;

use devices::conformance::Fixture;
use devices::{
    BusDevice, IrqProbe, ManualClock, NoNotify, PowerProbe, SaveRestore, Timed, conformance,
};

use super::fixtures::requests;
use crate::support::{inb, outb};

#[cfg(feature = "acpi-pm")]
mod acpi_pm_fixture {
    use super::*;
    use devices::acpi_pm::{AcpiPm, SleepTypes, Wiring};

    pub(super) struct AcpiPmFixture {
        sci: Arc<IrqProbe>,
        power: Arc<PowerProbe>,
        clock: Arc<ManualClock>,
        device: AcpiPm,
    }

    impl Fixture for AcpiPmFixture {
        type Device = AcpiPm;

        fn fresh() -> Self {
            let sci = Arc::new(IrqProbe::new());
            let power = Arc::new(PowerProbe::new());
            let clock = Arc::new(ManualClock::new(5_000_000_000));
            let wiring = Wiring {
                sci: sci.clone(),
                power: power.clone(),
                clock: clock.clone(),
                rearm: Arc::new(NoNotify),
            };
            let device = AcpiPm::new(SleepTypes::QEMU, wiring).unwrap();
            Self {
                sci,
                power,
                clock,
                device,
            }
        }

        fn device(&self) -> &AcpiPm {
            &self.device
        }

        fn window(&self) -> u64 {
            12
        }

        fn disturb(&self) {
            self.device.write(0, &[0xff, 0xff, 0x21, 0x05, 0xff, 0x1f]);
            self.device.press();
        }

        /// The timer runs towards its interrupt.
        fn begin_work(&self) {
            self.power.take();
            self.device.write(0, &[0xff, 0xff, 0x01, 0x00]);
        }

        fn finish_work(&self) -> Vec<u64> {
            let due = self.device.next_deadline();
            self.clock.set(due.unwrap_or(0));
            self.device.tick();
            let mut result = requests(&self.power);
            result.extend([due.unwrap_or(0), u64::from(self.sci.level())]);
            result
        }
    }

    conformance!(acpi_pm, AcpiPmFixture);
}

/// A fixture for a watchdog: started, it expires at its deadline.
macro_rules! watchdog {
    ($feature:literal, $name:ident, $fixture:ident, $krate:ident, $device:ident, $window:literal,
     disturb $disturb:expr, start $start:expr, forgive $forgive:expr) => {
        #[cfg(feature = $feature)]
        struct $fixture {
            power: Arc<PowerProbe>,
            clock: Arc<ManualClock>,
            device: devices::$krate::$device,
        }

        #[cfg(feature = $feature)]
        impl Fixture for $fixture {
            type Device = devices::$krate::$device;

            fn fresh() -> Self {
                let power = Arc::new(PowerProbe::new());
                let clock = Arc::new(ManualClock::new(5_000_000_000));
                let wiring = devices::$krate::Wiring {
                    power: power.clone(),
                    clock: clock.clone(),
                    rearm: Arc::new(NoNotify),
                };
                Self {
                    power,
                    clock,
                    device: devices::$krate::$device::new(wiring),
                }
            }

            fn device(&self) -> &Self::Device {
                &self.device
            }

            fn window(&self) -> u64 {
                $window
            }

            fn disturb(&self) {
                for (offset, value) in $disturb {
                    outb(&self.device, offset, value);
                }
            }

            fn forgive(&self, state: &mut <Self::Device as SaveRestore>::State) {
                $forgive(state);
            }

            fn begin_work(&self) {
                for (offset, value) in $start {
                    outb(&self.device, offset, value);
                }
                self.power.take();
            }

            fn finish_work(&self) -> Vec<u64> {
                let due = self.device.next_deadline();
                self.clock.set(due.unwrap_or(0));
                self.device.tick();
                self.device.tick();
                let mut result = requests(&self.power);
                result.extend([
                    due.unwrap_or(0),
                    u64::from(self.device.next_deadline().is_some()),
                ]);
                result
            }
        }

        #[cfg(feature = $feature)]
        conformance!($name, $fixture);
    };
}

watchdog!("ib700", ib700, Ib700Fixture, ib700, Ib700, 4,
    disturb [(2, 0x05)], start [(2, 0x0c)], forgive |_: &mut _| {});

watchdog!("wdat", wdat, WdatFixture, wdat, Wdat, 10,
// It expires, runs again, and would not reboot.
disturb [(4, 0), (5, 0), (0, 1), (2, 0), (4, 9), (1, 1)],
start [(0, 0), (2, 1), (4, 50), (5, 0), (0, 1)],
// The status is for the next boot to read.
forgive |state: &mut devices::wdat::State| state.expired = false);

#[cfg(feature = "cmos-rtc")]
mod cmos_rtc_fixture {
    use super::*;
    use devices::cmos_rtc::{CmosRtc, Memory, State, Wiring};

    const START: u64 = 1_700_000_000_000_000_000;

    pub(super) struct CmosRtcFixture {
        irq: Arc<IrqProbe>,
        power: Arc<PowerProbe>,
        clock: Arc<ManualClock>,
        device: CmosRtc,
    }

    impl CmosRtcFixture {
        fn set(&self, index: u8, value: u8) {
            outb(&self.device, 0, index);
            outb(&self.device, 1, value);
        }
    }

    impl Fixture for CmosRtcFixture {
        type Device = CmosRtc;

        fn fresh() -> Self {
            let irq = Arc::new(IrqProbe::new());
            let power = Arc::new(PowerProbe::new());
            let clock = Arc::new(ManualClock::new(START));
            let wiring = Wiring {
                irq: irq.clone(),
                power: power.clone(),
                clock: clock.clone(),
                rearm: Arc::new(NoNotify),
            };
            let memory = Memory {
                below_4g: 1 << 30,
                above_4g: 1 << 32,
            };
            Self {
                irq,
                power,
                clock,
                device: CmosRtc::new(memory, wiring),
            }
        }

        fn device(&self) -> &CmosRtc {
            &self.device
        }

        fn window(&self) -> u64 {
            2
        }

        fn disturb(&self) {
            for (index, value) in [(0x0b, 0x7e), (0x01, 0xff), (0x03, 0xff), (0x05, 0xff)] {
                self.set(index, value);
            }
            for (index, value) in [(0x00, 5), (0x09, 3), (0x0f, 9), (0x50, 1), (0x0a, 0x2f)] {
                self.set(index, value);
            }
            self.clock.advance(2_000_000_000);
            self.device.tick();
            // Back, so that every fixture's clock reads the same.
            self.clock.set(START);
            self.device.tick();
        }

        /// All that the battery keeps: the time, and every byte but the shutdown status, the
        /// enables and the flags.
        fn forgive(&self, state: &mut State) {
            let fresh = Self::fresh().device.save();
            let kept_b = state.cmos[0x0b] & !0x68;
            let volatile = [
                (0x0b, kept_b),
                (0x0c, state.cmos[0x0c]),
                (0x0f, state.cmos[0x0f]),
            ];
            assert_eq!(state.cmos[0x0b], kept_b, "the enables that a reset clears");
            state.cmos = fresh.cmos;
            state.cmos[0x0c] = volatile[1].1;
            state.cmos[0x0f] = volatile[2].1;
            (state.offset_ns, state.seen_ns) = (fresh.offset_ns, fresh.seen_ns);
            state.period_start_ns = fresh.period_start_ns;
        }

        /// An alarm is set for the next second, whatever the clock's mode was.
        fn begin_work(&self) {
            self.power.take();
            self.set(0x0a, 0x20);
            for index in [1, 3, 5] {
                self.set(index, 0xff);
            }
            self.set(0x0b, 0x22);
            outb(&self.device, 0, 0x0c);
            inb(&self.device, 1);
        }

        fn finish_work(&self) -> Vec<u64> {
            let due = self.device.next_deadline();
            if let Some(due) = due {
                self.clock.set(due);
            }
            self.device.tick();
            let mut result = requests(&self.power);
            result.extend([u64::from(due.is_some()), u64::from(self.irq.level())]);
            outb(&self.device, 0, 0x0c);
            result.push(u64::from(inb(&self.device, 1)));
            result
        }
    }

    conformance!(cmos_rtc, CmosRtcFixture);
}
