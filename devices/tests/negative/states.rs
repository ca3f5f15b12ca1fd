//! States that a device cannot have.

use std::sync::Arc;

use devices::{
    BusDevice, Error, IrqProbe, ManualClock, NoIrq, NoNotify, OutputRing, PowerProbe, PowerRequest,
    SaveRestore,
};

/// A state that is refused leaves the device as it was.
pub(crate) fn refuse<D: SaveRestore>(device: &D, state: &D::State, says: &str) {
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
