//! Suspend to RAM and waking from it, with the embedded guest: what the guest says, what the
//! monitor's clients hear, and that nothing happens in between.

mod common;

use std::time::Duration;

use common::{Qmp, Vm, needs_kvm, quiet, switches, wait_for};
use serde_json::json;

/// What a guest says that was woken by the monitor: PM1 status with WAK, power button and timer.
const AWAKE: &str = "The guest is awake, PM1 status 0x8101.";
/// By the alarm: WAK, alarm and timer.
const AWAKE_BY_ALARM: &str = "The guest is awake, PM1 status 0x8401.";

/// A guest that sleeps, with its monitor.
fn asleep(args: &[&str]) -> (Vm, Qmp) {
    let mut vm = Vm::menu(args);
    let mut qmp = vm.qmp();
    fall_asleep(&mut vm, &mut qmp);
    (vm, qmp)
}

fn fall_asleep(vm: &mut Vm, qmp: &mut Qmp) {
    vm.press("u", "suspend: S3");
    qmp.event("SUSPEND");
    assert_eq!(qmp.status(), "suspended");
}

fn wake(vm: &mut Vm, qmp: &mut Qmp) {
    qmp.execute("system_wakeup");
    qmp.event("WAKEUP");
    assert_eq!(qmp.status(), "running");
    vm.hear(AWAKE);
    vm.hear("guest> ");
}

#[test]
fn the_monitor_wakes_the_guest() {
    needs_kvm!();
    let (mut vm, mut qmp) = asleep(&[]);
    assert_eq!(
        qmp.execute("query-current-machine")["wakeup-suspend-support"],
        true
    );
    wake(&mut vm, &mut qmp);
    let refused = qmp.reply("system_wakeup", json!({}));
    assert_eq!(
        refused["error"]["desc"],
        "Unable to wake up: guest is not in suspended state"
    );
    assert_eq!(vm.heard_times("Memory was lost."), 0);
    vm.power_off();
}

#[test]
fn fifty_times_in_a_row() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    let count = |vm: &Vm, what| {
        let entries = std::fs::read_dir(format!("/proc/{}/{what}", vm.child.id()));
        entries.unwrap().count()
    };
    let before = (count(&vm, "fd"), count(&vm, "task"));
    for _ in 0..50 {
        fall_asleep(&mut vm, &mut qmp);
        wake(&mut vm, &mut qmp);
    }
    assert_eq!((count(&vm, "fd"), count(&vm, "task")), before);
    assert_eq!(vm.heard_times(AWAKE), 50);
    assert_eq!(vm.heard_times("Memory was lost."), 0);
    vm.power_off();
}

#[test]
fn the_alarm_wakes_the_guest() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    for _ in 0..2 {
        vm.press("a", "suspend: S3");
        qmp.event("SUSPEND");
        qmp.event("WAKEUP");
        vm.hear(AWAKE_BY_ALARM);
        vm.hear("guest> ");
    }
    vm.power_off();
}

#[test]
fn a_key_wakes_the_guest_if_it_may() {
    needs_kvm!();
    // Without the option nothing happens.
    let (mut vm, mut qmp) = asleep(&[]);
    vm.keys("x");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(qmp.status(), "suspended");
    wake(&mut vm, &mut qmp);
    vm.power_off();

    let mut vm = Vm::menu_with_serial(",wakeup=on", &[]);
    let mut qmp = vm.qmp();
    for _ in 0..3 {
        fall_asleep(&mut vm, &mut qmp);
        vm.keys(" ");
        qmp.event("WAKEUP");
        vm.hear(AWAKE);
        vm.hear("guest> ");
    }
    vm.power_off();
}

/// A wakeup that was due while the VM was stopped could not wake it then, and is not lost.
#[test]
fn an_alarm_while_stopped_wakes_the_guest_after_cont() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("a", "suspend: S3");
    qmp.execute("stop");
    assert_eq!(qmp.status(), "paused");
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(qmp.status(), "paused");
    qmp.execute("cont");
    qmp.event("WAKEUP");
    vm.hear("The guest is awake");
    vm.power_off();
}

/// An alarm that was not enabled as a reason, or none at all, wakes nobody: no thread runs.
#[test]
fn no_thread_wakes_while_the_guest_sleeps() {
    needs_kvm!();
    let (mut vm, mut qmp) = asleep(&["--cpus", "2"]);
    let pid = vm.child.id();
    quiet(pid);
    let before = switches(pid);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(pid), before);
    wake(&mut vm, &mut qmp);
    vm.power_off();
}

#[test]
fn stop_and_cont_leave_a_sleeping_guest_asleep() {
    needs_kvm!();
    let (mut vm, mut qmp) = asleep(&[]);
    for _ in 0..3 {
        qmp.execute("stop");
        qmp.event("STOP");
        assert_eq!(qmp.status(), "paused");
        let refused = qmp.reply("system_wakeup", json!({}));
        assert_eq!(
            refused["error"]["desc"],
            "Unable to wake up: guest is not in suspended state"
        );
        qmp.execute("cont");
        qmp.event("RESUME");
        assert_eq!(qmp.status(), "suspended");
    }
    assert_eq!(vm.heard_times("The guest is awake"), 0);
    wake(&mut vm, &mut qmp);
    vm.power_off();
}

#[test]
fn a_reset_while_asleep_boots_cold() {
    needs_kvm!();
    for stopped in [false, true] {
        let (mut vm, mut qmp) = asleep(&[]);
        if stopped {
            qmp.execute("stop");
        }
        qmp.execute("system_reset");
        assert_eq!(
            qmp.event("RESET"),
            json!({"guest": false, "reason": "host-qmp-system-reset"})
        );
        assert_eq!(qmp.status(), "prelaunch");
        qmp.execute("cont");
        assert_eq!(qmp.status(), "running");
        vm.hear("Memory is as at power-on.");
        vm.hear("guest> ");
        assert_eq!(vm.heard_times("The guest is awake"), 0);
        // It can sleep again, and its time goes on.
        fall_asleep(&mut vm, &mut qmp);
        wake(&mut vm, &mut qmp);
        vm.press("n", "counting");
        vm.hear("2\r\n");
        vm.keys(" ");
        vm.power_off();
    }
}

#[test]
fn the_power_button_does_not_wake_the_guest() {
    needs_kvm!();
    let (mut vm, mut qmp) = asleep(&[]);
    qmp.execute("system_powerdown");
    qmp.event("POWERDOWN");
    assert_eq!(qmp.status(), "suspended");
    wake(&mut vm, &mut qmp);
    vm.power_off();
}

#[test]
fn a_guest_that_says_nowhere_to_wake_it_is_reset() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    for _ in 0..2 {
        vm.press("v", "no waking vector");
        qmp.event("SUSPEND");
        qmp.execute("system_wakeup");
        qmp.event("WAKEUP");
        assert_eq!(
            qmp.event("RESET"),
            json!({"guest": true, "reason": "guest-reset"})
        );
        vm.hear("Memory is as at power-on.");
        vm.hear("guest> ");
    }
    vm.logged("the waking vector in its FACS is 0x0, and should be from 0x1 to 0xfffff");
    vm.power_off();

    let mut vm = Vm::menu(&["--no-reboot"]);
    let mut qmp = vm.qmp();
    vm.press("v", "no waking vector");
    qmp.event("SUSPEND");
    qmp.execute("system_wakeup");
    assert_eq!(
        qmp.event("SHUTDOWN"),
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_guest_that_suspends_to_disk_is_powered_off() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("4", "suspend to disk: S4");
    qmp.event("SUSPEND_DISK");
    assert_eq!(
        qmp.event("SHUTDOWN"),
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(qmp.last_events(), Vec::<String>::new());
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_sleeping_vm_can_be_ended() {
    needs_kvm!();
    let (vm, mut qmp) = asleep(&[]);
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
    let (vm, _qmp) = asleep(&["--cpus", "2"]);
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
}

/// The guest goes to sleep while a client stops it. Whoever comes first, a `stop` that was
/// acknowledged holds, the sleep is not lost, and the guest is never awake without a wakeup.
#[test]
fn a_guest_that_falls_asleep_while_it_is_stopped() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    for delay in (0..5_000).step_by(50) {
        vm.keys("u");
        // From before the guest has read the key to after it sleeps.
        std::thread::sleep(Duration::from_micros(delay));
        qmp.execute("stop");
        assert_eq!(qmp.status(), "paused");
        qmp.execute("cont");
        qmp.event("SUSPEND");
        wait_for("sleep", || (qmp.status() == "suspended").then_some(()));
        wake(&mut vm, &mut qmp);
    }
    vm.power_off();
}
