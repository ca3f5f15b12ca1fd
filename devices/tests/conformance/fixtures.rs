//! A fixture for each device.

use std::sync::Arc;

use devices::conformance::Fixture;
use devices::{
    BusDevice, IrqProbe, ManualClock, NoNotify, OutputRing, PowerProbe, PowerRequest, ResetType,
    Resettable, SaveRestore, Timed, conformance,
};

fn outb(device: &impl BusDevice, offset: u64, value: u8) {
    device.write(offset, &[value]);
}

fn inb(device: &impl BusDevice, offset: u64) -> u8 {
    let mut data = [0];
    device.read(offset, &mut data);
    data[0]
}

/// What was requested, as numbers.
fn requests(power: &PowerProbe) -> Vec<u64> {
    let number = |request| match request {
        PowerRequest::Reset => 1,
        PowerRequest::Shutdown { exit_code } => 2 + (u64::from(exit_code.unwrap_or(0)) << 8),
        PowerRequest::GuestPanicked => 3,
        PowerRequest::Wakeup(_) => 4,
        PowerRequest::WatchdogExpired => 6,
        _ => 5,
    };
    power.take().into_iter().map(number).collect()
}

/// A fixture for a device whose work is one register write that asks for something.
macro_rules! requesting {
    ($feature:literal, $name:ident, $fixture:ident, $device:ty, $make:expr, $stateful:literal,
     disturb $disturb:expr, work $value:expr, forgive $forgive:expr) => {
        #[cfg(feature = $feature)]
        struct $fixture {
            power: Arc<PowerProbe>,
            device: $device,
        }

        #[cfg(feature = $feature)]
        impl Fixture for $fixture {
            type Device = $device;

            const HAS_STATE: bool = $stateful;

            fn fresh() -> Self {
                let power = Arc::new(PowerProbe::new());
                Self {
                    device: $make(power.clone()),
                    power,
                }
            }

            fn device(&self) -> &$device {
                &self.device
            }

            fn window(&self) -> u64 {
                2
            }

            fn disturb(&self) {
                outb(&self.device, 0, $disturb);
            }

            fn forgive(&self, state: &mut <$device as SaveRestore>::State) {
                $forgive(state);
            }

            fn begin_work(&self) {
                self.power.take();
                outb(&self.device, 0, $value);
            }

            fn finish_work(&self) -> Vec<u64> {
                requests(&self.power)
            }
        }

        #[cfg(feature = $feature)]
        conformance!($name, $fixture);
    };
}

requesting!("port92", port92, Port92Fixture, devices::port92::Port92,
    devices::port92::Port92::new, true,
    disturb 0xff, work 0x01,
    // Only the reset bit is cleared.
    forgive |state: &mut devices::port92::State| state.value = 0);

requesting!("reset-control", reset_control, ResetControlFixture,
    devices::reset_control::ResetControl,
    |power| devices::reset_control::ResetControl::new(
        devices::reset_control::Chipset::Ich9, power), true,
    disturb 0x0a, work 0x06, forgive |_: &mut _| {});

requesting!("debug-exit", debug_exit, DebugExitFixture, devices::debug_exit::DebugExit,
    devices::debug_exit::DebugExit::new, false,
    disturb 0, work 0x10, forgive |_: &mut _| {});

requesting!("pvpanic", pvpanic, PvPanicFixture, devices::pvpanic::PvPanic,
    devices::pvpanic::PvPanic::new, false,
    disturb 0, work 1, forgive |_: &mut _| {});

#[cfg(feature = "i8042")]
mod i8042_fixture {
    use super::*;
    use devices::i8042::I8042;

    pub(super) struct I8042Fixture {
        lines: [Arc<IrqProbe>; 2],
        device: I8042,
    }

    impl Fixture for I8042Fixture {
        type Device = I8042;

        fn fresh() -> Self {
            let lines = [Arc::new(IrqProbe::new()), Arc::new(IrqProbe::new())];
            let [keyboard, mouse] = lines.clone();
            Self {
                lines,
                device: I8042::new(keyboard, mouse, Arc::new(PowerProbe::new())),
            }
        }

        fn device(&self) -> &I8042 {
            &self.device
        }

        fn window(&self) -> u64 {
            5
        }

        fn disturb(&self) {
            for (offset, value) in [
                (4, 0xaa),
                (4, 0xdd),
                (4, 0x60),
                (0, 0x77),
                (4, 0xd3),
                (0, 0x5a),
                (4, 0xd1),
            ] {
                outb(&self.device, offset, value);
            }
        }

        /// A byte that loops back waits to be read.
        fn begin_work(&self) {
            outb(&self.device, 4, 0xd3);
            outb(&self.device, 0, 0x5a);
        }

        fn finish_work(&self) -> Vec<u64> {
            let levels = self.lines.each_ref().map(|line| u64::from(line.level()));
            let registers = [4, 0].map(|offset| u64::from(inb(&self.device, offset)));
            [levels, registers].concat()
        }
    }

    conformance!(i8042, I8042Fixture);
}

#[cfg(feature = "serial")]
mod serial_fixture {
    use super::*;
    use devices::serial::Serial;

    pub(super) struct SerialFixture {
        irq: Arc<IrqProbe>,
        output: Arc<OutputRing>,
        device: Serial,
    }

    impl Fixture for SerialFixture {
        type Device = Serial;

        fn fresh() -> Self {
            let irq = Arc::new(IrqProbe::new());
            let output = Arc::new(OutputRing::new(64));
            Self {
                device: Serial::new(irq.clone(), output.clone()),
                irq,
                output,
            }
        }

        fn device(&self) -> &Serial {
            &self.device
        }

        fn window(&self) -> u64 {
            8
        }

        fn disturb(&self) {
            self.device.input(b"typed");
            for (offset, value) in [
                (3, 0x83),
                (0, 0x34),
                (1, 0x12),
                (3, 0x1b),
                (1, 0x03),
                (4, 0x1f),
                (7, 0x5a),
            ] {
                outb(&self.device, offset, value);
            }
        }

        /// A byte comes in and one goes out.
        fn begin_work(&self) {
            while self.output.read(&mut [0; 64]) > 0 {}
            outb(&self.device, 1, 0x01);
            self.device.input(b"x");
            outb(&self.device, 0, b'y');
        }

        fn finish_work(&self) -> Vec<u64> {
            let mut sent = [0; 64];
            let len = self.output.read(&mut sent);
            vec![
                u64::from(self.irq.level()),
                u64::from(inb(&self.device, 5)),
                u64::from(inb(&self.device, 0)),
                u64::from(len > 0 && sent[len - 1] == b'y'),
            ]
        }
    }

    conformance!(serial, SerialFixture);
}

#[cfg(feature = "debugcon")]
mod debugcon_fixture {
    use super::*;
    use devices::debugcon::DebugCon;

    pub(super) struct DebugConFixture {
        output: Arc<OutputRing>,
        device: DebugCon,
    }

    impl Fixture for DebugConFixture {
        type Device = DebugCon;

        const HAS_STATE: bool = false;

        fn fresh() -> Self {
            let output = Arc::new(OutputRing::new(64));
            Self {
                device: DebugCon::new(output.clone()),
                output,
            }
        }

        fn device(&self) -> &DebugCon {
            &self.device
        }

        fn window(&self) -> u64 {
            1
        }

        fn disturb(&self) {}

        fn begin_work(&self) {
            while self.output.read(&mut [0; 64]) > 0 {}
            outb(&self.device, 0, b'x');
        }

        fn finish_work(&self) -> Vec<u64> {
            let mut sent = [0; 64];
            let len = self.output.read(&mut sent);
            sent[..len].iter().copied().map(u64::from).collect()
        }
    }

    conformance!(debugcon, DebugConFixture);
}

#[cfg(feature = "fw-cfg")]
mod fw_cfg_fixture {
    use super::*;
    use devices::fw_cfg::{FwCfg, Items, item};

    pub(super) struct FwCfgFixture(FwCfg);

    impl Fixture for FwCfgFixture {
        type Device = FwCfg;

        fn fresh() -> Self {
            let mut items = Items::new();
            items.set(item::KERNEL_DATA, (0..=255).collect::<Vec<u8>>());
            Self(FwCfg::new(items))
        }

        fn device(&self) -> &FwCfg {
            &self.0
        }

        fn window(&self) -> u64 {
            2
        }

        fn disturb(&self) {
            self.begin_work();
        }

        fn begin_work(&self) {
            self.0.write(0, &item::KERNEL_DATA.to_le_bytes());
            for _ in 0..100 {
                inb(&self.0, 1);
            }
        }

        fn finish_work(&self) -> Vec<u64> {
            (0..3).map(|_| u64::from(inb(&self.0, 1))).collect()
        }
    }

    conformance!(fw_cfg, FwCfgFixture);
}

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
