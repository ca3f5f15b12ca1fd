//! `--shutdown-timeout`: SIGTERM presses the power button, and ends what does not heed it.

mod common;

use common::{Vm, needs_kvm};
use serde_json::{Value, json};

/// Longer than any test: what ends before it was not ended by it.
const NEVER: &str = "1h";

fn start(timeout: &str, more: &[&str]) -> Vm {
    let args = ["--shutdown-timeout", timeout, "--exit-codes", "cause"];
    Vm::menu(&[&args, more].concat())
}

fn cause(guest: bool, reason: &str) -> Value {
    json!({"guest": guest, "reason": reason})
}

#[test]
fn a_guest_that_heeds_its_button_ends_the_vm_itself() {
    needs_kvm!();
    let mut vm = start(NEVER, &[]);
    let mut qmp = vm.qmp();
    vm.press("w", "waiting for the power button");
    vm.signal("TERM");
    qmp.event("POWERDOWN");
    vm.hear("The power button was pressed.");
    vm.hear("guest> ");
    // It takes its time, and nobody presses it any further.
    assert_eq!(qmp.status(), "running");
    vm.keys("s");
    assert_eq!(qmp.event("SHUTDOWN"), cause(true, "guest-shutdown"));
    let ended = vm.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
}

#[test]
fn a_guest_that_does_not_heed_it_is_ended_after_the_timeout() {
    needs_kvm!();
    let vm = start("300ms", &[]);
    let mut qmp = vm.qmp();
    vm.signal("TERM");
    qmp.event("POWERDOWN");
    assert_eq!(qmp.event("SHUTDOWN"), cause(false, "host-signal"));
    let ended = vm.wait();
    assert_eq!(ended.code, Some(84), "{}", ended.log);
    assert!(
        ended.log.contains("terminating on signal 15 from pid"),
        "{}",
        ended.log
    );
}

#[test]
fn a_second_signal_does_not_wait_for_the_guest() {
    needs_kvm!();
    for second in ["TERM", "INT", "HUP"] {
        let vm = start(NEVER, &[]);
        let mut qmp = vm.qmp();
        vm.signal("TERM");
        qmp.event("POWERDOWN");
        vm.signal(second);
        assert_eq!(
            qmp.event("SHUTDOWN"),
            cause(false, "host-signal"),
            "{second}"
        );
        assert_eq!(vm.wait().code, Some(84), "{second}");
    }
}

#[test]
fn other_signals_do_not_ask_the_guest() {
    needs_kvm!();
    for signal in ["INT", "HUP"] {
        let vm = start(NEVER, &[]);
        let qmp = vm.qmp();
        vm.signal(signal);
        assert_eq!(vm.wait().code, Some(84), "{signal}");
        assert_eq!(qmp.last_events(), ["SHUTDOWN"], "{signal}");
    }
}

/// It cannot heed anything.
#[test]
fn a_guest_that_does_not_run_is_not_waited_for() {
    needs_kvm!();
    let vm = start(NEVER, &[]);
    let mut qmp = vm.qmp();
    qmp.execute("stop");
    vm.signal("TERM");
    assert_eq!(qmp.event("SHUTDOWN"), cause(false, "host-signal"));
    assert_eq!(vm.wait().code, Some(84));

    let mut vm = start(NEVER, &[]);
    let mut qmp = vm.qmp();
    vm.keys("u");
    qmp.event("SUSPEND");
    vm.signal("TERM");
    assert_eq!(qmp.event("SHUTDOWN"), cause(false, "host-signal"));
    assert_eq!(vm.wait().code, Some(84));
}

/// The guest powers off, and `--no-shutdown` keeps the VM: the signal is not forgotten for that.
#[test]
fn a_vm_that_is_kept_when_its_guest_powers_off_ends_in_the_end() {
    needs_kvm!();
    let mut vm = start("2s", &["--no-shutdown"]);
    let mut qmp = vm.qmp();
    vm.press("w", "waiting for the power button");
    vm.signal("TERM");
    vm.hear("pressed.");
    vm.hear("guest> ");
    vm.keys("s");
    assert_eq!(qmp.event("SHUTDOWN"), cause(true, "guest-shutdown"));
    qmp.event("STOP");
    assert_eq!(qmp.event("SHUTDOWN"), cause(false, "host-signal"));
    assert_eq!(vm.wait().code, Some(84));
}
