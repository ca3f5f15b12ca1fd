//! Every entry of the embedded guest's menu: what the guest says, what the log says, what the
//! monitor's clients hear, and how the program ends.

mod common;

use common::{Vm, needs_kvm};
use serde_json::json;

/// Presses a key that resets the machine and checks everything about it.
fn resets(options: &[&str], key: &str, says: &str) {
    let mut vm = Vm::menu(options);
    let mut qmp = vm.qmp();
    for _ in 0..3 {
        vm.press(key, says);
        vm.hear("Memory is as at power-on.");
        vm.hear("guest> ");
        assert_eq!(
            qmp.event("RESET"),
            json!({"guest": true, "reason": "guest-reset"})
        );
        assert_eq!(qmp.status(), "running");
    }
    vm.keys("s");
    let log = vm.wait().log;
    let resets = log.matches("RESET: the machine is reset, cause: guest-reset");
    assert_eq!(resets.count(), 3, "{log}");
}

#[test]
fn reset_through_the_keyboard_controller() {
    needs_kvm!();
    resets(&[], "r", "reset: keyboard controller");
}

#[test]
fn reset_through_port_92() {
    needs_kvm!();
    resets(&[], "9", "reset: port 0x92");
}

#[test]
fn reset_through_port_cf9() {
    needs_kvm!();
    resets(&[], "c", "reset: port 0xcf9");
}

#[test]
fn reset_of_memory_that_others_can_map() {
    needs_kvm!();
    let options = ["--memory", "64M,shared=on"];
    resets(&options, "r", "reset: keyboard controller");
}

/// Real hardware reports a triple fault as a shutdown, which resets. A KVM that emulates may
/// report that it cannot emulate, which is an internal error. Both are what they should be.
#[test]
fn triple_fault() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("t", "triple fault");
    let status = common::wait_for("answer to the triple fault", || {
        let log = vm.log();
        if log.contains("RESET: the machine is reset, cause: guest-reset") {
            Some("running")
        } else {
            log.contains("STOP: the VM is stopped")
                .then_some("internal-error")
        }
    });
    assert_eq!(qmp.status(), status);
    if status == "internal-error" {
        let error = qmp.reply("cont", json!({}));
        let text = "Resetting the Virtual Machine is required";
        assert_eq!(error["error"]["desc"], text);
        qmp.execute("system_reset");
        assert_eq!(qmp.status(), "prelaunch");
        qmp.execute("cont");
    }
    vm.hear("Memory is as at power-on.");
    vm.hear("guest> ");
    vm.power_off();
}

#[test]
fn shutdown() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("s", "shutdown: S5");
    assert_eq!(
        qmp.event("SHUTDOWN"),
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(
        qmp.last_events(),
        Vec::<String>::new(),
        "nothing follows SHUTDOWN but the end"
    );
    let ended = vm.wait();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended
            .log
            .contains("SHUTDOWN: the machine is shut down, cause: guest-shutdown")
    );
    assert!(ended.log.contains("the VM has ended: guest-shutdown"));
}

#[test]
fn panic_ends_the_vm() {
    needs_kvm!();
    for (action, code) in [("shutdown", 0), ("exit-failure", 1)] {
        let mut vm = Vm::menu(&["--action", &format!("panic={action}")]);
        let mut qmp = vm.qmp();
        vm.keys("p");
        assert_eq!(qmp.event("GUEST_PANICKED"), json!({"action": "poweroff"}));
        assert_eq!(
            qmp.event("SHUTDOWN"),
            json!({"guest": true, "reason": "guest-panic"})
        );
        let ended = vm.wait();
        assert_eq!(ended.code, Some(code), "{action}");
        assert!(
            ended
                .log
                .contains("GUEST_PANICKED: the guest panicked, action: poweroff")
        );
    }
}

#[test]
fn panic_pauses_the_vm_and_cont_lets_it_go_on() {
    needs_kvm!();
    let (mut vm, mut qmp) = Vm::panicked();
    qmp.execute("cont");
    vm.hear("The guest goes on.");
    vm.power_off();
}

#[test]
fn panic_without_action_leaves_the_guest_alone() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--action", "panic=none"]);
    let mut qmp = vm.qmp();
    for _ in 0..3 {
        vm.press("p", "The guest goes on.");
        assert_eq!(qmp.event("GUEST_PANICKED"), json!({"action": "run"}));
    }
    vm.power_off();
}

#[test]
fn crash_kernel() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("l", "The guest goes on.");
    assert_eq!(qmp.event("GUEST_CRASHLOADED"), json!({"action": "run"}));
    assert_eq!(qmp.status(), "running");
    vm.logged("GUEST_CRASHLOADED: the guest runs its crash kernel");
    vm.power_off();
}

#[test]
fn exit_with_a_code() {
    needs_kvm!();
    for (digit, code) in [("0", 1), ("3", 7), ("9", 19)] {
        let mut vm = Vm::menu(&[]);
        vm.press("e", "gives the code 2n+1: ");
        vm.keys(digit);
        let ended = vm.wait();
        assert_eq!(ended.code, Some(code), "{}", ended.log);
        assert!(
            ended
                .log
                .contains(&format!("the guest's exit code is {code}"))
        );
    }
    let mut vm = Vm::menu(&[]);
    vm.press("ex", "That is no digit.");
    vm.power_off();
}

#[test]
fn power_button() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    // Not asked for: the event goes out, and the guest hears nothing of it.
    qmp.execute("system_powerdown");
    qmp.event("POWERDOWN");
    for _ in 0..2 {
        vm.press("w", "waiting for the power button");
        qmp.execute("system_powerdown");
        qmp.event("POWERDOWN");
        vm.hear("The power button was pressed.");
        vm.hear("guest> ");
    }
    vm.logged("POWERDOWN: the power button is pressed");
    vm.power_off();
}

#[test]
fn counting_stops_and_goes_on() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("n", "counting");
    vm.hear("\n3\r\n");
    for _ in 0..3 {
        qmp.execute("stop");
        assert_eq!(qmp.status(), "paused");
        let said = vm.silent();
        qmp.execute("cont");
        common::wait_for("number after cont", || (vm.heard() > said).then_some(()));
    }
    vm.press(" ", "guest> ");
    vm.power_off();
}

#[test]
fn a_busy_guest_is_stopped_reset_and_ended() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("b", "spinning");
    for _ in 0..10 {
        qmp.execute("stop");
        assert_eq!(qmp.status(), "paused");
        qmp.execute("cont");
        assert_eq!(qmp.status(), "running");
    }
    qmp.execute("system_reset");
    let data = json!({"guest": false, "reason": "host-qmp-system-reset"});
    assert_eq!(qmp.event("RESET"), data);
    vm.hear("guest> ");
    vm.press("b", "spinning");
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_halted_guest_wakes_up_on_a_key() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    vm.press("h", "halted");
    vm.press(" ", "A key woke the guest.");
    vm.power_off();
}

#[test]
fn a_guest_that_halts_for_good_is_stopped_reset_and_ended() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let mut qmp = vm.qmp();
    vm.press("d", "halted, interrupts off");
    // More keys than the UART holds: they wait outside, and nobody waits for them.
    vm.keys(&"z".repeat(200));
    qmp.execute("stop");
    qmp.execute("cont");
    qmp.execute("system_reset");
    vm.hear("guest> ");
    vm.press("s", "shutdown: S5");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn hammering_the_ports_harms_nobody() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    for _ in 0..5 {
        vm.press("x", "hammered");
        vm.hear("guest> ");
    }
    vm.power_off();
}

#[test]
fn an_unknown_key_is_answered() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    vm.press("z", "no such key");
    vm.press("?", "A key makes the guest");
    vm.power_off();
}
