//! Random scenarios, with callbacks that post, start, stop, dispatch, add and remove: the executor
//! against an independent reference, line by line; and `current` against its promises.

mod reference;

#[path = "../examples/simulate/command.rs"]
mod command;
#[path = "../examples/simulate/world.rs"]
mod world;

use std::sync::{Arc, Mutex};

use lifecycle::Compat;
use proptest::prelude::*;

use crate::reference::Reference;
use crate::world::{Left, Screen, World};

const STATES: &[&str] = &[
    "debug",
    "inmigrate",
    "internal-error",
    "io-error",
    "paused",
    "postmigrate",
    "prelaunch",
    "finish-migrate",
    "restore-vm",
    "running",
    "save-vm",
    "shutdown",
    "suspended",
    "watchdog",
    "guest-panicked",
    "colo",
];
/// Those that a running machine can stop in: scenarios made of these live longer.
const STOPS: &[&str] = &[
    "paused",
    "io-error",
    "watchdog",
    "guest-panicked",
    "debug",
    "internal-error",
];
const CAUSES: &[&str] = &[
    "none",
    "host-error",
    "host-qmp-quit",
    "host-qmp-system-reset",
    "host-signal",
    "host-ui",
    "guest-shutdown",
    "guest-reset",
    "guest-panic",
    "subsystem-reset",
    "snapshot-load",
];
const REASONS: &[&str] = &["none", "rtc", "pmtimer", "other"];
const LISTS: &[&str] = &["exit", "suspend", "wakeup", "powerdown", "shutdown"];
const IDS: &[&str] = &["1", "2", "3", "4"];
const SWITCH: &[&str] = &["on", "off"];

fn one(of: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(of).prop_map(str::to_owned)
}

fn with(name: &'static str, of: &'static [&'static str]) -> BoxedStrategy<String> {
    one(of)
        .prop_map(move |word| format!("{name} {word}"))
        .boxed()
}

fn plain() -> BoxedStrategy<String> {
    prop_oneof![
        6 => Just("start".to_owned()),
        3 => Just("cont".to_owned()),
        8 => Just("dispatch".to_owned()),
        1 => Just("query".to_owned()),
        4 => with("stop", STOPS),
        1 => with("stop", STATES),
        1 => with("set", STATES),
        1 => with("stop-force", STATES),
        2 => with("stop-from-vcpu", STOPS),
        1 => Just("stop-for-exit".to_owned()),
        2 => with("request shutdown", CAUSES),
        4 => with("request reset", CAUSES),
        4 => Just("request suspend".to_owned()),
        4 => with("request wakeup", REASONS),
        1 => Just("request powerdown".to_owned()),
        2 => Just("request debug".to_owned()),
        2 => with("request vmstop", STOPS),
        1 => with("request vmstop", STATES),
        1 => Just("killed 15 0".to_owned()),
        1 => Just("killed 2 77".to_owned()),
        2 => Just("guest-panicked".to_owned()),
        1 => Just("guest-crashloaded".to_owned()),
        1 => with("action reboot", &["reset", "shutdown"]),
        3 => with("action shutdown", &["poweroff", "pause"]),
        2 => with("action panic", &["none", "pause", "shutdown", "exit-failure"]),
        1 => (one(REASONS), one(SWITCH)).prop_map(|(r, s)| format!("wakeup-enable {r} {s}")),
        3 => (one(IDS), -2..3).prop_map(|(id, p)| format!("handler add {id} {p}")),
        2 => with("handler del", IDS),
        3 => (one(LISTS), one(IDS)).prop_map(|(list, id)| format!("notifier add {list} {id}")),
        2 => (one(LISTS), one(IDS)).prop_map(|(list, id)| format!("notifier del {list} {id}")),
        1 => with("cpus-resettable", SWITCH),
        1 => with("replay-gate", &["open", "closed"]),
        1 => with("machine reset-hook", SWITCH),
        1 => with("machine wakeup-hook", SWITCH),
        1 => Just("run-exit-notifiers".to_owned()),
    ]
    .boxed()
}

fn place() -> impl Strategy<Value = String> {
    prop_oneof![
        with("", &["pause", "resume", "reset"]),
        one(IDS).prop_map(|id| format!("handler-{id}")),
        one(IDS).prop_map(|id| format!("notifier-{id}")),
    ]
}

fn line() -> impl Strategy<Value = String> {
    let injected = (place(), plain()).prop_map(|(at, what)| format!("inject {at} {what}"));
    let twice = (place(), place(), plain())
        .prop_map(|(at, then, what)| format!("inject {at} inject {then} {what}"));
    prop_oneof![7 => plain(), 3 => injected, 1 => twice]
}

/// What the crate prints, and how the machine is left.
fn simulate(compat: Compat, scenario: &[String]) -> (Vec<String>, Left) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let world = World::new(compat, Screen::new(lines.clone()));
    for line in scenario {
        if world.left() == Left::Alive {
            let command =
                command::parse(line).unwrap_or_else(|bad| panic!("{}: {line}", bad.as_str()));
            world.run(&command.expect("a command"));
        }
    }
    let left = world.left();
    let printed = String::from_utf8(lines.lock().expect("not poisoned").clone());
    let printed = printed.expect("text").lines().map(str::to_owned).collect();
    (printed, left)
}

fn play(scenario: &[String]) -> (Vec<String>, Left) {
    let mut reference = Reference::default();
    let aborted = scenario.iter().any(|line| reference.play(line).is_err());
    let left = if aborted { Left::Aborted } else { Left::Alive };
    (reference.lines, left)
}

/// `current` promises these of every scenario.
fn keeps_its_promises(printed: &[String]) -> Result<(), TestCaseError> {
    let mut running = false;
    let mut told: Option<&str> = None;
    for line in printed {
        prop_assert!(!line.starts_with("abort"), "{printed:#?}");
        if let Some((_, to)) = line
            .strip_prefix("state ")
            .and_then(|change| change.split_once(" -> "))
        {
            running = to == "running";
            // A sleeping machine that is reset is fresh, as in QEMU: no STOP tells of it.
            if line == "state suspended -> prelaunch" {
                told = None;
            }
        }
        if let Some(event) = line.strip_prefix("event ") {
            // STOP and RESUME alternate.
            if event == "STOP" || event == "RESUME" {
                prop_assert_ne!(told, Some(event), "{:#?}", printed);
                told = Some(event);
            }
            // A machine that is told to have slept, or to have woken, has.
            if event == "WAKEUP" {
                prop_assert!(running, "{printed:#?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn qemu_7_2_prints_what_the_reference_prints(
        scenario in proptest::collection::vec(line(), 1..40)
    ) {
        let mut scenario = scenario;
        scenario.insert(0, "start".into());
        scenario.push("query".into());
        prop_assert_eq!(simulate(Compat::Qemu7_2, &scenario), play(&scenario));
    }

    #[test]
    fn current_never_aborts_and_keeps_its_promises(
        scenario in proptest::collection::vec(line(), 1..60)
    ) {
        // The last stop before the process ends is silent.
        let mut scenario = scenario;
        scenario.retain(|line| !line.contains("stop-for-exit"));
        let (printed, left) = simulate(Compat::Current, &scenario);
        prop_assert_eq!(left, Left::Alive);
        keeps_its_promises(&printed)?;
    }
}
