//! What must be refused, and how it is said; and what must survive somebody else's fault.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a test fails by panicking; and which of these fire depends on the features, so none can be expected"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::{
    BusBuilder, BusDevice, Error, IrqLine, IrqProbe, ManualClock, Mapping, NoIrq, NoNotify, Output,
    OutputRing, PowerProbe, PowerRequest, PowerSink, ResetTree, ResetType, Resettable, SaveRestore,
};

struct Nothing;

impl BusDevice for Nothing {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, _offset: u64, _data: &[u8]) {}
}

#[test]
fn a_bus_says_what_is_wrong_with_a_mapping() {
    let mut bus = BusBuilder::pio();
    bus.map("com1", &[Mapping::new(0x3f8, 8)], Arc::new(Nothing))
        .unwrap();
    for (mapping, message) in [
        (
            Mapping::new(0x60, 0),
            "new: the range at 0x60 is empty; it must cover at least 1 byte",
        ),
        (
            Mapping::new(0xffff, 2),
            "new: 2 bytes at 0xffff pass the bus's last address, 0xffff",
        ),
        (
            Mapping::new(u64::MAX, 2),
            "new: 2 bytes at 0xffffffffffffffff pass the bus's last address, 0xffff",
        ),
        (
            Mapping::new(0x3ff, 2),
            "new: 0x3ff-0x400 overlaps 0x3f8-0x3ff, which belongs to com1",
        ),
    ] {
        let error = bus.map("new", &[mapping], Arc::new(Nothing)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut bus = BusBuilder::mmio();
    bus.map("top", &[Mapping::new(u64::MAX, 1)], Arc::new(Nothing))
        .unwrap();
    bus.map("over", &[Mapping::new(u64::MAX - 1, 3)], Arc::new(Nothing))
        .unwrap_err();
}

#[test]
fn a_reset_tree_says_what_is_wrong() {
    let tree = ResetTree::new();
    let bus = tree.add_group(tree.root(), "bus").unwrap();
    let leaf = tree.add_group(bus, "leaf").unwrap();
    let messages = [
        tree.release(bus, ResetType::Cold),
        tree.change_parent(bus, leaf, ResetType::Cold),
        tree.remove(tree.root()),
    ]
    .map(|result| result.unwrap_err().to_string());
    assert!(
        messages[0].contains("bus: is not held in reset"),
        "{}",
        messages[0]
    );
    assert!(
        messages[1].contains("bus: cannot be moved below leaf"),
        "{}",
        messages[1]
    );
    assert!(messages[2].contains("no node"), "{}", messages[2]);
}

/// A state that is refused leaves the device as it was.
fn refuse<D: SaveRestore>(device: &D, state: &D::State, says: &str) {
    let before = device.save();
    let error = device.restore(state).unwrap_err();
    assert!(matches!(error, Error::BadState { .. }), "{error:?}");
    assert!(error.to_string().contains(says), "{error}");
    assert_eq!(device.save(), before);
}

#[cfg(feature = "serial")]
#[test]
fn serial_refuses_states_that_it_cannot_have() {
    use devices::serial::{Serial, State};
    let irq = Arc::new(IrqProbe::new());
    let port = Serial::new(irq.clone(), Arc::new(OutputRing::new(1)));
    let good = port.save();
    let long = State {
        received: vec![0; 65],
        line_status: 0x61,
        ..good.clone()
    };
    refuse(&port, &long, "at most 64");
    refuse(
        &port,
        &State {
            interrupt_enable: 0x10,
            ..good.clone()
        },
        "0 to 15",
    );
    refuse(
        &port,
        &State {
            line_status: 0x61,
            ..good.clone()
        },
        "bit 0 set",
    );
    refuse(
        &port,
        &State {
            received: vec![1],
            ..good.clone()
        },
        "bit 0 set",
    );
    refuse(
        &port,
        &State {
            interrupt_causes: 4,
            ..good
        },
        "imply",
    );
    assert_eq!(irq.edges(), 0);
}

#[cfg(feature = "i8042")]
#[test]
fn i8042_refuses_states_that_it_cannot_have() {
    use devices::i8042::{I8042, State};
    let power = Arc::new(PowerProbe::new());
    let device = I8042::new(Arc::new(NoIrq), Arc::new(NoIrq), power);
    refuse(
        &device,
        &State {
            pending: 0x61,
            ..device.save()
        },
        "0xD1 to 0xD4",
    );
}

#[cfg(feature = "reset-control")]
#[test]
fn reset_control_refuses_states_that_it_cannot_have() {
    use devices::reset_control::{Chipset, ResetControl, State};
    let device = ResetControl::new(Chipset::Piix3, Arc::new(PowerProbe::new()));
    refuse(&device, &State { value: 0x08 }, "chipset");
    device.restore(&State { value: 0x02 }).unwrap();
}

#[cfg(feature = "pvpanic")]
#[test]
fn pvpanic_promises_nothing_that_it_does_not_do() {
    for (events, found) in [(0x08, "0x8"), (0x0f, "0xf"), (0xff, "0xff")] {
        let power = Arc::new(PowerProbe::new());
        let error = devices::pvpanic::PvPanic::with_events(events, power).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "pvpanic: events is {found}, and must be 0 to 7 (bit 0: panicked, bit 1: crash \
                 loaded, bit 2: shutdown)"
            )
        );
    }
}

#[cfg(feature = "acpi-pm")]
mod acpi_pm {
    use super::*;
    use devices::acpi_pm::{AcpiPm, SleepTypes, State, Wiring};

    fn wiring() -> Wiring {
        Wiring {
            sci: Arc::new(NoIrq),
            power: Arc::new(PowerProbe::new()),
            clock: Arc::new(ManualClock::new(0)),
            rearm: Arc::new(NoNotify),
        }
    }

    #[test]
    fn sleep_types_must_fit_and_differ() {
        for (s5, s3, s4) in [
            (8, None, None),
            (0, Some(8), None),
            (0, Some(1), Some(255)),
            (1, Some(1), None),
            (2, None, Some(2)),
            (0, Some(3), Some(3)),
        ] {
            let error = AcpiPm::new(SleepTypes { s5, s3, s4 }, wiring()).unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::BadConfig {
                        device: "acpi-pm",
                        ..
                    }
                ),
                "{error}"
            );
        }
        AcpiPm::new(SleepTypes::S5_ONLY, wiring()).unwrap();
    }

    #[test]
    fn refuses_states_that_it_cannot_have() {
        let device = AcpiPm::new(SleepTypes::QEMU, wiring()).unwrap();
        refuse(
            &device,
            &State {
                control: 0,
                ..device.save()
            },
            "SCI_EN",
        );
        refuse(
            &device,
            &State {
                control: 0x2001,
                ..device.save()
            },
            "SLP_EN",
        );
        // Any time will do: the timer is due at the end of time, or long ago.
        for overflow_at in [0, u64::MAX] {
            device
                .restore(&State {
                    overflow_at,
                    enable: 1,
                    ..device.save()
                })
                .unwrap();
            device.write(0, &[1, 0]);
        }
    }
}

#[cfg(feature = "wdat")]
#[test]
fn wdat_refuses_states_that_it_cannot_have_and_survives_odd_ones() {
    use devices::Timed;
    use devices::wdat::{State, Wdat, Wiring};
    let clock = Arc::new(ManualClock::new(0));
    let power = Arc::new(PowerProbe::new());
    let device = Wdat::new(Wiring {
        power: power.clone(),
        clock: clock.clone(),
        rearm: Arc::new(NoNotify),
    });
    let good = device.save();
    let stopped = State {
        expires_at: Some(1),
        ..good
    };
    refuse(&device, &stopped, "absent in a watchdog that is stopped");
    // Any time will do: the end is long past, or at the end of time.
    let running = State {
        running: true,
        ..good
    };
    for (now, at, expires) in [
        (u64::MAX, 0, true),
        (u64::MAX, u64::MAX, true),
        (0, u64::MAX, false),
    ] {
        clock.set(now);
        let expires_at = Some(at);
        device
            .restore(&State {
                expires_at,
                ..running
            })
            .unwrap();
        device.tick();
        assert_eq!(power.take().len(), usize::from(expires), "{now} {at}");
        let mut data = [0; 10];
        device.read(0, &mut data);
        let left = if expires { 0 } else { 0xff };
        assert_eq!((data[6], data[7]), (left, left));
        // At the end of time it does not wrap to the beginning.
        device.write(1, &[1]);
        assert_eq!(power.take().len(), usize::from(expires));
    }
}

#[cfg(feature = "ib700")]
#[test]
fn ib700_survives_odd_states() {
    use devices::Timed;
    use devices::ib700::{Ib700, State, Wiring};
    let clock = Arc::new(ManualClock::new(u64::MAX));
    let power = Arc::new(PowerProbe::new());
    let device = Ib700::new(Wiring {
        power: power.clone(),
        clock: clock.clone(),
        rearm: Arc::new(NoNotify),
    });
    for expires_at in [Some(0), Some(u64::MAX)] {
        device.restore(&State { expires_at }).unwrap();
        device.tick();
        device.tick();
        assert_eq!(power.take(), [PowerRequest::WatchdogExpired]);
        assert_eq!(device.next_deadline(), None);
    }
    // Started at the end of time, it does not wrap to the beginning.
    device.write(2, &[0]);
    assert_eq!(power.take(), [PowerRequest::WatchdogExpired]);
    clock.set(0);
    device.tick();
    assert_eq!((power.take(), device.next_deadline()), (vec![], None));
}

#[cfg(feature = "cmos-rtc")]
mod cmos_rtc {
    use super::*;
    use devices::Timed;
    use devices::cmos_rtc::{CmosRtc, Memory, State, Wiring};

    #[test]
    fn refuses_states_that_it_cannot_have_and_survives_odd_ones() {
        let clock = Arc::new(ManualClock::new(0));
        let wiring = Wiring {
            irq: Arc::new(NoIrq),
            power: Arc::new(PowerProbe::new()),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let device = CmosRtc::new(Memory::default(), wiring);
        let good = device.save();
        refuse(
            &device,
            &State {
                index: 0x80,
                ..good.clone()
            },
            "as `save` returned it",
        );
        for offset_ns in [i128::MAX, i128::MIN] {
            refuse(
                &device,
                &State {
                    offset_ns,
                    ..good.clone()
                },
                "as `save` returned it",
            );
        }
        for (index, value) in [(0x0a, 0xa6), (0x0c, 0x20), (0x0d, 0)] {
            let mut state = State {
                cmos: good.cmos,
                ..good.clone()
            };
            state.cmos[0x0b] = 0x72;
            state.cmos[index] = value;
            refuse(&device, &state, "as `save` returned it");
        }
        // Every extreme that is allowed: no panic at any time, in any mode.
        let most: i128 = 400_000_000_000 * 1_000_000_000;
        for offset_ns in [-most, 0, most] {
            for (seen_ns, now) in [(0, u64::MAX), (u64::MAX, 0), (u64::MAX, u64::MAX)] {
                clock.set(now);
                device
                    .restore(&State {
                        offset_ns,
                        seen_ns,
                        period_start_ns: seen_ns.min(good.period_start_ns),
                        ..good.clone()
                    })
                    .unwrap();
                for b in [0x72, 0x76, 0xf2] {
                    for index in (0..128).rev() {
                        device.write(0, &[index, if index == 0x0b { b } else { 0xff }]);
                        device.read(0, &mut [0; 2]);
                        device.tick();
                        let _ = device.next_deadline();
                    }
                }
            }
        }
    }
}

/// Breaks, once.
#[derive(Default)]
struct Broken(AtomicBool);

impl Broken {
    fn trip(&self) {
        let first = !self.0.swap(true, Ordering::SeqCst);
        assert!(!first, "the VMM's fault");
    }
}

impl IrqLine for Broken {
    fn set(&self, _level: bool) {
        self.trip();
    }
}

impl PowerSink for Broken {
    fn power(&self, _request: PowerRequest) {
        self.trip();
    }
}

impl Output for Broken {
    fn write(&self, bytes: &[u8]) -> usize {
        self.trip();
        bytes.len()
    }
}

fn panics(act: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(act)).unwrap_err();
}

/// A panic in the VMM's own line or sink poisons no lock for the other vCPUs.
#[cfg(all(feature = "serial", feature = "i8042", feature = "port92"))]
#[test]
fn a_panic_in_the_vmm_leaves_the_device_usable() {
    let broken = || Arc::new(Broken::default());
    let read = |device: &dyn BusDevice, offset| {
        let mut data = [0];
        device.read(offset, &mut data);
        data[0]
    };

    let output = Arc::new(OutputRing::new(8));
    let port = devices::serial::Serial::new(broken(), output.clone());
    panics(|| port.write(1, &[2]));
    port.write(0, b"x");
    assert_eq!((output.len(), read(&port, 1)), (1, 2));

    let port = devices::serial::Serial::new(Arc::new(NoIrq), broken());
    panics(|| port.write(0, b"x"));
    port.write(0, b"y");
    assert_eq!(read(&port, 5), 0x60);

    let keyboard = devices::i8042::I8042::new(broken(), Arc::new(NoIrq), broken());
    panics(|| keyboard.write(4, &[0xaa]));
    assert_eq!((read(&keyboard, 4), read(&keyboard, 0)), (0x1d, 0x55));
    panics(|| keyboard.write(4, &[0xfe]));
    keyboard.write(4, &[0xfe]);

    let port = devices::port92::Port92::new(broken());
    panics(|| port.write(0, &[1]));
    assert_eq!(read(&port, 0), 1);
}

#[cfg(feature = "pit")]
#[test]
fn pit_refuses_states_that_it_cannot_have_and_survives_odd_ones() {
    use devices::pit::{Counter, Pit, Run, State, Wiring};
    use devices::{Clock, Timed};
    let clock = Arc::new(ManualClock::new(0));
    let device = Pit::new(Wiring {
        irq: Arc::new(NoIrq),
        clock: clock.clone(),
        rearm: Arc::new(NoNotify),
    });
    let good = device.save();
    let with = |counter: Counter| {
        let mut state = good.clone();
        state.counters[1] = counter;
        state
    };
    let counter = good.counters[1];
    let counting = |from| Run::Counting {
        since: 0,
        from,
        over: false,
    };
    for bad in [
        Counter {
            control: 0x40,
            ..counter
        },
        Counter {
            control: 0x06,
            ..counter
        },
        Counter {
            run: counting(0),
            ..counter
        },
        Counter {
            run: counting(1),
            ..counter
        },
        Counter {
            run: counting(0x1_0001),
            ..counter
        },
        Counter {
            run: Run::Idle { left: u32::MAX },
            ..counter
        },
        // More than a decimal counter has.
        Counter {
            control: 0x37,
            ..counter
        },
    ] {
        refuse(&device, &with(bad), "the counter of this number is 1");
    }
    // Any time will do: it lies ahead, or at the end of time.
    for (mode, since) in (0..8).flat_map(|mode| [(mode, 0), (mode, 1 << 40), (mode, u64::MAX)]) {
        let odd = Counter {
            control: 0x30 | mode << 1,
            run: Run::Counting {
                since,
                from: 2,
                over: false,
            },
            load_at: Some(since),
            null: true,
            ..counter
        };
        let state = State {
            counters: [odd; 3],
            ..good.clone()
        };
        for now in [0, 1 << 62, u64::MAX] {
            clock.set(now);
            device.restore(&state).unwrap();
            device.tick();
            assert!(
                device
                    .next_deadline()
                    .is_none_or(|due| due > clock.now_ns())
            );
            device.read(0, &mut [0; 5]);
            device.write(0, &[0xff; 5]);
        }
    }
}

#[cfg(feature = "pic")]
#[test]
fn pic_refuses_states_that_it_cannot_have() {
    use devices::pic::{Chip, Expects, Pic, State};
    let device = Pic::new(Arc::new(NoIrq));
    let good = device.save();
    for bad in [
        Chip {
            lowest: 8,
            ..good.slave
        },
        Chip {
            base: 0x41,
            ..good.slave
        },
        Chip {
            level: 0x01,
            ..good.slave
        },
        Chip {
            icw1: 0x01,
            ..good.slave
        },
        Chip {
            expects: Expects::Icw3,
            ..good.slave
        },
    ] {
        refuse(
            &device,
            &State { slave: bad, ..good },
            "pic: bad saved state",
        );
    }
    // The slave's input is by level always.
    let master = Chip {
        level: 0,
        ..good.master
    };
    refuse(&device, &State { master, ..good }, "pic: bad saved state");
    // Lines that are not there, or are not to be driven.
    for line in [2, 16, 0xff, 0x100, u32::MAX] {
        device.set(line, true);
    }
    assert_eq!(device.save(), good);
}

#[cfg(feature = "ioapic")]
#[test]
fn ioapic_refuses_states_that_it_cannot_have() {
    use devices::ioapic::{IoApic, NoInterrupts, State};
    let device = IoApic::new(Arc::new(NoInterrupts));
    let good = device.save();
    let entry = |entry| {
        let mut state = good;
        state.entries[23] = entry;
        state
    };
    for (bad, says) in [
        (State { id: 1, ..good }, "id is 1"),
        (
            State {
                pins: 1 << 24,
                ..good
            },
            "a mask of 24 bits",
        ),
        (entry(1 << 14), "without remote IRR"),
        (entry(1 << 12), "0 in reserved bits"),
        (entry(1 << 17), "0 in reserved bits"),
    ] {
        refuse(&device, &bad, says);
    }
    for pin in [24, 32, 64, u32::MAX] {
        device.set(pin, true);
    }
    assert_eq!(device.save(), good);
}
