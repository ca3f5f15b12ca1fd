//! The ACPI power-management block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::acpi_pm::{AcpiPm, PORTS, SleepTypes, Wiring};
use devices::{
    Bus, BusBuilder, Clock, IrqProbe, ManualClock, PowerProbe, PowerRequest, ResetType, Resettable,
    SaveRestore, Timed, WakeupReason,
};

const BASE: u64 = 0x600;
const STATUS: u64 = BASE;
const ENABLE: u64 = BASE + 2;
const CONTROL: u64 = BASE + 4;
const TIMER: u64 = BASE + 8;

const OFF: PowerRequest = PowerRequest::Shutdown { exit_code: None };

struct Rig {
    sci: Arc<IrqProbe>,
    power: Arc<PowerProbe>,
    clock: Arc<ManualClock>,
    rearmed: Arc<AtomicU64>,
    pm: Arc<AcpiPm>,
    bus: Bus,
}

impl Rig {
    fn new(sleep_types: SleepTypes) -> Self {
        let sci = Arc::new(IrqProbe::new());
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(0));
        let rearmed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rearmed);
        let rearm = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let wiring = Wiring {
            sci: sci.clone(),
            power: power.clone(),
            clock: clock.clone(),
            rearm,
        };
        let pm = Arc::new(AcpiPm::new(sleep_types, wiring).unwrap());
        let mut builder = BusBuilder::pio();
        builder.map("acpi-pm", &PORTS, pm.clone()).unwrap();
        Self {
            sci,
            power,
            clock,
            rearmed,
            pm,
            bus: builder.build(),
        }
    }

    /// A block whose timer status was cleared, as an operating system does first.
    fn started() -> Self {
        let rig = Self::new(SleepTypes::QEMU);
        rig.outw(STATUS, 0xffff);
        rig
    }

    fn outw(&self, port: u64, value: u16) {
        self.bus.write(port, &value.to_le_bytes());
    }

    fn outb(&self, port: u64, value: u8) {
        self.bus.write(port, &[value]);
    }

    fn inw(&self, port: u64) -> u16 {
        let mut data = [0; 2];
        self.bus.read(port, &mut data);
        u16::from_le_bytes(data)
    }

    fn timer(&self) -> u32 {
        let mut data = [0; 4];
        self.bus.read(TIMER, &mut data);
        u32::from_le_bytes(data)
    }
}

#[test]
fn sleep_types_enter_their_states_and_others_are_ignored() {
    let rig = Rig::new(SleepTypes::QEMU);
    let requests = [OFF, PowerRequest::Suspend, PowerRequest::SuspendToDisk];
    for kind in 0..8_u16 {
        rig.outw(CONTROL, kind << 10);
        assert_eq!(rig.power.take(), [], "without SLP_EN nothing happens");
        rig.outw(CONTROL, kind << 10 | 0x2000);
        let expected: Vec<_> = requests
            .get(usize::from(kind))
            .copied()
            .into_iter()
            .collect();
        assert_eq!(rig.power.take(), expected, "type {kind}");
        assert_eq!(rig.inw(CONTROL), kind << 10 | 1, "SLP_EN reads 0, SCI_EN 1");
    }
    assert_eq!(rig.pm.ignored_sleeps(), 5);
}

#[test]
fn a_sleep_state_that_is_not_offered_is_ignored_and_counted() {
    for (s3, s4) in [
        (None, None),
        (Some(1), None),
        (None, Some(2)),
        (Some(7), Some(6)),
    ] {
        let rig = Rig::new(SleepTypes { s5: 5, s3, s4 });
        let mut ignored = 0;
        for kind in 0..8_u8 {
            let expected = match Some(kind) {
                Some(5) => vec![OFF],
                kind if kind == s3 => vec![PowerRequest::Suspend],
                kind if kind == s4 => vec![PowerRequest::SuspendToDisk],
                _ => vec![],
            };
            ignored += 2 * u64::from(expected.is_empty());
            // As a word, and as the high byte alone.
            rig.outw(CONTROL, u16::from(kind) << 10 | 0x2000);
            assert_eq!(rig.power.take(), expected, "type {kind}");
            rig.outb(CONTROL + 1, kind << 2 | 0x20);
            assert_eq!(rig.power.take(), expected, "type {kind}");
        }
        assert_eq!(rig.pm.ignored_sleeps(), ignored);
    }
}

#[test]
fn status_bits_are_cleared_by_writing_ones_at_any_width() {
    let rig = Rig::started();
    let pressed = || {
        rig.outw(ENABLE, 0x0100);
        assert!(rig.pm.press());
        assert_eq!(rig.inw(STATUS), 0x0100);
    };
    pressed();
    rig.outw(STATUS, 0x0400);
    assert_eq!(rig.inw(STATUS), 0x0100);
    rig.outb(STATUS, 0xff);
    assert_eq!(rig.inw(STATUS), 0x0100);
    rig.outb(STATUS + 1, 0x01);
    assert_eq!(rig.inw(STATUS), 0);
    pressed();
    // A dword reaches status and enable.
    rig.bus.write(STATUS, &[0x00, 0x01, 0x20, 0x04]);
    assert_eq!((rig.inw(STATUS), rig.inw(ENABLE)), (0, 0x0420));
}

#[test]
fn the_power_button_is_lost_on_a_guest_that_does_not_listen() {
    let rig = Rig::started();
    assert!(!rig.pm.press());
    assert_eq!((rig.inw(STATUS), rig.sci.level()), (0, false));
    rig.outw(ENABLE, 0x0100);
    assert!(!rig.sci.level(), "the press from before is gone");
    assert!(rig.pm.press());
    assert!(rig.sci.level());
    rig.outw(STATUS, 0x0100);
    assert!(!rig.sci.level());
}

#[test]
fn the_sci_follows_status_and_enable() {
    let rig = Rig::started();
    rig.outw(ENABLE, 0x0100);
    rig.pm.press();
    rig.outw(ENABLE, 0);
    assert!(!rig.sci.level());
    rig.outw(ENABLE, 0x0100);
    assert!(rig.sci.level());
    rig.pm.reset(ResetType::Cold);
    assert!(!rig.sci.level());
    assert_eq!((rig.inw(ENABLE), rig.inw(CONTROL)), (0, 1));
    // The waking bit has no enable bit and raises nothing.
    rig.outw(STATUS, 0xffff);
    rig.outw(ENABLE, !0x0101);
    rig.pm.wake(WakeupReason::Other);
    assert_eq!((rig.inw(STATUS), rig.sci.level()), (0x8100, false));
}

#[test]
fn the_timer_counts_at_its_frequency_in_24_bits() {
    let rig = Rig::new(SleepTypes::S5_ONLY);
    for (ns, ticks) in [
        (0, 0),
        (279, 0),
        (280, 1),
        (1_000_000_000, 3_579_545),
        (60_000_000_000, 214_772_700 & 0x00ff_ffff),
        (u64::MAX, 10862272),
    ] {
        rig.clock.set(ns);
        assert_eq!(rig.timer(), ticks, "at {ns} ns");
    }
    rig.bus.write(TIMER, &[0; 4]);
    rig.clock.set(1_000_000_000);
    assert_eq!(rig.timer(), 3_579_545, "the timer cannot be written");
    assert_eq!(rig.inw(TIMER + 2), 0x36);
    assert_eq!(rig.inw(TIMER), 0x9e99);
}

#[test]
fn the_timer_interrupts_every_2_to_the_23_ticks() {
    let rig = Rig::started();
    assert_eq!(rig.pm.next_deadline(), None);
    rig.outw(ENABLE, 1);
    for round in 1..=3_u64 {
        let due = rig.pm.next_deadline().unwrap();
        assert_eq!(
            due,
            (round * 0x0080_0000 * 1_000_000_000).div_ceil(3_579_545)
        );
        rig.clock.set(due - 1);
        rig.pm.tick();
        assert_eq!(
            (rig.inw(STATUS), rig.sci.level(), rig.power.take()),
            (0, false, vec![])
        );
        assert_eq!(
            rig.pm.next_deadline(),
            Some(due),
            "an early tick changes nothing"
        );
        rig.clock.set(due);
        rig.pm.tick();
        rig.pm.tick();
        assert_eq!((rig.inw(STATUS), rig.sci.level()), (1, true));
        assert_eq!(
            rig.power.take(),
            [PowerRequest::Wakeup(WakeupReason::PmTimer)]
        );
        assert_eq!(
            rig.pm.next_deadline(),
            None,
            "nothing more until the guest clears it"
        );
        let rearmed = rig.rearmed.load(Ordering::SeqCst);
        rig.outw(STATUS, 1);
        assert!(!rig.sci.level());
        assert!(rig.rearmed.load(Ordering::SeqCst) > rearmed);
    }
}

#[test]
fn the_timer_status_is_set_without_an_interrupt_too() {
    let rig = Rig::started();
    rig.clock.set(2_343_484_437);
    assert_eq!(rig.inw(STATUS), 0);
    rig.clock.set(2_343_484_438);
    assert_eq!(rig.inw(STATUS), 1);
    assert!(!rig.sci.level());
    rig.outw(ENABLE, 1);
    assert!(rig.sci.level());
}

#[test]
fn after_a_reset_the_timer_status_is_set_at_once() {
    let rig = Rig::started();
    rig.clock.set(10_000);
    assert_eq!(rig.inw(STATUS), 0);
    rig.pm.reset(ResetType::Cold);
    assert_eq!(rig.inw(STATUS), 1);
}

#[test]
fn a_woken_guest_reads_why() {
    for (reason, status) in [
        (WakeupReason::Rtc, 0x8401),
        (WakeupReason::PmTimer, 0x8001),
        (WakeupReason::Other, 0x8101),
    ] {
        let rig = Rig::started();
        rig.pm.reset(ResetType::Wakeup);
        rig.pm.wake(reason);
        assert_eq!(rig.inw(STATUS), status);
        rig.outw(STATUS, 0xffff);
        assert_eq!(rig.inw(STATUS), 0);
    }
}

#[test]
fn wakeup_sources_are_those_that_are_enabled() {
    let rig = Rig::started();
    let both = |rtc, timer| [(WakeupReason::Rtc, rtc), (WakeupReason::PmTimer, timer)];
    rig.outw(ENABLE, 0x0400);
    assert_eq!(rig.power.take_enables(), both(true, false));
    rig.outw(ENABLE, 0x0001);
    assert_eq!(rig.power.take_enables(), both(false, true));
    rig.pm.reset(ResetType::Cold);
    assert_eq!(rig.power.take_enables(), both(false, false));
    rig.outb(ENABLE + 1, 0x04);
    assert_eq!(rig.power.take_enables(), both(true, false));
}

#[test]
fn a_restored_block_drives_the_sci_and_keeps_the_timers_phase() {
    let saved = Rig::started();
    saved.outw(ENABLE, 0x0101);
    saved.pm.press();
    let rig = Rig::new(SleepTypes::QEMU);
    rig.clock.set(saved.clock.now_ns());
    rig.pm.restore(&saved.pm.save()).unwrap();
    assert!(rig.sci.level());
    assert_eq!(rig.pm.next_deadline(), saved.pm.next_deadline());
    assert_eq!(rig.power.take_enables()[1], (WakeupReason::PmTimer, true));
}
