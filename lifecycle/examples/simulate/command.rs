//! The commands of a scenario, and how they are written.

use lifecycle::{
    PanicAction, RebootAction, ShutdownAction, ShutdownCause, WakeupReason, WatchdogAction,
};
use runstate::RunState;

/// A list that notifiers are registered on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Exit,
    Suspend,
    Wakeup,
    Powerdown,
    Shutdown,
}

impl List {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Suspend => "suspend",
            Self::Wakeup => "wakeup",
            Self::Powerdown => "powerdown",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Where a command can be injected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Pause,
    Resume,
    Reset,
    Handler(String),
    Notifier(String),
}

/// One line of a scenario.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Set(RunState),
    Start,
    Cont,
    Stop(RunState),
    StopFromVcpu(RunState),
    StopForce(RunState),
    StopForExit,
    Shutdown(ShutdownCause),
    Reset(ShutdownCause),
    Powerdown,
    Suspend,
    Wakeup(WakeupReason),
    Debug,
    VmStop(RunState),
    Killed { signal: u32, pid: u32 },
    GuestPanicked,
    GuestCrashloaded,
    GuestPvshutdown,
    WatchdogExpired,
    RebootAction(RebootAction),
    ShutdownAction(ShutdownAction),
    PanicAction(PanicAction),
    WatchdogAction(WatchdogAction),
    WakeupEnable(WakeupReason, bool),
    WakeupSupport,
    HandlerAdd(String, i32),
    HandlerDel(String),
    NotifierAdd(List, String),
    NotifierDel(List, String),
    CpusResettable(bool),
    ReplayGate { open: bool },
    ResetHook(bool),
    WakeupHook(bool),
    Inject(Place, Box<Command>),
    Dispatch,
    New,
    Query,
    RunExitNotifiers,
    Init,
    Cleanup,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadLine {
    Command,
    Argument,
}

impl BadLine {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Command => "bad-command",
            Self::Argument => "bad-argument",
        }
    }
}

/// Reads a line. `None`: there is nothing on it.
pub(crate) fn parse(line: &str) -> Result<Option<Command>, BadLine> {
    let words: Vec<&str> = line
        .split_whitespace()
        .take_while(|word| !word.starts_with('#'))
        .collect();
    if words.is_empty() {
        return Ok(None);
    }
    parse_words(&words).map(Some)
}

fn parse_words(words: &[&str]) -> Result<Command, BadLine> {
    let (name, arguments) = words.split_first().ok_or(BadLine::Command)?;
    Ok(match (*name, arguments) {
        ("set", [state]) => Command::Set(word(state)?),
        ("start", []) => Command::Start,
        ("cont", []) => Command::Cont,
        ("stop", [state]) => Command::Stop(word(state)?),
        ("stop-from-vcpu", [state]) => Command::StopFromVcpu(word(state)?),
        ("stop-force", [state]) => Command::StopForce(word(state)?),
        ("stop-for-exit", []) => Command::StopForExit,
        ("request", arguments) => request(arguments)?,
        ("killed", [signal, pid]) => Command::Killed {
            signal: word(signal)?,
            pid: word(pid)?,
        },
        ("guest-panicked", []) => Command::GuestPanicked,
        ("guest-crashloaded", []) => Command::GuestCrashloaded,
        ("action", ["reboot", action]) => Command::RebootAction(word(action)?),
        ("action", ["shutdown", action]) => Command::ShutdownAction(word(action)?),
        ("action", ["panic", action]) => Command::PanicAction(word(action)?),
        ("action", ["watchdog", action]) => Command::WatchdogAction(word(action)?),
        ("wakeup-enable", [reason, enabled]) => {
            Command::WakeupEnable(word(reason)?, switch(enabled, "on", "off")?)
        }
        ("wakeup-support", []) => Command::WakeupSupport,
        ("handler", ["add", id, priority]) => Command::HandlerAdd((*id).into(), word(priority)?),
        ("handler", ["del", id]) => Command::HandlerDel((*id).into()),
        ("notifier", ["add", of, id]) => Command::NotifierAdd(list(of)?, (*id).into()),
        ("notifier", ["del", of, id]) => Command::NotifierDel(list(of)?, (*id).into()),
        ("cpus-resettable", [resettable]) => {
            Command::CpusResettable(switch(resettable, "on", "off")?)
        }
        ("replay-gate", [gate]) => Command::ReplayGate {
            open: switch(gate, "open", "closed")?,
        },
        ("machine", ["reset-hook", hook]) => Command::ResetHook(switch(hook, "on", "off")?),
        ("machine", ["wakeup-hook", hook]) => Command::WakeupHook(switch(hook, "on", "off")?),
        ("inject", [at, command @ ..]) => {
            if command.is_empty() {
                return Err(BadLine::Argument);
            }
            Command::Inject(place(at)?, Box::new(parse_words(command)?))
        }
        ("dispatch", []) => Command::Dispatch,
        ("new", []) => Command::New,
        ("query", []) => Command::Query,
        ("run-exit-notifiers", []) => Command::RunExitNotifiers,
        ("init", []) => Command::Init,
        ("cleanup", []) => Command::Cleanup,
        (name, _) if NAMES.contains(&name) => return Err(BadLine::Argument),
        _ => return Err(BadLine::Command),
    })
}

const NAMES: &[&str] = &[
    "set",
    "start",
    "cont",
    "stop",
    "stop-from-vcpu",
    "stop-force",
    "stop-for-exit",
    "killed",
    "guest-panicked",
    "guest-crashloaded",
    "action",
    "wakeup-enable",
    "wakeup-support",
    "handler",
    "notifier",
    "cpus-resettable",
    "replay-gate",
    "machine",
    "inject",
    "dispatch",
    "new",
    "query",
    "run-exit-notifiers",
    "init",
    "cleanup",
];

fn request(arguments: &[&str]) -> Result<Command, BadLine> {
    Ok(match arguments {
        ["shutdown", cause] => Command::Shutdown(word(cause)?),
        ["reset", cause] => Command::Reset(word(cause)?),
        ["powerdown"] => Command::Powerdown,
        ["suspend"] => Command::Suspend,
        ["wakeup", reason] => Command::Wakeup(word(reason)?),
        ["debug"] => Command::Debug,
        ["guest-pvshutdown"] => Command::GuestPvshutdown,
        ["watchdog"] => Command::WatchdogExpired,
        ["vmstop", state] => Command::VmStop(word(state)?),
        _ => return Err(BadLine::Argument),
    })
}

fn word<T: std::str::FromStr>(text: &str) -> Result<T, BadLine> {
    text.parse().map_err(|_| BadLine::Argument)
}

fn switch(text: &str, yes: &str, no: &str) -> Result<bool, BadLine> {
    match text {
        _ if text == yes => Ok(true),
        _ if text == no => Ok(false),
        _ => Err(BadLine::Argument),
    }
}

fn list(text: &str) -> Result<List, BadLine> {
    Ok(match text {
        "exit" => List::Exit,
        "suspend" => List::Suspend,
        "wakeup" => List::Wakeup,
        "powerdown" => List::Powerdown,
        "shutdown" => List::Shutdown,
        _ => return Err(BadLine::Argument),
    })
}

fn place(text: &str) -> Result<Place, BadLine> {
    Ok(match text {
        "pause" => Place::Pause,
        "resume" => Place::Resume,
        "reset" => Place::Reset,
        _ => match text.split_once('-') {
            Some(("handler", id)) if !id.is_empty() => Place::Handler(id.into()),
            Some(("notifier", id)) if !id.is_empty() => Place::Notifier(id.into()),
            _ => return Err(BadLine::Argument),
        },
    })
}
