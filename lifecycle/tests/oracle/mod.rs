//! Scenarios out of bytes, and what must hold of each: shared by the random tests and the fuzzer.

use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Compat;

use self::qapi::{CAUSES, STATES, WATCHDOG_ACTIONS};
use crate::command::parse;
use crate::reference::Reference;
use crate::world::{Left, Screen, World};

#[path = "../qapi/mod.rs"]
mod qapi;

/// Those that a running machine can stop in: scenarios that are made of these live longer.
const STOPS: &[&str] = &[
    "paused",
    "io-error",
    "watchdog",
    "guest-panicked",
    "debug",
    "internal-error",
];
const REASONS: &[&str] = &["none", "rtc", "pmtimer", "other"];
const LISTS: &[&str] = &["exit", "suspend", "wakeup", "powerdown", "shutdown"];
const IDS: &[&str] = &["1", "2", "3", "4"];
const PRIORITIES: &[&str] = &["-2", "-1", "0", "1", "2"];
const SWITCH: &[&str] = &["on", "off"];
const PLACES: &[&str] = &[
    "pause",
    "resume",
    "reset",
    "handler-1",
    "handler-2",
    "handler-3",
    "handler-4",
    "notifier-1",
    "notifier-2",
    "notifier-3",
    "notifier-4",
];

/// The commands: a name, and lists that its arguments come from. What stands twice is twice as
/// likely.
const COMMANDS: &[(&str, &[&[&str]])] = &[
    ("dispatch", &[]),
    ("dispatch", &[]),
    ("dispatch", &[]),
    ("dispatch", &[]),
    ("start", &[]),
    ("start", &[]),
    ("start", &[]),
    ("cont", &[]),
    ("cont", &[]),
    ("stop", &[STOPS]),
    ("stop", &[STOPS]),
    ("stop", &[STATES]),
    ("set", &[STATES]),
    ("stop-force", &[STATES]),
    ("stop-from-vcpu", &[STOPS]),
    ("stop-for-exit", &[]),
    ("request shutdown", &[CAUSES]),
    ("request reset", &[CAUSES]),
    ("request reset", &[CAUSES]),
    ("request suspend", &[]),
    ("request suspend", &[]),
    ("request wakeup", &[REASONS]),
    ("request wakeup", &[REASONS]),
    ("request powerdown", &[]),
    ("request debug", &[]),
    ("request vmstop", &[STOPS]),
    ("request vmstop", &[STATES]),
    ("request guest-pvshutdown", &[]),
    ("request watchdog", &[]),
    ("request watchdog", &[]),
    ("killed", &[&["0", "2", "15"], &["0", "77"]]),
    ("guest-panicked", &[]),
    ("guest-crashloaded", &[]),
    ("action reboot", &[&["reset", "shutdown"]]),
    ("action shutdown", &[&["pause", "pause", "poweroff"]]),
    (
        "action panic",
        &[&["none", "pause", "shutdown", "exit-failure"]],
    ),
    ("action watchdog", &[WATCHDOG_ACTIONS]),
    ("wakeup-enable", &[REASONS, SWITCH]),
    ("wakeup-support", &[]),
    ("handler add", &[IDS, PRIORITIES]),
    ("handler add", &[IDS, PRIORITIES]),
    ("handler del", &[IDS]),
    ("notifier add", &[LISTS, IDS]),
    ("notifier add", &[LISTS, IDS]),
    ("notifier del", &[LISTS, IDS]),
    ("cpus-resettable", &[SWITCH]),
    ("replay-gate", &[&["open", "open", "closed"]]),
    ("machine reset-hook", &[SWITCH]),
    ("machine wakeup-hook", &[SWITCH]),
    ("run-exit-notifiers", &[]),
    ("query", &[]),
];

/// As many lines are made of one input at most.
const LONGEST: usize = 200;

/// A scenario: each byte chooses a word. It begins with `start` and ends with `query`.
pub(crate) fn scenario(bytes: &[u8]) -> Vec<String> {
    let mut bytes = bytes.iter().copied();
    let mut lines = vec!["start".to_owned()];
    while lines.len() < LONGEST
        && let Some(byte) = bytes.next()
    {
        let mut line = String::new();
        // Two of eight lines are injected; of these some inject again.
        for _ in 0..(byte >> 5).saturating_sub(5) {
            let place = choose(PLACES, bytes.next());
            line.push_str(&format!("inject {place} "));
        }
        let Some((name, arguments)) = pick(COMMANDS, bytes.next()) else {
            continue;
        };
        line.push_str(name);
        for of in *arguments {
            line.push(' ');
            line.push_str(choose(of, bytes.next()));
        }
        lines.push(line);
    }
    lines.push("query".to_owned());
    lines
}

fn pick<T>(of: &[T], byte: Option<u8>) -> Option<&T> {
    let at = usize::from(byte.unwrap_or(0)).checked_rem(of.len())?;
    of.get(at)
}

fn choose(of: &'static [&'static str], byte: Option<u8>) -> &'static str {
    pick(of, byte).copied().unwrap_or_default()
}

/// Both sides of the table of differences: the old one is the reference's, the new one keeps its
/// promises. The error says what is wrong.
pub(crate) fn check(scenario: &[String]) -> Result<(), String> {
    let (printed, left) = simulate(Compat::Qemu7_2, scenario)?;
    let mut reference = Reference::default();
    let aborted = scenario.iter().any(|line| reference.play(line).is_err());
    if printed != reference.lines {
        let differs = printed
            .iter()
            .zip(&reference.lines)
            .position(|(a, b)| a != b);
        return Err(format!(
            "line {differs:?}: {printed:#?}, not {:#?}",
            reference.lines
        ));
    }
    if aborted != (left == Left::Aborted) {
        return Err(format!("the machine is left {left:?}"));
    }
    // The last stop before a process ends is silent.
    let mut scenario = scenario.to_vec();
    scenario.retain(|line| !line.contains("stop-for-exit"));
    let (printed, left) = simulate(Compat::Current, &scenario)?;
    if left != Left::Alive {
        return Err(format!("current is left {left:?}"));
    }
    promises(&printed).map_err(|broken| format!("{broken}: {printed:#?}"))
}

/// What the crate prints, and how the machine is left.
fn simulate(compat: Compat, scenario: &[String]) -> Result<(Vec<String>, Left), String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let world = World::new(compat, Screen::new(lines.clone()));
    for line in scenario {
        if world.left() == Left::Alive {
            match parse(line) {
                Ok(Some(command)) => world.run(&command),
                Ok(None) => {}
                Err(bad) => return Err(format!("{}: {line}", bad.as_str())),
            }
        }
    }
    let printed = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let printed = String::from_utf8_lossy(&printed);
    Ok((printed.lines().map(str::to_owned).collect(), world.left()))
}

/// What `current` promises of every scenario.
fn promises(printed: &[String]) -> Result<(), &'static str> {
    let mut running = false;
    let mut told = "";
    for line in printed {
        if let Some(change) = line.strip_prefix("state ") {
            running = change.ends_with("-> running");
            // A sleeping machine that is reset is fresh, as in QEMU: no STOP tells of it.
            if change == "suspended -> prelaunch" {
                told = "";
            }
        }
        match line.as_str() {
            "abort" => return Err("it aborts"),
            "event WAKEUP" if !running => return Err("WAKEUP of a machine that does not run"),
            "event STOP" | "event RESUME" if told == line => {
                return Err("STOP and RESUME do not alternate");
            }
            "event STOP" | "event RESUME" => told = line,
            _ => {}
        }
    }
    Ok(())
}
