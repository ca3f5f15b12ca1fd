//! The ib700 watchdog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::ib700::{Ib700, PORTS, Wiring};
use devices::{
    Bus, BusBuilder, ManualClock, PowerProbe, PowerRequest, ResetType, Resettable, SaveRestore,
    Timed,
};

const SECOND: u64 = 1_000_000_000;
const STOP: [u64; 2] = [0x441, 0x442];
const START: [u64; 2] = [0x443, 0x444];

struct Rig {
    power: Arc<PowerProbe>,
    clock: Arc<ManualClock>,
    rearmed: Arc<AtomicU64>,
    device: Arc<Ib700>,
    bus: Bus,
}

impl Rig {
    fn new() -> Self {
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(7 * SECOND));
        let rearmed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rearmed);
        let device = Arc::new(Ib700::new(Wiring {
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        }));
        let mut builder = BusBuilder::pio();
        builder.map("ib700", &PORTS, device.clone()).unwrap();
        Self {
            power,
            clock,
            rearmed,
            device,
            bus: builder.build(),
        }
    }

    fn rearmed(&self) -> u64 {
        self.rearmed.swap(0, Ordering::SeqCst)
    }

    /// How many times the watchdog has expired since the last call.
    fn expiries(&self) -> usize {
        let requests = self.power.take();
        assert!(
            requests
                .iter()
                .all(|request| *request == PowerRequest::WatchdogExpired)
        );
        requests.len()
    }
}

#[test]
fn every_value_gives_its_time_and_the_high_bits_none() {
    for port in START {
        for value in 0..=u8::MAX {
            let rig = Rig::new();
            rig.bus.write(port, &[value]);
            let seconds = 30 - 2 * u64::from(value & 0x0f);
            if seconds == 0 {
                assert_eq!((rig.expiries(), rig.device.next_deadline()), (1, None));
                continue;
            }
            assert_eq!(rig.rearmed(), 1);
            let due = (7 + seconds) * SECOND;
            assert_eq!(rig.device.next_deadline(), Some(due), "{value:#x}");
            rig.clock.set(due - 1);
            rig.device.tick();
            assert_eq!(rig.expiries(), 0, "not a nanosecond early");
            rig.clock.set(due);
            rig.device.tick();
            assert_eq!((rig.expiries(), rig.rearmed()), (1, 1));
        }
    }
}

#[test]
fn it_expires_once_and_can_be_started_again() {
    let rig = Rig::new();
    for _ in 0..3 {
        rig.bus.write(0x443, &[14]);
        for _ in 0..10 {
            rig.clock.advance(2 * SECOND);
            rig.device.tick();
        }
        assert_eq!((rig.expiries(), rig.device.next_deadline()), (1, None));
    }
}

#[test]
fn each_start_is_the_whole_time_again() {
    let rig = Rig::new();
    for _ in 0..100 {
        rig.bus.write(0x443, &[10]);
        rig.clock.advance(10 * SECOND - 1);
        rig.device.tick();
    }
    assert_eq!(rig.expiries(), 0);
    rig.clock.advance(1);
    rig.device.tick();
    assert_eq!(rig.expiries(), 1);
}

#[test]
fn both_stop_ports_stop_it_with_any_value() {
    for port in STOP {
        for value in [0, 1, 0xff] {
            let rig = Rig::new();
            rig.bus.write(0x444, &[0]);
            rig.rearmed();
            rig.bus.write(port, &[value]);
            assert_eq!((rig.device.next_deadline(), rig.rearmed()), (None, 1));
            rig.clock.advance(1000 * SECOND);
            rig.device.tick();
            assert_eq!(rig.expiries(), 0);
        }
    }
}

#[test]
fn a_guest_that_comes_too_late_is_too_late_although_nobody_has_ticked() {
    for port in [0x441, 0x443] {
        let rig = Rig::new();
        rig.bus.write(0x443, &[0]);
        rig.clock.advance(30 * SECOND);
        rig.bus.write(port, &[0]);
        assert_eq!(rig.expiries(), 1);
        rig.device.tick();
        assert_eq!(rig.expiries(), 0);
        assert_eq!(rig.device.next_deadline().is_some(), port == 0x443);
    }
}

#[test]
fn it_stands_still_with_the_virtual_clock() {
    let rig = Rig::new();
    rig.bus.write(0x443, &[14]);
    let due = rig.device.next_deadline();
    for _ in 0..1000 {
        rig.device.tick();
    }
    assert_eq!((rig.expiries(), rig.device.next_deadline()), (0, due));
}

#[test]
fn every_reset_stops_it() {
    for kind in [ResetType::Cold, ResetType::Wakeup, ResetType::SnapshotLoad] {
        let rig = Rig::new();
        rig.bus.write(0x443, &[0]);
        rig.rearmed();
        // Even one whose time was over, and whom nobody has ticked.
        rig.clock.advance(60 * SECOND);
        rig.device.reset(kind);
        assert_eq!((rig.device.next_deadline(), rig.rearmed()), (None, 1));
        rig.device.tick();
        assert_eq!(rig.expiries(), 0, "{kind:?}");
    }
}

#[test]
fn reads_are_as_if_nobody_were_there() {
    let rig = Rig::new();
    let mut data = [0; 4];
    rig.bus.read(0x441, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(rig.bus.unclaimed().reads, 0);
    assert_eq!(rig.device.next_deadline(), None);
}

#[test]
fn a_wide_write_is_its_bytes_in_order() {
    let rig = Rig::new();
    // Stop, stop, start for 2 s, start for 28 s.
    rig.bus.write(0x441, &[0, 0, 14, 1]);
    assert_eq!(rig.device.next_deadline(), Some(35 * SECOND));
}

#[test]
fn a_restored_watchdog_expires_when_it_would_have() {
    let saved = Rig::new();
    saved.bus.write(0x443, &[5]);
    let rig = Rig::new();
    rig.device.restore(&saved.device.save()).unwrap();
    assert_eq!(rig.rearmed(), 1);
    assert_eq!(rig.device.next_deadline(), Some(27 * SECOND));
    rig.clock.set(27 * SECOND);
    rig.device.tick();
    assert_eq!(rig.expiries(), 1);
}
