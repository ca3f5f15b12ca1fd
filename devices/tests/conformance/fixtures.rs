//! A fixture for each device without a clock, and what all fixtures do.

use std::sync::Arc;

use devices::conformance::Fixture;
use devices::{
    BusDevice, IrqProbe, OutputRing, PowerProbe, PowerRequest, SaveRestore, conformance,
};

use crate::support::{inb, outb};

/// What was requested, as numbers.
pub(crate) fn requests(power: &PowerProbe) -> Vec<u64> {
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
