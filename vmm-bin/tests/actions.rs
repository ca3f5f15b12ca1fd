//! What the options make of what the guest and the monitor do.

mod common;

use common::{Vm, needs_kvm};
use serde_json::json;

#[test]
fn no_reboot_turns_a_reset_into_a_shutdown() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--no-reboot"]);
    let mut qmp = vm.qmp();
    vm.keys("r");
    assert_eq!(
        qmp.event("SHUTDOWN"),
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(vm.wait().code, Some(0));

    let vm = Vm::menu(&["-no-reboot", "--exit-codes", "cause"]);
    let mut qmp = vm.qmp();
    qmp.execute("system_reset");
    let data = json!({"guest": false, "reason": "host-qmp-system-reset"});
    assert_eq!(qmp.event("SHUTDOWN"), data);
    assert_eq!(vm.wait().code, Some(83));
}

#[test]
fn no_shutdown_keeps_the_vm_until_it_is_reset() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--no-shutdown"]);
    let mut qmp = vm.qmp();
    vm.keys("s");
    qmp.event("SHUTDOWN");
    qmp.event("STOP");
    assert_eq!(qmp.status(), "shutdown");
    let error = qmp.reply("cont", json!({}));
    assert_eq!(
        error["error"]["desc"],
        "Resetting the Virtual Machine is required"
    );
    qmp.execute("system_reset");
    assert_eq!(qmp.status(), "prelaunch");
    qmp.execute("cont");
    vm.hear("Memory is as at power-on.");
    vm.hear("guest> ");
    // Another exit code than that of the first, which was for a VM that is gone.
    vm.keys("e5");
    qmp.event("SHUTDOWN");
    qmp.event("STOP");
    qmp.execute("quit");
    let ended = vm.wait();
    assert_eq!(
        ended.code,
        Some(0),
        "quit ends it, whatever the guest's code was: {}",
        ended.log
    );
}

#[test]
fn a_vm_that_is_not_started_waits_for_cont() {
    needs_kvm!();
    let mut vm = Vm::start(&["-S", "--name", "a name", "--cpus", "2"]);
    let mut qmp = vm.qmp();
    assert_eq!(
        qmp.execute("query-status"),
        json!({"status": "prelaunch", "running": false})
    );
    assert_eq!(qmp.execute("query-name"), json!({"name": "a name"}));
    assert_eq!(qmp.execute("query-cpus-fast").as_array().unwrap().len(), 2);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(vm.heard(), 0, "the guest runs");
    qmp.execute("cont");
    qmp.event("RESUME");
    vm.hear("guest> ");
    assert_eq!(qmp.status(), "running");
    qmp.execute("quit");
    assert_eq!(
        qmp.event("SHUTDOWN"),
        json!({"guest": false, "reason": "host-qmp-quit"})
    );
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn set_action_works_at_run_time() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--no-shutdown"]);
    let mut qmp = vm.qmp();
    qmp.reply(
        "set-action",
        json!({"shutdown": "poweroff", "panic": "exit-failure"}),
    );
    vm.keys("p");
    assert_eq!(vm.wait().code, Some(1));
}

#[test]
fn exit_codes_can_tell_the_causes_apart() {
    needs_kvm!();
    let cause = &["--exit-codes", "cause"];
    for (keys, code) in [("s", 0), ("p", 88), ("e4", 9)] {
        let mut vm = Vm::menu(cause);
        vm.keys(keys);
        assert_eq!(vm.wait().code, Some(code), "{keys}");
    }
    let vm = Vm::menu(cause);
    vm.qmp().execute("quit");
    assert_eq!(vm.wait().code, Some(82));
    let vm = Vm::menu(cause);
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(84));
}

#[test]
fn an_nmi_does_no_harm() {
    needs_kvm!();
    let vm = Vm::start(&["-S"]);
    let mut qmp = vm.qmp();
    qmp.execute("inject-nmi");
    assert_eq!(qmp.status(), "prelaunch");
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
}
