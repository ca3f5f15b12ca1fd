//! The wide net: everything that a guest, a monitor's client and a signal can do to the machine, in
//! every state that it can be in, under every setting of the four actions; one thing, two and three
//! in a row. What comes of it (events with their data and order, state, error, exit status) is held
//! against a small model. No KVM is needed: a test client plays the guest.
//!
//! One at a time is played under every setting that can make a difference to it. Two at a time are
//! played once each, unless the first ends the machine, and some three at a time: the settings, and
//! the triples, are drawn from a fixed seed. `WIDE_NET=N` draws N times as many triples, and others.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod model;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::kill;
use common::qtest::Machine;
use model::{Actions, Event, Model, Outcome, PANIC, REBOOT, SHUTDOWN, Trigger, WATCHDOG};
use serde_json::json;

/// How a machine comes into each state, with actions that stop it.
const STATES: [(&str, &[Trigger]); 10] = [
    ("running", &[]),
    ("paused", &[Trigger::Stop]),
    ("prelaunch", &[Trigger::Stop, Trigger::SystemReset]),
    ("suspended", &[Trigger::S3]),
    ("paused", &[Trigger::S3, Trigger::Stop]),
    ("shutdown", &[Trigger::S5]),
    ("guest-panicked", &[Trigger::Panic]),
    ("watchdog", &[Trigger::Watchdog]),
    // It will sleep, and its watchdog will go off, as soon as it goes on.
    ("paused", &[Trigger::Stop, Trigger::S3]),
    ("paused", &[Trigger::Stop, Trigger::Watchdog]),
];

const STOPPING: Actions = Actions {
    reboot: "reset",
    shutdown: "pause",
    panic: "pause",
    watchdog: "pause",
};

/// How many triples are drawn.
const TRIPLES: usize = 1000;

/// Something to be played.
#[derive(Debug, Clone)]
struct Case {
    state: usize,
    actions: Actions,
    triggers: Vec<Trigger>,
}

impl Case {
    /// Whether the machine is still there for the last trigger.
    fn lasts(&self) -> bool {
        let mut model = Model::new(STOPPING);
        for trigger in STATES[self.state].1 {
            model.play(*trigger);
        }
        model.actions = self.actions;
        let (_, before) = self.triggers.split_last().expect("a trigger");
        before
            .iter()
            .all(|trigger| model.play(*trigger).exit.is_none())
    }

    /// The monitor sends this one no more than once a second: such an event is looked at only where
    /// it is the first of a machine.
    fn is_limited(&self) -> bool {
        let limited = ["debug", "none", "inject-nmi"].contains(&self.actions.watchdog);
        limited && (self.triggers.contains(&Trigger::Watchdog) || self.state == 9)
    }
}

/// Numbers that look random (xorshift), and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn actions(&mut self) -> Actions {
        Actions {
            reboot: self.of(&REBOOT),
            shutdown: self.of(&SHUTDOWN),
            panic: self.of(&PANIC),
            watchdog: self.of(&WATCHDOG),
        }
    }
}

/// Every setting of the actions that this trigger can make a difference with; the others are drawn.
fn settings(trigger: Trigger, state: usize, random: &mut Random) -> Vec<Actions> {
    let drawn = random.actions();
    let panics = [Trigger::Panic, Trigger::PanicAndCrashload].contains(&trigger);
    let expires = trigger == Trigger::Watchdog || (state == 9 && trigger == Trigger::Cont);
    let mut all = Vec::new();
    for reboot in REBOOT {
        for shutdown in SHUTDOWN {
            for panic in if panics {
                PANIC.to_vec()
            } else {
                vec![drawn.panic]
            } {
                for watchdog in if expires {
                    WATCHDOG.to_vec()
                } else {
                    vec![drawn.watchdog]
                } {
                    all.push(Actions {
                        reboot,
                        shutdown,
                        panic,
                        watchdog,
                    });
                }
            }
        }
    }
    all
}

fn cases() -> (Vec<Case>, String) {
    let more: usize = std::env::var("WIDE_NET").map_or(1, |text| text.parse().unwrap());
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::try_from(more).unwrap());
    let mut cases = Vec::new();
    for state in 0..STATES.len() {
        for trigger in Trigger::ALL {
            for actions in settings(trigger, state, &mut random) {
                let triggers = vec![trigger];
                cases.push(Case {
                    state,
                    actions,
                    triggers,
                });
            }
        }
    }
    let singles = cases.len();
    for state in 0..STATES.len() {
        for first in Trigger::ALL {
            for second in Trigger::ALL {
                let case = Case {
                    state,
                    actions: random.actions(),
                    triggers: vec![first, second],
                };
                if case.lasts() {
                    cases.push(case);
                }
            }
        }
    }
    let pairs = cases.len() - singles;
    let triples = TRIPLES * more;
    while cases.len() < singles + pairs + triples {
        let case = Case {
            state: random.below(STATES.len()),
            actions: random.actions(),
            triggers: (0..3).map(|_| random.of(&Trigger::ALL)).collect(),
        };
        if case.lasts() {
            cases.push(case);
        }
    }
    (
        cases,
        format!("{singles} alone, {pairs} pairs, {triples} triples"),
    )
}

/// Does it, and returns the monitor's error.
fn pull(machine: &mut Machine, trigger: Trigger) -> Option<String> {
    let Machine {
        guest, qmp, child, ..
    } = machine;
    let command = match trigger {
        Trigger::KeyboardReset => return out(guest, &["outb 0x64 0xfe"]),
        // An edge.
        Trigger::FastReset => return out(guest, &["outb 0x92 0", "outb 0x92 1"]),
        Trigger::ResetControl => return out(guest, &["outb 0xcf9 6"]),
        Trigger::S3 => return out(guest, &["outw 0x604 0x2400"]),
        Trigger::S4 => return out(guest, &["outw 0x604 0x2800"]),
        Trigger::S5 => return out(guest, &["outw 0x604 0x2000"]),
        Trigger::DebugExit => return out(guest, &["outb 0x501 5"]),
        Trigger::Panic => return out(guest, &["outb 0x505 1"]),
        Trigger::Crashload => return out(guest, &["outb 0x505 2"]),
        Trigger::PanicAndCrashload => return out(guest, &["outb 0x505 3"]),
        Trigger::PvShutdown => return out(guest, &["outb 0x505 4"]),
        Trigger::Watchdog => return out(guest, &["outb 0x443 14", "clock_step 2000000000"]),
        Trigger::Signal => {
            kill(child.id(), "TERM");
            return None;
        }
        Trigger::Stop => "stop",
        Trigger::Cont => "cont",
        Trigger::SystemReset => "system_reset",
        Trigger::Powerdown => "system_powerdown",
        Trigger::Wakeup => "system_wakeup",
        Trigger::Quit => "quit",
    };
    let reply = qmp.reply(command, json!({}));
    reply["error"]["desc"].as_str().map(str::to_owned)
}

fn out(guest: &mut common::qtest::Client, requests: &[&str]) -> Option<String> {
    for request in requests {
        match guest.ask_or_end(request) {
            Some(answer) => assert!(answer.starts_with("OK"), "{request}: {answer}"),
            None => break,
        }
    }
    None
}

/// Plays a case on a machine, which it leaves as new; `None` if it has ended.
fn play(machine: Option<Machine>, case: &Case) -> Option<Machine> {
    let fresh = machine.is_none();
    let mut machine = machine.unwrap_or_else(|| Machine::start(&[]));
    let mut model = Model::new(STOPPING);
    let set = |machine: &mut Machine, actions: Actions| {
        let Actions {
            reboot,
            shutdown,
            panic,
            watchdog,
        } = actions;
        let arguments =
            json!({"reboot": reboot, "shutdown": shutdown, "panic": panic, "watchdog": watchdog});
        let reply = machine.qmp.reply("set-action", arguments);
        assert!(reply.get("return").is_some(), "{reply}");
    };
    set(&mut machine, STOPPING);
    let (state, way) = STATES[case.state];
    for trigger in way {
        pull(&mut machine, *trigger);
        model.play(*trigger);
    }
    assert_eq!(
        (machine.qmp.status().as_str(), model.state),
        (state, state),
        "{case:?}"
    );
    machine.qmp.events_so_far();
    set(&mut machine, case.actions);
    model.actions = case.actions;

    let limited = case.is_limited() && !(fresh && case.triggers.len() == 1);
    let heeded = |events: Vec<Event>| -> Vec<Event> {
        let counts = |event: &Event| !limited || event.0 != "WATCHDOG";
        events.into_iter().filter(counts).collect()
    };
    for (step, trigger) in case.triggers.iter().enumerate() {
        let mut expected = model.play(*trigger);
        expected.events = heeded(expected.events);
        let error = pull(&mut machine, *trigger);
        if expected.exit.is_some() {
            let (events, code) = machine.ending();
            let found = (heeded(events), code);
            assert_eq!(
                found,
                (expected.events, expected.exit),
                "{case:?}, step {step}"
            );
            return None;
        }
        // By then all has been done that was asked for.
        machine.guest.tell("outb 0x80 0");
        let state = machine.qmp.status();
        let found = Outcome {
            events: heeded(machine.qmp.take_events()),
            error: expected
                .error
                .filter(|text| error.as_deref() == Some(*text)),
            exit: None,
        };
        assert_eq!(found, expected, "{case:?}, step {step}, error {error:?}");
        assert_eq!(error.as_deref(), expected.error, "{case:?}, step {step}");
        assert_eq!(state, model.state, "{case:?}, step {step}");
    }
    set(&mut machine, STOPPING);
    machine.qmp.execute("system_reset");
    machine.qmp.execute("cont");
    machine.guest.tell("outb 0x80 0");
    assert_eq!(machine.qmp.status(), "running", "{case:?}");
    machine.qmp.take_events();
    Some(machine)
}

#[test]
fn everything_in_every_state_under_every_action() {
    let (cases, counts) = cases();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let mut machine = None;
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if case.is_limited() && case.triggers.len() == 1 {
                        machine = None;
                    }
                    let given = machine.take();
                    let played = std::panic::AssertUnwindSafe(|| play(given, case));
                    match std::panic::catch_unwind(played) {
                        Ok(left) => machine = left,
                        Err(_) => failures.lock().unwrap().push(case.clone()),
                    }
                    if failures.lock().unwrap().len() > 20 {
                        break;
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} cases fail, such as {:?}",
        failures.len(),
        failures[0]
    );
    eprintln!("{counts}");
}
