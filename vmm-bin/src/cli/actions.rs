//! `--action`, `--no-reboot` and `--no-shutdown`, in the order in which they were given.

use std::str::FromStr;

use clap::ArgMatches;
use lifecycle::{ActionChange, Actions, Policy, RebootAction, ShutdownAction};

use super::error::UsageError;

/// What `--action` can be about.
const EVENTS: &str = "reboot, shutdown, panic or watchdog";

/// The actions that the command line asks for. Later options win, as in QEMU.
pub(super) fn actions(matches: &ArgMatches) -> Result<Actions, UsageError> {
    let mut changes = Vec::new();
    let texts = matches.get_many::<String>("action").unwrap_or_default();
    for (index, text) in matches.indices_of("action").unwrap_or_default().zip(texts) {
        for item in text.split(',') {
            changes.push((index, change(text, item)?));
        }
    }
    for (flag, change) in [
        (
            "no_reboot",
            ActionChange {
                reboot: Some(RebootAction::Shutdown),
                ..no_change()
            },
        ),
        (
            "no_shutdown",
            ActionChange {
                shutdown: Some(ShutdownAction::Pause),
                ..no_change()
            },
        ),
    ] {
        if matches.get_flag(flag) {
            let last = matches.indices_of(flag).into_iter().flatten().max();
            changes.push((last.unwrap_or_default(), change));
        }
    }
    changes.sort_by_key(|&(index, _)| index);
    let policy = Policy::default();
    for (_, change) in changes {
        policy.change(change);
    }
    Ok(policy.actions())
}

fn no_change() -> ActionChange {
    ActionChange::default()
}

/// Reads one `EVENT=ACTION`; `given` is the whole value of the option.
fn change(given: &str, item: &str) -> Result<ActionChange, UsageError> {
    let bad = |problem: String, remedy: &str| UsageError::value("--action", given, problem, remedy);
    let mut change = no_change();
    let Some((event, action)) = item.split_once('=') else {
        let remedy = "give EVENT=ACTION, such as reboot=VALUE with reset or shutdown";
        return Err(bad(format!("'{item}' lacks an action"), remedy));
    };
    match event {
        "reboot" => change.reboot = Some(parse(given, event, action)?),
        "shutdown" => change.shutdown = Some(parse(given, event, action)?),
        "panic" => change.panic = Some(parse(given, event, action)?),
        "watchdog" => change.watchdog = Some(parse(given, event, action)?),
        _ => {
            return Err(bad(
                format!("Invalid parameter '{event}'"),
                &format!("use {EVENTS}"),
            ));
        }
    }
    Ok(change)
}

fn parse<A: FromStr<Err = lifecycle::UnknownName>>(
    given: &str,
    event: &str,
    action: &str,
) -> Result<A, UsageError> {
    action.parse().map_err(|unknown: lifecycle::UnknownName| {
        let problem = format!("Parameter '{event}' does not accept value '{action}'");
        UsageError::value(
            "--action",
            given,
            problem,
            &format!("use {}", either(unknown.names())),
        )
    })
}

/// `a, b or c`.
fn either(names: &[&str]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
