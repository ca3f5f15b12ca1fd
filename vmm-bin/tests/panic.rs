//! What a guest that panics comes to: each panic action under each shutdown action, with the events
//! in their order, the state and the exit code; and what else it can say through pvpanic.

mod common;

use common::{Directory, Vm, needs_kvm};
use serde_json::{Value, json};

/// What becomes of the VM.
enum Left {
    /// The program ends, with these exit codes: QEMU's, and that of the cause.
    Ends(i32, i32),
    /// It is in this state. `cont` lets it go on, unless it needs a reset.
    Is(&'static str),
    /// It is in this state, and takes a reset to go on.
    Needs(&'static str),
}

const PANICKED: &str = "GUEST_PANICKED";

fn shutdown(reason: &str) -> (&'static str, Value) {
    ("SHUTDOWN", json!({"guest": true, "reason": reason}))
}

/// Presses the key under these actions and holds what happens against what should.
fn check(key: &str, actions: &str, events: &[(&str, Value)], left: &Left) {
    for codes in ["qemu", "cause"] {
        let mut vm = Vm::menu(&["--action", actions, "--exit-codes", codes]);
        let mut qmp = vm.qmp();
        vm.keys(key);
        for (name, data) in events {
            let expected = ((*name).to_owned(), data.clone());
            assert_eq!(qmp.next_event(), expected, "{actions}");
        }
        match left {
            Left::Ends(qemu, cause) => {
                assert_eq!(qmp.last_events(), Vec::<String>::new(), "{actions}");
                let code = if codes == "qemu" { qemu } else { cause };
                assert_eq!(vm.wait().code, Some(*code), "{actions}, {codes}");
                continue;
            }
            Left::Is(state) => {
                assert_eq!(qmp.status(), *state, "{actions}");
                if *state != "running" {
                    qmp.execute("cont");
                    assert_eq!(qmp.next_event(), ("RESUME".to_owned(), Value::Null));
                }
                vm.hear("The guest goes on.");
            }
            Left::Needs(state) => {
                assert_eq!(qmp.status(), *state, "{actions}");
                let refused = qmp.reply("cont", json!({}));
                let text = json!("Resetting the Virtual Machine is required");
                assert_eq!(refused.pointer("/error/desc"), Some(&text), "{actions}");
                qmp.execute("system_reset");
                assert_eq!(qmp.status(), "prelaunch");
                qmp.event("RESET");
                qmp.execute("cont");
                qmp.event("RESUME");
                vm.hear("Memory is as at power-on.");
            }
        }
        assert_eq!(qmp.events_so_far(), Vec::<String>::new(), "{actions}");
        qmp.execute("quit");
        let code = if codes == "qemu" { 0 } else { 82 };
        assert_eq!(vm.wait().code, Some(code), "{actions}, {codes}");
    }
}

#[test]
fn each_panic_action_under_each_shutdown_action() {
    needs_kvm!();
    let panicked = |action: &str| (PANICKED, json!({"action": action}));
    let stop = ("STOP", Value::Null);
    let ends = |qemu, cause| Left::Ends(qemu, cause);
    let table = [
        (
            "pause",
            "poweroff",
            vec![panicked("pause"), stop.clone()],
            Left::Is("guest-panicked"),
        ),
        (
            "pause",
            "pause",
            vec![panicked("pause"), stop.clone()],
            Left::Is("guest-panicked"),
        ),
        (
            "shutdown",
            "poweroff",
            vec![panicked("poweroff"), shutdown("guest-panic")],
            ends(0, 88),
        ),
        (
            "shutdown",
            "pause",
            vec![panicked("pause"), stop.clone()],
            Left::Is("guest-panicked"),
        ),
        (
            "exit-failure",
            "poweroff",
            vec![panicked("poweroff"), shutdown("guest-panic")],
            ends(1, 1),
        ),
        (
            "exit-failure",
            "pause",
            vec![panicked("poweroff"), shutdown("guest-panic"), stop],
            Left::Needs("shutdown"),
        ),
        (
            "none",
            "poweroff",
            vec![panicked("run")],
            Left::Is("running"),
        ),
        ("none", "pause", vec![panicked("run")], Left::Is("running")),
    ];
    for (panic, shutdown, events, left) in table {
        check(
            "p",
            &format!("panic={panic},shutdown={shutdown}"),
            &events,
            &left,
        );
    }
}

/// A crash kernel takes over: it is left to it, whatever the actions are.
#[test]
fn a_crash_kernel_runs_under_every_action() {
    needs_kvm!();
    let events = [("GUEST_CRASHLOADED", json!({"action": "run"}))];
    for panic in ["pause", "exit-failure"] {
        let actions = format!("panic={panic},shutdown=pause");
        check("l", &actions, &events, &Left::Is("running"));
    }
}

/// The guest's side of it is tested where KVM has these registers. Where it has not, they are refused.
#[test]
fn hyper_vs_crash_registers_are_offered_or_refused() {
    needs_kvm!();
    let directory = Directory::new();
    std::fs::write(directory.path("resets"), common::RESETTING_FIRMWARE).unwrap();
    let path = directory.path("resets");
    let guest = [
        "--firmware",
        path.to_str().unwrap(),
        "--no-reboot",
        "--serial",
        "none",
    ];
    assert_eq!(common::output(&guest).status.code(), Some(0));
    let output = common::output(&[&guest[..], &["--cpu", "hv-crash=on"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(0) {
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("--cpu hv-crash=on") && said.contains("KVM_CAP_HYPERV"),
            "{said}"
        );
    }
}

#[test]
fn a_shutdown_through_pvpanic_is_a_shutdown() {
    needs_kvm!();
    let asked = ("GUEST_PVSHUTDOWN", Value::Null);
    let mut events = vec![asked, shutdown("guest-shutdown")];
    check("o", "shutdown=poweroff", &events, &Left::Ends(0, 0));
    events.push(("STOP", Value::Null));
    check("o", "shutdown=pause", &events, &Left::Needs("shutdown"));
}
