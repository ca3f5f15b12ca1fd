//! One main-loop turn, held against an independent reference over every combination of state,
//! latches and actions.
//!
//! The reference shares no code with the crate: it is a table of what QEMU's
//! `main_loop_should_exit` does for each latch, in its order, and an interpreter that knows
//! nothing but the table and the list of legal transitions.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use lifecycle::{
    Actions, Compat, End, Latched, Listeners, Notice, PanicAction, Phase, RebootAction,
    ShutdownAction, ShutdownCause, ShutdownRequest, Situation, Step, WakeupReason, walk_turn,
};
use runstate::RunState;

/// What an observer sees. States, causes and reasons by their position in QAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
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
enum Latch {
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
enum Rule {
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

fn state(name: &str) -> usize {
    STATES.iter().position(|of| *of == name).expect("a state")
}

fn cause(name: &str) -> usize {
    CAUSES.iter().position(|of| *of == name).expect("a cause")
}

/// The table with its names looked up: the interpreter runs 17 million times.
struct Reference {
    legal: [[bool; 16]; 16],
    running: usize,
    guest_panic: usize,
    turn: Vec<(Latch, Vec<Resolved>)>,
}

enum Resolved {
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
struct Input {
    state: usize,
    debug: bool,
    suspend: bool,
    powerdown: bool,
    wakeup: usize,
    shutdown: usize,
    reset: usize,
    vmstop: usize,
    shutdown_pauses: bool,
    exit_failure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    GoesOn,
    Exits { failure: bool },
    Aborts { from: usize, to: usize },
}

impl Reference {
    fn new() -> Self {
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
            turn: turn
                .map(|(latch, rules)| (*latch, rules.iter().map(resolve).collect()))
                .collect(),
        }
    }

    fn turn(&self, input: &Input, seen: &mut Vec<Seen>) -> (usize, Ending) {
        let mut now = input.state;
        let ending = self.play(input, &mut now, seen);
        (now, ending.err().unwrap_or(Ending::GoesOn))
    }

    fn play(&self, input: &Input, now: &mut usize, seen: &mut Vec<Seen>) -> Result<(), Ending> {
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

    fn enter(&self, now: &mut usize, to: usize, seen: &mut Vec<Seen>) -> Result<(), Ending> {
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

    fn stop(&self, now: &mut usize, to: usize, seen: &mut Vec<Seen>) -> Result<(), Ending> {
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

/// What the crate's step is to an observer. `None`: nothing.
fn observed(step: Step) -> Option<Seen> {
    let position = |state: RunState| state as usize;
    let cause = |cause: ShutdownCause| usize::from(cause.index());
    Some(match step {
        Step::SetState(to) => Seen::State(position(to)),
        Step::StopClock => Seen::ClockStops,
        Step::PauseVcpus => Seen::VcpusPause,
        Step::ResumeVcpus => Seen::VcpusResume,
        Step::Handlers {
            running: false,
            state,
        } => Seen::HandlersStop(position(state)),
        Step::Notify(Listeners::Suspend) => Seen::SuspendNotifiers,
        Step::Notify(Listeners::Wakeup(reason)) => {
            Seen::WakeupNotifiers(usize::from(reason.index()))
        }
        Step::Notify(Listeners::Powerdown) => Seen::PowerdownNotifiers,
        Step::Notify(Listeners::Shutdown(why)) => Seen::ShutdownNotifiers(cause(why)),
        Step::Emit(Notice::Stop) => Seen::StopEvent,
        Step::Emit(Notice::Suspend) => Seen::SuspendEvent,
        Step::Emit(Notice::Wakeup) => Seen::WakeupEvent,
        Step::Emit(Notice::Powerdown) => Seen::PowerdownEvent,
        Step::Emit(Notice::Reset(why)) => Seen::ResetEvent(cause(why)),
        Step::Emit(Notice::Shutdown(why)) => Seen::ShutdownEvent(cause(why)),
        Step::DrainFlush => Seen::StorageFlushes,
        Step::SynchronizeState => Seen::VcpusSynchronize,
        Step::ResetMachine(why) => Seen::Reset(cause(why)),
        Step::SynchronizePostReset => Seen::VcpusPostReset,
        Step::WakeMachine => Seen::MachineWakes,
        Step::ClearWakeup
        | Step::DropStale
        | Step::Forget
        | Step::RequireReset
        | Step::Drop(_)
        | Step::Hold(_)
        | Step::Exit { .. } => return None,
        other => panic!("no turn of this model does {other:?}"),
    })
}

fn crate_turn(
    input: &Input,
    actions: Actions,
    compat: Compat,
    seen: &mut Vec<Seen>,
) -> (usize, Ending) {
    let mut latched = Latched::default();
    let cause = |at: usize| (at != 0).then(|| ShutdownCause::ALL[at]);
    latched.debug = input.debug;
    latched.suspend = input.suspend;
    latched.powerdown = input.powerdown;
    latched.wakeup = (input.wakeup != 0).then(|| WakeupReason::ALL[input.wakeup]);
    latched.shutdown = cause(input.shutdown).map(ShutdownRequest::new);
    latched.reset = cause(input.reset);
    latched.vmstop = RunState::ALL.get(input.vmstop).copied();
    let mut now = Situation::new(RunState::ALL[input.state]);
    let end = walk_turn(&mut now, &latched, actions, compat, |step| {
        seen.extend(observed(step));
    });
    let ending = match end {
        End::Continue => Ending::GoesOn,
        End::Exit { failure } => Ending::Exits { failure },
        End::Abort(transition) => Ending::Aborts {
            from: transition.from as usize,
            to: transition.to as usize,
        },
        other => panic!("{other:?}"),
    };
    (now.state as usize, ending)
}

/// Every input whose state is one of `states`, with its actions.
fn each_input(states: std::ops::Range<usize>, mut visit: impl FnMut(&Input, Actions)) {
    for state in states {
        for reboot in RebootAction::ALL {
            for shutdown_action in ShutdownAction::ALL {
                for panic in PanicAction::ALL {
                    let actions = Actions {
                        reboot: *reboot,
                        shutdown: *shutdown_action,
                        panic: *panic,
                        ..Actions::default()
                    };
                    for bits in 0..32_usize {
                        for shutdown in 0..11 {
                            for reset in 0..11 {
                                for vmstop in 0..17 {
                                    let input = Input {
                                        state,
                                        debug: bits & 1 != 0,
                                        suspend: bits & 2 != 0,
                                        powerdown: bits & 4 != 0,
                                        wakeup: bits >> 3,
                                        shutdown,
                                        reset,
                                        vmstop,
                                        shutdown_pauses: *shutdown_action == ShutdownAction::Pause,
                                        exit_failure: *panic == PanicAction::ExitFailure,
                                    };
                                    visit(&input, actions);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Runs `check` over all the inputs, on two threads, and gives back what each of them made.
fn over_everything<T: Default + Send>(check: impl Fn(&mut T, &Input, Actions) + Sync) -> [T; 2] {
    let half = |states: std::ops::Range<usize>| {
        let mut made = T::default();
        each_input(states, |input, actions| check(&mut made, input, actions));
        made
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| half(0..8));
        let second = half(8..16);
        [first.join().expect("no mismatch"), second]
    })
}

#[derive(Default)]
struct Tally {
    inputs: u64,
    aborts: u64,
    classes: std::collections::BTreeSet<(usize, usize)>,
    expected: Vec<Seen>,
    actual: Vec<Seen>,
}

#[test]
fn qemu_7_2_agrees_with_the_reference_over_every_input() {
    let reference = Reference::new();
    let tallies = over_everything::<Tally>(|tally, input, actions| {
        tally.expected.clear();
        tally.actual.clear();
        let expected = reference.turn(input, &mut tally.expected);
        let actual = crate_turn(input, actions, Compat::Qemu7_2, &mut tally.actual);
        assert_eq!(actual, expected, "{input:?}");
        assert_eq!(tally.actual, tally.expected, "{input:?}");
        tally.inputs += 1;
        if let (_, Ending::Aborts { from, to }) = expected {
            tally.aborts += 1;
            tally.classes.insert((from, to));
        }
    });
    let [first, second] = tallies;
    assert_eq!(first.inputs + second.inputs, 16_850_944);
    // What QEMU's own code, compiled and run over the same inputs, does.
    assert_eq!(first.aborts + second.aborts, 6_584_448);
    let classes: std::collections::BTreeSet<_> = first.classes.union(&second.classes).collect();
    assert_eq!(classes.len(), 16);
}

/// The rows of the README's table that show in a turn, as conditions on its input.
type Applies = fn(&Input) -> bool;

const DIFFERENCES: &[(&str, Applies)] = &[
    ("a suspend that does not apply", |i| {
        i.suspend && (i.state != RunState::Running as usize || i.reset != 0 || i.debug)
    }),
    ("a suspended machine can be stopped", |i| {
        let suspended = i.suspend || i.state == RunState::Suspended as usize;
        suspended && (i.debug || i.shutdown != 0 || i.vmstop != 16)
    }),
    ("a wakeup applies to a suspended machine only", |i| {
        i.wakeup != 0
    }),
    ("a reset leaves a dump and a checkpoint their state", |i| {
        let state = [RunState::SaveVm, RunState::Colo].map(|state| state as usize);
        i.reset != 0 && state.contains(&i.state)
    }),
    ("a stop that does not apply is dropped", |i| {
        i.debug || i.vmstop != 16
    }),
];

#[test]
fn current_differs_from_qemu_7_2_only_where_the_table_says() {
    type Hits = [u64; DIFFERENCES.len()];
    #[derive(Default)]
    struct Scratch {
        alone: Hits,
        old: Vec<Seen>,
        new: Vec<Seen>,
    }
    let halves = over_everything::<Scratch>(|scratch, input, actions| {
        scratch.old.clear();
        scratch.new.clear();
        let old = crate_turn(input, actions, Compat::Qemu7_2, &mut scratch.old);
        let new = crate_turn(input, actions, Compat::Current, &mut scratch.new);
        if old == new && scratch.old == scratch.new {
            return;
        }
        let mut rows = (0..DIFFERENCES.len()).filter(|at| DIFFERENCES[*at].1(input));
        let row = rows.next();
        assert!(
            row.is_some(),
            "an unlisted difference: {input:?}: {:?} {old:?}, {:?} {new:?}",
            scratch.old,
            scratch.new
        );
        if let (Some(row), None) = (row, rows.next()) {
            scratch.alone[row] += 1;
        }
    });
    for (at, (name, _)) in DIFFERENCES.iter().enumerate() {
        let alone: u64 = halves.iter().map(|half| half.alone[at]).sum();
        assert!(alone > 0, "a listed difference does not occur: {name}");
    }
}

#[test]
fn current_keeps_its_promises_over_every_input() {
    let running = RunState::Running as usize;
    over_everything::<Vec<Seen>>(|seen, input, actions| {
        seen.clear();
        let (end, ending) = crate_turn(input, actions, Compat::Current, seen);
        assert!(!matches!(ending, Ending::Aborts { .. }), "{input:?}");
        // SHUTDOWN comes at most once, and is the last event of a process that ends.
        let shutdowns = seen.iter().filter(|s| matches!(s, Seen::ShutdownEvent(_)));
        assert_eq!(shutdowns.count(), usize::from(input.shutdown != 0));
        if matches!(ending, Ending::Exits { .. }) {
            assert!(
                matches!(seen.last(), Some(Seen::ShutdownNotifiers(_))),
                "{input:?}: {seen:?}"
            );
            return;
        }
        // A machine that ends up running has vCPUs that run.
        let last = |what: fn(&Seen) -> bool| seen.iter().rposition(what);
        let paused = last(|s| matches!(s, Seen::VcpusPause));
        let resumed = last(|s| matches!(s, Seen::VcpusResume));
        if end == running && paused.is_some() {
            assert!(resumed > paused, "{input:?}: {seen:?}");
        }
        // STOP is told of exactly the machines that were live and are stopped by it.
        for (at, what) in seen.iter().enumerate() {
            if *what == Seen::StopEvent {
                assert!(matches!(seen[..at].last(), Some(Seen::HandlersStop(_))));
            }
        }
    });
}

#[test]
fn no_plan_is_longer_than_a_plan_can_be() {
    over_everything::<usize>(|longest, input, actions| {
        let mut latched = Latched::default();
        latched.shutdown = Some(ShutdownRequest::new(ShutdownCause::ALL[input.shutdown]));
        latched.reset = Some(ShutdownCause::ALL[input.reset]);
        latched.vmstop = RunState::ALL.get(input.vmstop).copied();
        latched.suspend = input.suspend;
        latched.debug = input.debug;
        // The rest repeats what these have.
        if input.powerdown || input.wakeup != 0 {
            return;
        }
        let now = Situation::new(RunState::ALL[input.state]);
        for compat in [Compat::Qemu7_2, Compat::Current] {
            for phase in Phase::ALL {
                let steps = lifecycle::decide(*phase, now, &latched, actions, compat);
                *longest = (*longest).max(steps.as_slice().len());
            }
        }
        assert!(*longest < lifecycle::Steps::CAPACITY);
    });
}
