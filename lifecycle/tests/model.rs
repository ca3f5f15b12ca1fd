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

mod turn;

use lifecycle::{
    Actions, Compat, End, Latched, Listeners, Notice, PanicAction, Phase, RebootAction,
    ShutdownAction, ShutdownCause, ShutdownRequest, Situation, Step, WakeupReason, WatchdogAction,
    walk_turn,
};
use runstate::RunState;

use crate::turn::{Ending, Input, Reference, Seen};

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
        Step::Emit(Notice::Watchdog(action)) => Seen::WatchdogEvent(usize::from(action.index())),
        Step::ReportWatchdog => Seen::WatchdogReport,
        Step::InjectNmi => Seen::Nmi,
        Step::ClearWakeup
        | Step::DropStale
        | Step::Forget
        | Step::RequireReset
        | Step::Drop(_)
        | Step::Hold(_)
        | Step::LatchVmStop(_)
        | Step::RequestReset(_)
        | Step::RequestPowerdown
        | Step::RequestPoweroff(_)
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
    latched.watchdog = input.watchdog < NO_WATCHDOG;
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

/// [`Input::watchdog`] when none has expired.
const NO_WATCHDOG: usize = WatchdogAction::ALL.len();

/// Every input whose state is one of `states`, with its actions, and no watchdog in it.
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
                                        watchdog: NO_WATCHDOG,
                                        reboot_shuts_down: *reboot == RebootAction::Shutdown,
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
fn current_keeps_its_promises_and_differs_only_where_the_table_says() {
    type Hits = [u64; DIFFERENCES.len()];
    #[derive(Default)]
    struct Scratch {
        alone: Hits,
        old: Vec<Seen>,
        new: Vec<Seen>,
    }
    let halves = over_everything::<Scratch>(|scratch, input, actions| {
        if actions.reboot == RebootAction::Shutdown {
            // Looked at when a reset is requested, not in a turn: the test above knows.
            return;
        }
        scratch.old.clear();
        scratch.new.clear();
        let old = crate_turn(input, actions, Compat::Qemu7_2, &mut scratch.old);
        let new = crate_turn(input, actions, Compat::Current, &mut scratch.new);
        assert_promises(input, new, &scratch.new);
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

/// What `current` promises of every turn.
fn assert_promises(input: &Input, (end, ending): (usize, Ending), seen: &[Seen]) {
    assert!(!matches!(ending, Ending::Aborts { .. }), "{input:?}");
    // SHUTDOWN comes at most once, and is the last event of a process that ends.
    let shutdowns = seen.iter().filter(|s| matches!(s, Seen::ShutdownEvent(_)));
    assert_eq!(shutdowns.count(), usize::from(input.shutdown != 0));
    if matches!(ending, Ending::Exits { .. }) {
        let last = seen.last();
        assert!(
            matches!(last, Some(Seen::ShutdownNotifiers(_))),
            "{input:?}: {seen:?}"
        );
        return;
    }
    // A machine that ends up running has vCPUs that run.
    let last = |what: fn(&Seen) -> bool| seen.iter().rposition(what);
    let paused = last(|s| matches!(s, Seen::VcpusPause));
    let resumed = last(|s| matches!(s, Seen::VcpusResume));
    if end == RunState::Running as usize && paused.is_some() {
        assert!(resumed > paused, "{input:?}: {seen:?}");
    }
    // STOP is told of a machine whose handlers were told, and whose state has changed.
    for pair in seen.windows(2) {
        if pair[1] == Seen::StopEvent {
            assert!(
                matches!(pair[0], Seen::HandlersStop(_)),
                "{input:?}: {seen:?}"
            );
        }
    }
}

/// Every input with a watchdog in it, where the latches that it has nothing to do with are set all at
/// once or not at all.
fn each_expiry(mut visit: impl FnMut(&Input, Actions)) {
    each_input(0..16, |input, actions| {
        let others = [input.debug, input.suspend, input.wakeup != 0];
        if others.iter().any(|other| *other != input.debug) || input.wakeup > 1 {
            return;
        }
        for (watchdog, action) in WatchdogAction::ALL.iter().enumerate() {
            let actions = Actions {
                watchdog: *action,
                ..actions
            };
            visit(&Input { watchdog, ..*input }, actions);
        }
    });
}

#[test]
fn qemu_7_2_agrees_with_the_reference_over_every_expiry_of_a_watchdog() {
    let reference = Reference::new();
    let (mut expected, mut actual, mut inputs) = (Vec::new(), Vec::new(), 0_u32);
    each_expiry(|input, actions| {
        expected.clear();
        actual.clear();
        let ends = reference.turn(input, &mut expected);
        let turn = crate_turn(input, actions, Compat::Qemu7_2, &mut actual);
        assert_eq!(turn, ends, "{input:?}");
        assert_eq!(actual, expected, "{input:?}");
        inputs += 1;
    });
    assert_eq!(inputs, 7 * 4 * 16 * 16 * 11 * 11 * 17);
}

#[test]
fn current_tells_of_a_watchdog_before_what_follows_and_aborts_over_no_expiry() {
    let mut seen = Vec::new();
    each_expiry(|input, actions| {
        seen.clear();
        let (_, ending) = crate_turn(input, actions, Compat::Current, &mut seen);
        assert!(!matches!(ending, Ending::Aborts { .. }), "{input:?}");
        assert_eq!(seen.first(), Some(&Seen::WatchdogEvent(input.watchdog)));
        let told = |what: fn(&Seen) -> bool| seen.iter().any(what);
        match actions.watchdog {
            WatchdogAction::Poweroff => {
                assert!(told(|seen| matches!(seen, Seen::ShutdownEvent(_))));
                assert!(ending != Ending::GoesOn, "{input:?}");
            }
            WatchdogAction::Shutdown if ending == Ending::GoesOn => {
                assert!(seen.contains(&Seen::PowerdownEvent));
            }
            WatchdogAction::Reset if ending == Ending::GoesOn => {
                let shut_down = told(|seen| matches!(seen, Seen::ShutdownEvent(_)));
                let reset = told(|seen| matches!(seen, Seen::ResetEvent(_)));
                let by_reboot = actions.reboot == RebootAction::Shutdown;
                assert!(reset || (by_reboot && shut_down), "{input:?} {seen:?}");
            }
            WatchdogAction::InjectNmi => assert!(seen.contains(&Seen::Nmi)),
            _ => {}
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
        // All that the guest can tell at once.
        latched.suspend_disk = true;
        latched.crashloaded = true;
        latched.panicked = true;
        latched.pvshutdown = true;
        latched.watchdog = true;
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
