//! The ib700 watchdog.

use devices::ib700::{Ib700, PORTS};
use devices::{ResetType, Resettable, SaveRestore, Timed};

use crate::watchdog::{Rig, SECOND};

const STOP: [u64; 2] = [0x441, 0x442];
const START: [u64; 2] = [0x443, 0x444];

impl Rig<Ib700> {
    fn new() -> Self {
        Self::at(7, PORTS[0], Ib700::new)
    }
}

#[test]
fn every_value_gives_its_time_and_the_high_bits_none() {
    for port in START {
        for value in 0..=u8::MAX {
            let rig = Rig::<Ib700>::new();
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
    let rig = Rig::<Ib700>::new();
    for _ in 0..3 {
        rig.bus.write(0x443, &[14]);
        for _ in 0..10 {
            rig.advance(2 * SECOND);
        }
        assert_eq!((rig.expiries(), rig.device.next_deadline()), (1, None));
    }
}

#[test]
fn each_start_is_the_whole_time_again() {
    let rig = Rig::<Ib700>::new();
    for _ in 0..100 {
        rig.bus.write(0x443, &[10]);
        rig.advance(10 * SECOND - 1);
    }
    assert_eq!(rig.expiries(), 0);
    rig.advance(1);
    assert_eq!(rig.expiries(), 1);
}

#[test]
fn both_stop_ports_stop_it_with_any_value() {
    for port in STOP {
        for value in [0, 1, 0xff] {
            let rig = Rig::<Ib700>::new();
            rig.bus.write(0x444, &[0]);
            rig.rearmed();
            rig.bus.write(port, &[value]);
            assert_eq!((rig.device.next_deadline(), rig.rearmed()), (None, 1));
            rig.advance(1000 * SECOND);
            assert_eq!(rig.expiries(), 0);
        }
    }
}

#[test]
fn a_guest_that_comes_too_late_is_too_late_although_nobody_has_ticked() {
    for port in [0x441, 0x443] {
        let rig = Rig::<Ib700>::new();
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
    let rig = Rig::<Ib700>::new();
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
        let rig = Rig::<Ib700>::new();
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
    let rig = Rig::<Ib700>::new();
    let mut data = [0; 4];
    rig.bus.read(0x441, &mut data);
    assert_eq!(data, [0xff; 4]);
    assert_eq!(rig.bus.unclaimed().reads, 0);
    assert_eq!(rig.device.next_deadline(), None);
}

#[test]
fn a_wide_write_is_its_bytes_in_order() {
    let rig = Rig::<Ib700>::new();
    // Stop, stop, start for 2 s, start for 28 s.
    rig.bus.write(0x441, &[0, 0, 14, 1]);
    assert_eq!(rig.device.next_deadline(), Some(35 * SECOND));
}

#[test]
fn a_restored_watchdog_expires_when_it_would_have() {
    let saved = Rig::<Ib700>::new();
    saved.bus.write(0x443, &[5]);
    let rig = Rig::<Ib700>::new();
    rig.device.restore(&saved.device.save()).unwrap();
    assert_eq!(rig.rearmed(), 1);
    assert_eq!(rig.device.next_deadline(), Some(27 * SECOND));
    rig.clock.set(27 * SECOND);
    rig.device.tick();
    assert_eq!(rig.expiries(), 1);
}
