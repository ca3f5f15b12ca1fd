//! States that the interval timer and the interrupt controllers cannot have.

use std::sync::Arc;

use devices::{BusDevice, ManualClock, NoIrq, NoNotify, SaveRestore};

use super::states::refuse;

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
