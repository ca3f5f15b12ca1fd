//! Watchdogs that nobody pets: each action, with its events, its state and its exit code; and that
//! no time passes for a watchdog when none passes for the guest.

mod common;

use std::time::Duration;

use common::{Directory, Qmp, Vm, needs_kvm};
use serde_json::{Value, json};

/// A guest that has started its watchdog, which expires in two seconds of its time.
fn armed(args: &[&str]) -> (Vm, Qmp) {
    let mut vm = Vm::menu(args);
    let qmp = vm.qmp();
    vm.press("g", "watchdog: 2 seconds");
    (vm, qmp)
}

/// Longer than the watchdog has.
const TOO_LONG: Duration = Duration::from_millis(2500);

fn expired(action: &str) -> (String, Value) {
    ("WATCHDOG".to_owned(), json!({"action": action}))
}

fn event(name: &str, data: Value) -> (String, Value) {
    (name.to_owned(), data)
}

fn by_guest(name: &str, reason: &str) -> (String, Value) {
    event(name, json!({"guest": true, "reason": reason}))
}

/// All at the same time: each has two seconds to wait.
#[test]
fn each_action() {
    needs_kvm!();
    let action = |name: &str| armed(&["--action", &format!("watchdog={name}")]);
    let (mut reset, mut reset_qmp) = action("reset");
    let (mut shutdown, mut shutdown_qmp) = action("shutdown");
    shutdown.press("w", "waiting for the power button");
    let (poweroff, mut poweroff_qmp) = action("poweroff");
    let (mut pause, mut pause_qmp) = action("pause");
    let (debug, mut debug_qmp) = action("debug");
    let (none, mut none_qmp) = action("none");
    let (mut nmi, mut nmi_qmp) = action("inject-nmi");

    assert_eq!(reset_qmp.next_event(), expired("reset"));
    assert_eq!(
        reset_qmp.next_event(),
        by_guest("RESET", "guest-reset"),
        "the event comes first"
    );
    reset.hear("Memory is as at power-on.");
    assert_eq!(reset_qmp.status(), "running");

    assert_eq!(shutdown_qmp.next_event(), expired("shutdown"));
    assert_eq!(shutdown_qmp.next_event(), event("POWERDOWN", Value::Null));
    shutdown.hear("The power button was pressed.");

    assert_eq!(poweroff_qmp.next_event(), expired("poweroff"));
    assert_eq!(
        poweroff_qmp.next_event(),
        by_guest("SHUTDOWN", "guest-reset"),
        "which is then flushed, and orderly"
    );
    assert_eq!(poweroff_qmp.last_events(), Vec::<String>::new());
    let ended = poweroff.wait();
    assert_eq!((ended.code, ended.signal), (Some(0), None));
    assert!(ended.log.contains("the VM has ended: guest-reset"));

    assert_eq!(pause_qmp.next_event(), expired("pause"));
    assert_eq!(pause_qmp.next_event(), event("STOP", Value::Null));
    assert_eq!(pause_qmp.status(), "watchdog");
    pause_qmp.execute("cont");
    pause.press("z", "no such key");

    assert_eq!(debug_qmp.next_event(), expired("debug"));
    debug.logged("watchdog: timer fired");

    assert_eq!(none_qmp.next_event(), expired("none"));

    assert_eq!(nmi_qmp.next_event(), expired("inject-nmi"));
    nmi.hear("A non-maskable interrupt.");

    // A start expires once; those that go on have had nothing else happen to them.
    std::thread::sleep(TOO_LONG);
    for (vm, mut qmp) in [(debug, debug_qmp), (none, none_qmp), (nmi, nmi_qmp)] {
        assert_eq!(qmp.events_so_far(), Vec::<String>::new());
        vm.power_off();
    }
    for vm in [reset, shutdown, pause] {
        vm.power_off();
    }
}

/// What the action is counts when the watchdog expires, whoever changed it, and how.
#[test]
fn the_action_can_be_changed_while_it_counts() {
    needs_kvm!();
    // At once, for it has two seconds.
    let (mut first, mut first_qmp) = armed(&[]);
    let reply = first_qmp.reply("watchdog-set-action", json!({"action": "pause"}));
    assert_eq!(reply["return"], json!({}));
    let refused = first_qmp.reply("watchdog-set-action", json!({"action": "bite"}));
    assert_eq!(refused["error"]["class"], "GenericError");
    let (second, mut second_qmp) = armed(&["--no-shutdown", "--exit-codes", "cause"]);
    second_qmp.reply("set-action", json!({"watchdog": "poweroff"}));
    let (third, mut third_qmp) = armed(&["--no-reboot", "--exit-codes", "cause"]);

    assert_eq!(first_qmp.next_event(), expired("pause"));
    assert_eq!(first_qmp.next_event(), event("STOP", Value::Null));
    assert_eq!(first_qmp.status(), "watchdog");
    first_qmp.execute("system_reset");
    assert_eq!(first_qmp.status(), "prelaunch");
    first_qmp.execute("cont");
    first.hear("Memory is as at power-on.");
    first.power_off();

    // A watchdog powers off whatever the shutdown action is.
    assert_eq!(second_qmp.next_event(), expired("poweroff"));
    assert_eq!(second_qmp.next_event(), by_guest("SHUTDOWN", "guest-reset"));
    assert_eq!(second.wait().code, Some(87));

    // Its reset is a shutdown where any reset is one.
    assert_eq!(third_qmp.next_event(), expired("reset"));
    assert_eq!(third_qmp.next_event(), by_guest("SHUTDOWN", "guest-reset"));
    assert_eq!(third.wait().code, Some(87));
}

#[test]
fn no_time_passes_while_the_vm_is_stopped_or_asleep() {
    needs_kvm!();
    let (mut stopped, mut stopped_qmp) = armed(&[]);
    stopped_qmp.execute("stop");
    let (mut asleep, mut asleep_qmp) = armed(&[]);
    asleep.press("u", "suspend: S3");
    asleep_qmp.event("SUSPEND");
    let (none, mut none_qmp) = armed(&["--watchdog", "none"]);
    // The same without ib700 while another one is there.
    let (other, mut other_qmp) = armed(&["--watchdog", "wdat"]);
    std::thread::sleep(TOO_LONG);
    assert_eq!(stopped_qmp.events_so_far(), ["STOP"]);
    assert_eq!(asleep_qmp.events_so_far(), Vec::<String>::new());

    // The watchdog goes on where it stood; a wakeup is a reset to it.
    stopped_qmp.execute("cont");
    assert_eq!(stopped_qmp.next_event(), event("RESUME", Value::Null));
    asleep_qmp.execute("system_wakeup");
    asleep.hear("The guest is awake");
    assert_eq!(stopped_qmp.next_event(), expired("reset"));
    stopped.hear("Memory is as at power-on.");
    std::thread::sleep(TOO_LONG);
    assert_eq!(asleep_qmp.events_so_far(), ["WAKEUP"]);
    for (vm, qmp) in [(none, &mut none_qmp), (other, &mut other_qmp)] {
        assert_eq!(qmp.events_so_far(), Vec::<String>::new());
        vm.power_off();
    }
    stopped.power_off();
    asleep.power_off();
}

/// Firmware that lets the WDAT watchdog count down from two seconds, and halts for good.
fn wdat_guest() -> Vec<u8> {
    let code = [
        0xba, 0x64, 0x06, // mov $0x664, %dx: COUNT
        0xb8, 0x14, 0x00, // mov $20, %ax
        0xef, // out %ax, %dx
        0xba, 0x60, 0x06, // mov $0x660, %dx: RUN
        0xb0, 0x01, // mov $1, %al
        0xee, // out %al, %dx
        0xfa, 0xf4, 0xeb, 0xfd, // cli; 1: hlt; jmp 1b
    ];
    // The reset vector, 48 bytes on: a jump to the start.
    let mut image = code.to_vec();
    image.resize(48, 0xf4);
    image.extend([0xe9, 0xcd, 0xff]);
    image.resize(64, 0xf4);
    image
}

#[test]
fn the_watchdog_of_the_acpi_table_bites() {
    needs_kvm!();
    let directory = Directory::new();
    let image = directory.path("guest");
    std::fs::write(&image, wdat_guest()).unwrap();
    let image = image.to_str().unwrap();
    let args = [
        "--firmware",
        image,
        "--watchdog",
        "ib700",
        "--watchdog",
        "wdat",
    ];
    let vm = Vm::start(&args);
    let mut qmp = vm.qmp();
    for _ in 0..2 {
        // A guest that has halted for good is started again by it.
        assert_eq!(qmp.next_event(), expired("reset"));
        assert_eq!(qmp.next_event(), by_guest("RESET", "guest-reset"));
    }
    qmp.reply("watchdog-set-action", json!({"action": "poweroff"}));
    assert_eq!(qmp.next_event(), expired("poweroff"));
    assert_eq!(vm.wait().code, Some(0));
}
