//! Suspend and wakeup over all devices that take part: the guest's side through their registers,
//! and a VMM that does of its own what it must.

use std::sync::Arc;

use devices::acpi_pm::{self, AcpiPm, SleepTypes};
use devices::cmos_rtc::{self, CmosRtc, Memory};
use devices::{
    Bus, BusBuilder, Clock, IrqProbe, ManualClock, NoNotify, PowerProbe, PowerRequest, ResetTree,
    ResetType, SaveRestore, Timed, WakeupReason,
};

const SECOND: u64 = 1_000_000_000;
/// 2023-11-14 22:13:20 UTC.
const START: u64 = 1_700_000_000 * SECOND;

const STATUS: u64 = 0x600;
const ENABLE: u64 = 0x602;
const CONTROL: u64 = 0x604;
const S3: u16 = 1 << 10;
const SLP_EN: u16 = 1 << 13;
const AIE: u8 = 0x20;
const HOURS_24: u8 = 0x02;

/// A machine with the least VMM that can suspend it.
struct Machine {
    bus: Bus,
    tree: ResetTree,
    pm: Arc<AcpiPm>,
    rtc: Arc<CmosRtc>,
    sci: Arc<IrqProbe>,
    power: Arc<PowerProbe>,
    virtual_clock: Arc<ManualClock>,
    wall_clock: Arc<ManualClock>,
    suspended: bool,
    /// Whether the clock and the timer may wake.
    mask: [bool; 2],
}

impl Machine {
    fn new() -> Self {
        let (sci, power) = (Arc::new(IrqProbe::new()), Arc::new(PowerProbe::new()));
        let virtual_clock = Arc::new(ManualClock::new(0));
        let wall_clock = Arc::new(ManualClock::new(START));
        let wiring = acpi_pm::Wiring {
            sci: sci.clone(),
            power: power.clone(),
            clock: virtual_clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let pm = Arc::new(AcpiPm::new(SleepTypes::QEMU, wiring).unwrap());
        let wiring = cmos_rtc::Wiring {
            irq: Arc::new(IrqProbe::new()),
            power: power.clone(),
            clock: wall_clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let rtc = Arc::new(CmosRtc::new(Memory::default(), wiring));
        let mut bus = BusBuilder::pio();
        bus.map("acpi-pm", &acpi_pm::PORTS, pm.clone()).unwrap();
        bus.map("cmos-rtc", &cmos_rtc::PORTS, rtc.clone()).unwrap();
        let tree = ResetTree::new();
        tree.add(tree.root(), "acpi-pm", pm.clone()).unwrap();
        tree.add(tree.root(), "cmos-rtc", rtc.clone()).unwrap();
        Self {
            bus: bus.build(),
            tree,
            pm,
            rtc,
            sci,
            power,
            virtual_clock,
            wall_clock,
            suspended: false,
            mask: [true; 2],
        }
    }

    fn outw(&self, port: u64, value: u16) {
        self.bus.write(port, &value.to_le_bytes());
    }

    fn inw(&self, port: u64) -> u16 {
        let mut data = [0; 2];
        self.bus.read(port, &mut data);
        u16::from_le_bytes(data)
    }

    fn cmos(&self, index: u8) -> u8 {
        let mut data = [0];
        self.bus.write(0x70, &[index]);
        self.bus.read(0x71, &mut data);
        data[0]
    }

    fn set_cmos(&self, index: u8, value: u8) {
        self.bus.write(0x70, &[index]);
        self.bus.write(0x71, &[value]);
    }

    /// The guest asks to be woken 60 seconds after the clock's last full minute.
    fn set_alarm(&self) {
        self.set_cmos(1, self.cmos(0));
        for index in [3, 5] {
            self.set_cmos(index, 0xff);
        }
        self.set_cmos(0x0b, HOURS_24 | AIE);
        self.cmos(0x0c);
    }

    /// The guest clears all status and lets these wake it, and goes to sleep.
    fn sleep(&self, enable: u16) {
        self.outw(STATUS, 0xffff);
        self.outw(ENABLE, enable);
        self.outw(CONTROL, S3);
        self.outw(CONTROL, S3 | SLP_EN);
    }

    /// The main loop serves what was asked for, and follows the mask.
    fn serve(&mut self) -> Option<WakeupReason> {
        for (reason, enabled) in self.power.take_enables() {
            self.mask[usize::from(reason == WakeupReason::PmTimer)] = enabled;
        }
        let mut woken = None;
        for request in self.power.take() {
            match request {
                PowerRequest::Suspend if !self.suspended => {
                    self.rtc.mark_suspend();
                    self.suspended = true;
                }
                PowerRequest::Wakeup(reason) => woken = self.wake(reason).or(woken),
                other => panic!("{other:?} of a machine whose sleep is {}", self.suspended),
            }
        }
        woken
    }

    fn wake(&mut self, reason: WakeupReason) -> Option<WakeupReason> {
        let enabled = match reason {
            WakeupReason::Rtc => self.mask[0],
            WakeupReason::PmTimer => self.mask[1],
            _ => true,
        };
        if !self.suspended || !enabled {
            return None;
        }
        self.reset(ResetType::Wakeup);
        self.pm.wake(reason);
        Some(reason)
    }

    fn reset(&mut self, kind: ResetType) {
        self.tree.reset(self.tree.root(), kind).unwrap();
        self.suspended = false;
    }

    /// The next deadline of the clock on the wall passes; the virtual clock stands.
    fn wait_for_the_clock(&self) {
        let due = self.rtc.next_deadline().unwrap();
        assert!(due > self.wall_clock.now_ns());
        self.wall_clock.set(due);
        self.rtc.tick();
        self.pm.tick();
    }
}

#[test]
fn a_guest_sleeps_and_wakes_for_every_reason_50_times_in_a_row() {
    let mut machine = Machine::new();
    for round in 0..50 {
        for (reason, enable, status) in [
            (WakeupReason::Rtc, 0x0500, 0x8401),
            (WakeupReason::PmTimer, 0x0001, 0x8001),
            (WakeupReason::Other, 0x0100, 0x8101),
        ] {
            if reason == WakeupReason::Rtc {
                machine.set_alarm();
            }
            machine.sleep(enable);
            assert_eq!(machine.serve(), None);
            assert!(machine.suspended, "round {round}, {reason:?}");
            let woken = match reason {
                WakeupReason::Rtc => {
                    machine.wait_for_the_clock();
                    machine.serve()
                }
                WakeupReason::PmTimer => {
                    // Only in a VMM whose virtual clock runs on, as QEMU 7.2's did.
                    machine
                        .virtual_clock
                        .set(machine.pm.next_deadline().unwrap());
                    machine.pm.tick();
                    machine.serve()
                }
                _ => machine.wake(WakeupReason::Other),
            };
            assert_eq!(woken, Some(reason), "round {round}");
            assert!(!machine.suspended);
            // What firmware finds, and then the guest.
            assert_eq!(machine.cmos(0x0f), 0xfe);
            assert!(machine.rtc.take_suspend_mark());
            assert_eq!(machine.cmos(0x0f), 0);
            assert_eq!(machine.inw(STATUS), status);
            assert_eq!((machine.inw(ENABLE), machine.inw(CONTROL)), (0, 1));
            assert_eq!(machine.cmos(0x0b) & AIE, 0);
            assert!(!machine.sci.level());
            assert_eq!((machine.serve(), machine.mask), (None, [false, false]));
        }
    }
}

#[test]
fn an_alarm_wakes_while_the_virtual_clock_stands_and_the_timer_does_not() {
    let mut machine = Machine::new();
    machine.set_alarm();
    machine.sleep(0x0401);
    machine.serve();
    assert!(machine.suspended && machine.mask == [true, true]);
    let timer = machine.pm.next_deadline();
    assert!(timer.is_some());
    for _ in 0..59 {
        machine.wall_clock.advance(SECOND);
        machine.rtc.tick();
        machine.pm.tick();
        assert_eq!(machine.serve(), None);
    }
    assert_eq!(machine.pm.next_deadline(), timer);
    machine.wait_for_the_clock();
    assert_eq!(machine.serve(), Some(WakeupReason::Rtc));
    assert_eq!(machine.wall_clock.now_ns(), START + 60 * SECOND);
}

#[test]
fn an_alarm_wakes_only_a_guest_that_has_let_it() {
    // The alarm is off, or PM1_EN has not its bit.
    for (alarm, enable) in [(false, 0x0400), (true, 0x0100)] {
        let mut machine = Machine::new();
        machine.set_alarm();
        if !alarm {
            machine.set_cmos(0x0b, HOURS_24);
        }
        machine.sleep(enable);
        machine.serve();
        machine.wall_clock.advance(3600 * SECOND);
        machine.rtc.tick();
        assert_eq!(machine.serve(), None);
        assert!(machine.suspended);
        assert_eq!(machine.rtc.alarm_stands(), alarm);
    }
}

/// The guest's last look is before the alarm, and the VM is suspended after it.
#[test]
fn an_alarm_that_comes_while_the_vm_is_being_suspended_is_not_lost() {
    let mut machine = Machine::new();
    machine.set_alarm();
    assert!(!machine.rtc.alarm_stands());
    machine.wall_clock.set(machine.rtc.next_deadline().unwrap());
    machine.rtc.tick();
    assert_eq!(machine.serve(), None, "nobody sleeps yet");
    machine.sleep(0x0400);
    assert_eq!(machine.serve(), None);
    assert!(machine.suspended && machine.rtc.alarm_stands());
    // Without a tick, too.
    let mut machine = Machine::new();
    machine.set_alarm();
    machine.wall_clock.set(machine.rtc.next_deadline().unwrap());
    assert!(machine.rtc.alarm_stands());
    machine.serve();
    // An alarm that the guest has seen is none, nor is one from before a reset.
    assert_eq!(machine.cmos(0x0c) & 0xa0, 0xa0);
    assert!(!machine.rtc.alarm_stands());
    machine.wait_for_the_clock();
    assert!(machine.rtc.alarm_stands());
    machine.reset(ResetType::Cold);
    assert!(!machine.rtc.alarm_stands());
}

#[test]
fn a_reset_of_a_suspended_machine_boots_cold_every_time() {
    let mut machine = Machine::new();
    for kind in [ResetType::Cold, ResetType::SnapshotLoad].repeat(50) {
        machine.set_alarm();
        machine.sleep(0x0501);
        machine.serve();
        assert!(machine.suspended && machine.cmos(0x0f) == 0xfe);
        machine.reset(kind);
        assert!(!machine.rtc.take_suspend_mark(), "{kind:?}");
        // Not woken, and nothing is left that would wake or interrupt.
        assert_eq!(machine.inw(STATUS), 0x0001);
        assert_eq!((machine.inw(ENABLE), machine.inw(CONTROL)), (0, 1));
        assert_eq!((machine.serve(), machine.mask), (None, [false, false]));
        machine.wall_clock.advance(3600 * SECOND);
        machine.rtc.tick();
        machine.pm.tick();
        assert_eq!(machine.power.take(), []);
        assert!(!machine.sci.level());
    }
}

#[test]
fn a_power_button_that_is_pressed_in_sleep_is_gone_after_it() {
    let mut machine = Machine::new();
    machine.sleep(0x0100);
    machine.serve();
    assert!(machine.pm.press() && machine.sci.level());
    machine.set_alarm();
    assert_eq!(machine.wake(WakeupReason::Rtc), None, "not enabled");
    assert_eq!(machine.wake(WakeupReason::Other), Some(WakeupReason::Other));
    assert_eq!((machine.inw(STATUS), machine.sci.level()), (0x8101, false));
}

#[test]
fn a_machine_that_was_saved_in_sleep_wakes_after_a_restore() {
    let mut saved = Machine::new();
    saved.set_alarm();
    saved.sleep(0x0400);
    saved.serve();
    let mut machine = Machine::new();
    machine.pm.restore(&saved.pm.save()).unwrap();
    machine.rtc.restore(&saved.rtc.save()).unwrap();
    machine.suspended = true;
    assert_eq!((machine.serve(), machine.mask), (None, [true, false]));
    machine.wait_for_the_clock();
    assert_eq!(machine.serve(), Some(WakeupReason::Rtc));
    assert!(machine.rtc.take_suspend_mark());
    assert_eq!(machine.inw(STATUS), 0x8401);
}

/// The mark is the VMM's to set. A guest that writes it gains nothing: no reset but a wakeup's
/// keeps it, and a wakeup is of a machine that was suspended.
#[test]
fn a_guest_that_forges_the_mark_boots_cold() {
    let mut machine = Machine::new();
    machine.set_cmos(0x0f, 0xfe);
    machine.reset(ResetType::Cold);
    assert!(!machine.rtc.take_suspend_mark());
    assert_eq!(machine.wake(WakeupReason::Other), None);
}
