//! The reference of one turn: a table of what QEMU's `main_loop_should_exit` does for each latch, in
//! its order, and an interpreter that knows nothing but the table and the legal transitions.

use self::qapi::{CAUSES, STATES, WATCHDOG_ACTIONS};

#[path = "../qapi/mod.rs"]
mod qapi;

/// What an observer sees. States, causes and reasons by their position in QAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    WatchdogEvent(usize),
    WatchdogReport,
    Nmi,
    State(usize),
    ClockStops,
    VcpusPause,
    HandlersStop(usize),
    StopEvent,
    StorageFlushes,
    SuspendNotifiers,
    SuspendEvent,
    ShutdownEvent(usize),
    ShutdownNotifiers(usize),
    VcpusSynchronize,
    Reset(usize),
    ResetEvent(usize),
    VcpusPostReset,
    VcpusResume,
    MachineWakes,
    WakeupNotifiers(usize),
    WakeupEvent,
    PowerdownEvent,
    PowerdownNotifiers,
}

/// The latches in the order in which a turn looks at them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Latch {
    Debug,
    Suspend,
    Shutdown,
    Reset,
    Wakeup,
    Powerdown,
    VmStop,
}

/// What a turn does about a latch. `Its`: with what the latch holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    See(Seen),
    Its(fn(usize) -> Seen),
    Enter(&'static str),
    StopIn(&'static str),
    StopInIts,
    /// Only for a cause that is not one of these.
    UnlessIts(&'static [&'static str], fn(usize) -> Seen),
    /// Enter the state, unless the machine is in one of those.
    EnterUnless(&'static [&'static str], &'static str),
    /// The process ends, unless the shutdown action is to pause.
    ExitUnlessPause,
}

const TURN: &[(Latch, &[Rule])] = &[
    (Latch::Debug, &[Rule::StopIn("debug")]),
    (
        Latch::Suspend,
        &[
            Rule::See(Seen::VcpusPause),
            Rule::See(Seen::SuspendNotifiers),
            Rule::Enter("suspended"),
            Rule::See(Seen::SuspendEvent),
        ],
    ),
    (
        Latch::Shutdown,
        &[
            Rule::Its(Seen::ShutdownEvent),
            Rule::Its(Seen::ShutdownNotifiers),
            Rule::ExitUnlessPause,
            Rule::StopIn("shutdown"),
        ],
    ),
    (
        Latch::Reset,
        &[
            Rule::See(Seen::VcpusPause),
            Rule::See(Seen::VcpusSynchronize),
            Rule::Its(Seen::Reset),
            Rule::UnlessIts(&["subsystem-reset", "snapshot-load"], Seen::ResetEvent),
            Rule::See(Seen::VcpusPostReset),
            Rule::See(Seen::VcpusResume),
            Rule::EnterUnless(&["running", "inmigrate", "finish-migrate"], "prelaunch"),
        ],
    ),
    (
        Latch::Wakeup,
        &[
            Rule::See(Seen::VcpusPause),
            Rule::See(Seen::MachineWakes),
            Rule::Its(Seen::WakeupNotifiers),
            Rule::See(Seen::VcpusResume),
            Rule::See(Seen::WakeupEvent),
        ],
    ),
    (
        Latch::Powerdown,
        &[
            Rule::See(Seen::PowerdownEvent),
            Rule::See(Seen::PowerdownNotifiers),
        ],
    ),
    (Latch::VmStop, &[Rule::StopInIts]),
];

/// QEMU 7.2's legal transitions, by name.
const LEGAL: &[(&str, &[&str])] = &[
    (
        "debug",
        &["running", "finish-migrate", "prelaunch", "suspended"],
    ),
    (
        "inmigrate",
        &[
            "internal-error",
            "io-error",
            "paused",
            "running",
            "shutdown",
            "suspended",
            "watchdog",
            "guest-panicked",
            "finish-migrate",
            "prelaunch",
            "postmigrate",
            "colo",
        ],
    ),
    ("internal-error", &["paused", "finish-migrate", "prelaunch"]),
    ("io-error", &["running", "finish-migrate", "prelaunch"]),
    (
        "paused",
        &[
            "running",
            "finish-migrate",
            "postmigrate",
            "prelaunch",
            "colo",
        ],
    ),
    ("postmigrate", &["running", "finish-migrate", "prelaunch"]),
    ("prelaunch", &["running", "finish-migrate", "inmigrate"]),
    (
        "finish-migrate",
        &["running", "paused", "postmigrate", "prelaunch", "colo"],
    ),
    ("restore-vm", &["running", "prelaunch"]),
    (
        "running",
        &[
            "debug",
            "internal-error",
            "io-error",
            "paused",
            "finish-migrate",
            "restore-vm",
            "save-vm",
            "shutdown",
            "watchdog",
            "guest-panicked",
            "suspended",
            "colo",
        ],
    ),
    ("save-vm", &["running"]),
    (
        "shutdown",
        &["paused", "finish-migrate", "prelaunch", "colo"],
    ),
    (
        "suspended",
        &["running", "finish-migrate", "prelaunch", "colo"],
    ),
    (
        "watchdog",
        &["running", "finish-migrate", "prelaunch", "colo"],
    ),
    (
        "guest-panicked",
        &["running", "finish-migrate", "prelaunch"],
    ),
    ("colo", &["running", "prelaunch", "shutdown"]),
];

pub(crate) fn state(name: &str) -> usize {
    STATES.iter().position(|of| *of == name).expect("a state")
}

pub(crate) fn cause(name: &str) -> usize {
    CAUSES.iter().position(|of| *of == name).expect("a cause")
}

/// The table with its names looked up: the interpreter runs 17 million times.
pub(crate) struct Reference {
    legal: [[bool; 16]; 16],
    running: usize,
    guest_panic: usize,
    guest_reset: usize,
    watchdog: usize,
    turn: Vec<(Latch, Vec<Resolved>)>,
}

pub(crate) enum Resolved {
    See(Seen),
    Its(fn(usize) -> Seen),
    Enter(usize),
    StopIn(usize),
    StopInIts,
    UnlessIts([bool; 11], fn(usize) -> Seen),
    EnterUnless([bool; 16], usize),
    ExitUnlessPause,
}

/// One input. Positions; a latch that is not set is 0, and `vmstop` 16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input {
    pub(crate) state: usize,
    /// The action of a watchdog that has expired; 7 is none.
    pub(crate) watchdog: usize,
    pub(crate) reboot_shuts_down: bool,
    pub(crate) debug: bool,
    pub(crate) suspend: bool,
    pub(crate) powerdown: bool,
    pub(crate) wakeup: usize,
    pub(crate) shutdown: usize,
    pub(crate) reset: usize,
    pub(crate) vmstop: usize,
    pub(crate) shutdown_pauses: bool,
    pub(crate) exit_failure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    GoesOn,
    Exits { failure: bool },
    Aborts { from: usize, to: usize },
}

impl Reference {
    pub(crate) fn new() -> Self {
        let mut legal = [[false; 16]; 16];
        for (from, to) in LEGAL {
            for to in *to {
                legal[state(from)][state(to)] = true;
            }
        }
        let resolve = |rule: &Rule| match *rule {
            Rule::See(seen) => Resolved::See(seen),
            Rule::Its(seen) => Resolved::Its(seen),
            Rule::Enter(name) => Resolved::Enter(state(name)),
            Rule::StopIn(name) => Resolved::StopIn(state(name)),
            Rule::StopInIts => Resolved::StopInIts,
            Rule::UnlessIts(names, seen) => {
                let mut silent = [false; 11];
                names.iter().for_each(|name| silent[cause(name)] = true);
                Resolved::UnlessIts(silent, seen)
            }
            Rule::EnterUnless(names, name) => {
                let mut keeps = [false; 16];
                names.iter().for_each(|name| keeps[state(name)] = true);
                Resolved::EnterUnless(keeps, state(name))
            }
            Rule::ExitUnlessPause => Resolved::ExitUnlessPause,
        };
        let turn = TURN.iter();
        Self {
            legal,
            running: state("running"),
            guest_panic: cause("guest-panic"),
            guest_reset: cause("guest-reset"),
            watchdog: state("watchdog"),
            turn: turn
                .map(|(latch, rules)| (*latch, rules.iter().map(resolve).collect()))
                .collect(),
        }
    }

    pub(crate) fn turn(&self, input: &Input, seen: &mut Vec<Seen>) -> (usize, Ending) {
        let mut now = input.state;
        let mut input = *input;
        let ending = if self.watchdog_ends_it(&mut input, seen) {
            Err(Ending::Exits { failure: false })
        } else {
            self.play(&input, &mut now, seen)
        };
        (now, ending.err().unwrap_or(Ending::GoesOn))
    }

    /// What QEMU does in the watchdog's timer: an event, and a latch for the turn. `true`: it has
    /// called exit().
    fn watchdog_ends_it(&self, input: &mut Input, seen: &mut Vec<Seen>) -> bool {
        let Some(action) = WATCHDOG_ACTIONS.get(input.watchdog) else {
            return false;
        };
        seen.push(Seen::WatchdogEvent(input.watchdog));
        match *action {
            "reset" if input.reboot_shuts_down => input.shutdown = self.guest_reset,
            "reset" => input.reset = self.guest_reset,
            "shutdown" => input.powerdown = true,
            "poweroff" => return true,
            "pause" => input.vmstop = self.watchdog,
            "debug" => seen.push(Seen::WatchdogReport),
            "inject-nmi" => seen.push(Seen::Nmi),
            _ => {}
        }
        false
    }

    pub(crate) fn play(
        &self,
        input: &Input,
        now: &mut usize,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Ending> {
        for (latch, rules) in &self.turn {
            let (set, held) = match latch {
                Latch::Debug => (input.debug, 0),
                Latch::Suspend => (input.suspend, 0),
                Latch::Shutdown => (input.shutdown != 0, input.shutdown),
                Latch::Reset => (input.reset != 0, input.reset),
                Latch::Wakeup => (input.wakeup != 0, input.wakeup),
                Latch::Powerdown => (input.powerdown, 0),
                Latch::VmStop => (input.vmstop != 16, input.vmstop),
            };
            if !set {
                continue;
            }
            for rule in rules {
                match rule {
                    Resolved::See(what) => seen.push(*what),
                    Resolved::Its(what) => seen.push(what(held)),
                    Resolved::Enter(to) => self.enter(now, *to, seen)?,
                    Resolved::StopIn(to) => self.stop(now, *to, seen)?,
                    Resolved::StopInIts => self.stop(now, held, seen)?,
                    Resolved::UnlessIts(silent, what) if !silent[held] => seen.push(what(held)),
                    Resolved::EnterUnless(keeps, to) if !keeps[*now] => {
                        self.enter(now, *to, seen)?;
                    }
                    Resolved::ExitUnlessPause if !input.shutdown_pauses => {
                        let failure = held == self.guest_panic && input.exit_failure;
                        return Err(Ending::Exits { failure });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn enter(
        &self,
        now: &mut usize,
        to: usize,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Ending> {
        if *now == to {
            return Ok(());
        }
        if !self.legal[*now][to] {
            return Err(Ending::Aborts { from: *now, to });
        }
        *now = to;
        seen.push(Seen::State(to));
        Ok(())
    }

    pub(crate) fn stop(
        &self,
        now: &mut usize,
        to: usize,
        seen: &mut Vec<Seen>,
    ) -> Result<(), Ending> {
        if *now == self.running {
            self.enter(now, to, seen)?;
            seen.push(Seen::ClockStops);
            seen.push(Seen::VcpusPause);
            seen.push(Seen::HandlersStop(to));
            seen.push(Seen::StopEvent);
        }
        seen.push(Seen::StorageFlushes);
        Ok(())
    }
}
