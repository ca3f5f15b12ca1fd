//! Ways between the run states that no other test goes. All ways that all tests go are counted in
//! the end, by the bin `edges` of the integration tests.

mod common;

use std::os::unix::net::UnixStream;

use common::{DEADLINE, Directory, Vm, gdb, needs_kvm, wait_for};
use serde_json::json;

#[test]
fn a_panicked_guest_is_reset_and_boots() {
    needs_kvm!();
    let (mut vm, mut qmp) = Vm::panicked();
    qmp.execute("system_reset");
    assert_eq!(qmp.status(), "prelaunch");
    qmp.execute("cont");
    vm.hear("guest> ");
    vm.power_off();
}

/// A sleeping guest is as alive as a running one: a shutdown that pauses stops it.
#[test]
fn a_reset_that_is_a_shutdown_stops_a_sleeping_guest() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--action", "reboot=shutdown,shutdown=pause"]);
    let mut qmp = vm.qmp();
    vm.keys("u");
    qmp.event("SUSPEND");
    qmp.execute("system_reset");
    let cause = json!({"guest": false, "reason": "host-qmp-system-reset"});
    assert_eq!(qmp.event("SHUTDOWN"), cause);
    qmp.event("STOP");
    assert_eq!(qmp.status(), "shutdown");
    assert!(qmp.reply("cont", json!({})).get("error").is_some());
    assert!(qmp.reply("system_wakeup", json!({})).get("error").is_some());
    qmp.reply("set-action", json!({"reboot": "reset"}));
    qmp.execute("system_reset");
    qmp.execute("cont");
    // It boots, and does not resume.
    vm.hear("Memory is as");
    vm.hear("guest> ");
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
}

/// A debugger's stop is `debug`; the monitor may let it go on, or reset it.
#[test]
fn a_guest_that_a_debugger_has_stopped_goes_on_and_is_reset() {
    needs_kvm!();
    let directory = Directory::new();
    let mut vm = Vm::menu(&["--gdb", &directory.option("unix", "gdb")]);
    let mut qmp = vm.qmp();
    vm.keys("b");
    for step in 0..2 {
        let mut debugger = wait_for("debugger's socket", || {
            UnixStream::connect(directory.path("gdb")).ok()
        });
        debugger.set_read_timeout(Some(DEADLINE)).unwrap();
        gdb::ask(&mut debugger, "?", gdb::STOPPED);
        assert_eq!(qmp.status(), "paused");
        gdb::ask(&mut debugger, "s", gdb::STOPPED);
        wait_for("stop", || (qmp.status() == "debug").then_some(()));
        if step == 0 {
            qmp.execute("cont");
            assert_eq!(qmp.status(), "running");
        } else {
            qmp.execute("system_reset");
            assert_eq!(qmp.status(), "prelaunch");
        }
    }
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
}
