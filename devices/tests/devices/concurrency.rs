//! Several vCPUs and the main loop at the devices at once.

use std::sync::Arc;
use std::thread;

use devices::{
    BusBuilder, BusDevice, IrqProbe, ManualClock, NoNotify, OutputRing, PowerProbe, PowerRequest,
    ResetTree, ResetType, Timed, WakeupReason,
};

use crate::support::within_reason;

/// Many vCPUs on every device, with resets, sleep and ticks in between: nothing deadlocks.
#[cfg(all(
    feature = "acpi-pm",
    feature = "cmos-rtc",
    feature = "i8042",
    feature = "ib700",
    feature = "pic",
    feature = "pit",
    feature = "port92",
    feature = "pvpanic",
    feature = "serial",
    feature = "wdat"
))]
#[test]
fn many_vcpus_on_every_device_do_not_deadlock() {
    use devices::{acpi_pm, cmos_rtc, i8042, ib700, pic, pit, port92, pvpanic, serial, wdat};

    /// A device's line into the controllers, which lock for themselves behind the device's lock.
    struct Line(Arc<pic::Pic>);

    impl devices::IrqLine for Line {
        fn set(&self, level: bool) {
            self.0.set(0, level);
        }
    }

    within_reason(|| {
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(0));
        let line = || Arc::new(IrqProbe::new());
        let pm = acpi_pm::Wiring {
            sci: line(),
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let pm = Arc::new(acpi_pm::AcpiPm::new(acpi_pm::SleepTypes::QEMU, pm).unwrap());
        let rtc = cmos_rtc::Wiring {
            irq: line(),
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let rtc = Arc::new(cmos_rtc::CmosRtc::new(cmos_rtc::Memory::default(), rtc));
        let serial = Arc::new(serial::Serial::new(line(), Arc::new(OutputRing::new(16))));
        let keyboard = Arc::new(i8042::I8042::new(line(), line(), power.clone()));
        let port92 = Arc::new(port92::Port92::new(power.clone()));
        let pvpanic = pvpanic::PvPanic::with_events(7, power.clone()).unwrap();
        let ib700 = Arc::new(ib700::Ib700::new(ib700::Wiring {
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        }));
        let wdat = Arc::new(wdat::Wdat::new(wdat::Wiring {
            power,
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        }));

        let pic = Arc::new(pic::Pic::new(line()));
        let pit = Arc::new(pit::Pit::new(pit::Wiring {
            irq: Arc::new(Line(pic.clone())),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        }));

        let mut bus = BusBuilder::pio();
        bus.map("pic", &pic::PORTS, pic.clone()).unwrap();
        bus.map("pit", &pit::PORTS, pit.clone()).unwrap();
        bus.map("pm", &acpi_pm::PORTS, pm.clone()).unwrap();
        bus.map("rtc", &cmos_rtc::PORTS, rtc.clone()).unwrap();
        bus.map("serial", &serial::COM1, serial.clone()).unwrap();
        bus.map("i8042", &i8042::PORTS, keyboard.clone()).unwrap();
        bus.map("port92", &port92::PORTS, port92).unwrap();
        bus.map("pvpanic", &pvpanic::PORTS, Arc::new(pvpanic))
            .unwrap();
        bus.map("ib700", &ib700::PORTS, ib700.clone()).unwrap();
        bus.map("wdat", &wdat::PORTS, wdat.clone()).unwrap();
        let bus = bus.build();
        let tree = ResetTree::new();
        tree.add(tree.root(), "pic", pic).unwrap();
        tree.add(tree.root(), "pit", pit.clone()).unwrap();
        tree.add(tree.root(), "pm", pm.clone()).unwrap();
        tree.add(tree.root(), "rtc", rtc.clone()).unwrap();
        tree.add(tree.root(), "serial", serial.clone()).unwrap();
        tree.add(tree.root(), "i8042", keyboard).unwrap();
        tree.add(tree.root(), "ib700", ib700.clone()).unwrap();
        tree.add(tree.root(), "wdat", wdat.clone()).unwrap();

        let ports = [
            0x20, 0x21, 0xa0, 0xa1, 0x40, 0x42, 0x43, 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, 0x3f8,
            0x3f9, 0x3fa, 0x441, 0x443, 0x505, 0x600, 0x604, 0x660, 0x661, 0x664,
        ];
        thread::scope(|scope| {
            for vcpu in 0..4 {
                let bus = &bus;
                scope.spawn(move || {
                    let start = ports.iter().cycle().skip(vcpu * 3).step_by(7);
                    for (step, port) in (0..20_000_u64).zip(start) {
                        bus.write(*port, &(step * 0x9e37).to_le_bytes()[..4]);
                        bus.read(*port, &mut [0; 4]);
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..2_000 {
                    clock.advance(1_000_000_000);
                    let timed: [&dyn Timed; 5] = [&*pm, &*rtc, &*ib700, &*wdat, &*pit];
                    timed.iter().for_each(|device| device.tick());
                    pm.press();
                    serial.input(b"typed");
                    rtc.mark_suspend();
                    let kinds = [ResetType::Cold, ResetType::Wakeup];
                    tree.reset(tree.root(), kinds[round % 2]).unwrap();
                    pm.wake(WakeupReason::Rtc);
                    rtc.take_suspend_mark();
                }
            });
        });
    });
}

/// However many threads see that a watchdog's time is over, it expires once.
#[cfg(all(feature = "ib700", feature = "wdat"))]
#[test]
fn a_watchdog_that_many_see_expire_expires_once() {
    use devices::{ib700, wdat};
    within_reason(|| {
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(0));
        let ib700 = ib700::Ib700::new(ib700::Wiring {
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        });
        let wdat = wdat::Wdat::new(wdat::Wiring {
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        });
        for _ in 0..200 {
            ib700.write(2, &[0]);
            wdat.write(0, &[0]);
            wdat.write(0, &[1]);
            assert_eq!(power.take(), []);
            clock.advance(60_000_000_000);
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        ib700.tick();
                        wdat.read(6, &mut [0; 2]);
                        ib700.write(0, &[0]);
                        wdat.tick();
                    });
                }
            });
            assert_eq!(power.take(), [PowerRequest::WatchdogExpired; 2]);
        }
    });
}
