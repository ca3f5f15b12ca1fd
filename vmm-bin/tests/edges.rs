//! Ways between the run states that no other test goes. All ways that all tests go are counted in
//! the end, by the bin `edges` of the integration tests.

mod common;

use common::{Vm, kvm};
use serde_json::json;

#[test]
fn a_panicked_guest_is_reset_and_boots() {
    if !kvm("a_panicked_guest_is_reset_and_boots") {
        return;
    }
    let mut vm = Vm::menu(&["--action", "panic=pause"]);
    let mut qmp = vm.qmp();
    vm.keys("p");
    assert_eq!(qmp.event("GUEST_PANICKED"), json!({"action": "pause"}));
    qmp.event("STOP");
    assert_eq!(qmp.status(), "guest-panicked");
    qmp.execute("system_reset");
    assert_eq!(qmp.status(), "prelaunch");
    qmp.execute("cont");
    vm.hear("guest> ");
    vm.keys("s");
    assert_eq!(vm.wait().code, Some(0));
}

/// A sleeping guest is as alive as a running one: a shutdown that pauses stops it.
#[test]
fn a_reset_that_is_a_shutdown_stops_a_sleeping_guest() {
    if !kvm("a_reset_that_is_a_shutdown_stops_a_sleeping_guest") {
        return;
    }
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
