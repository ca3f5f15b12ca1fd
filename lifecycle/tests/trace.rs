//! Record and replay: the gate, and the trace that the decisions reproduce.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "trace/lines.rs"]
mod lines;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use lifecycle::{
    Checkpoint, Compat, Happening, ReplayGate, ShutdownAction, ShutdownCause, TraceRecord, Turn,
    WakeupReason, WatchdogAction, replay,
};
use proptest::prelude::*;
use runstate::RunState;

use crate::common::{machine, machine_with, running, suspended};

#[derive(Debug, Default)]
struct Gate {
    open: AtomicBool,
    asked: AtomicU32,
    recorded: Mutex<Vec<ShutdownCause>>,
}

impl ReplayGate for Gate {
    fn checkpoint(&self, _checkpoint: Checkpoint) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.open.load(Ordering::Relaxed)
    }

    fn shutdown_requested(&self, cause: ShutdownCause) {
        self.recorded.lock().expect("not poisoned").push(cause);
    }
}

#[test]
fn a_closed_gate_holds_back_reset_and_suspend_and_nothing_else() {
    for compat in [Compat::Qemu7_2, Compat::Current] {
        let gate = Arc::new(Gate::default());
        let (vm, notes) = machine_with(compat, gate.clone());
        vm.start().expect("starts");
        vm.dispatch();
        assert_eq!(gate.asked.load(Ordering::Relaxed), 0, "nothing is latched");
        vm.requests().reset(ShutdownCause::GuestReset);
        vm.requests().powerdown();
        notes.take();
        for _ in 0..3 {
            assert_eq!(vm.dispatch(), Turn::Continue);
        }
        assert_eq!(notes.events(), ["POWERDOWN"]);
        assert_eq!(vm.requests().reset_pending(), ShutdownCause::GuestReset);
        gate.open.store(true, Ordering::Relaxed);
        vm.dispatch();
        assert_eq!(notes.events(), ["RESET"]);
        gate.open.store(false, Ordering::Relaxed);
        vm.requests().suspend();
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Running);
        gate.open.store(true, Ordering::Relaxed);
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Suspended);
    }
}

#[test]
fn a_shutdown_is_recorded_when_it_is_requested() {
    let gate = Arc::new(Gate::default());
    let (vm, _) = machine_with(Compat::Current, gate.clone());
    vm.requests().shutdown(ShutdownCause::GuestShutdown);
    let recorded = || gate.recorded.lock().expect("not poisoned").clone();
    assert_eq!(recorded(), [ShutdownCause::GuestShutdown]);
    // A signal is not recorded when it comes.
    vm.requests().killed(15, 0);
    assert_eq!(recorded().len(), 1);
}

#[test]
fn the_trace_is_bounded_and_numbered_without_gaps() {
    let (vm, _) = running(Compat::Current);
    vm.set_trace_capacity(10);
    for _ in 0..100 {
        vm.stop(RunState::Paused).expect("stops");
        vm.start().expect("starts");
    }
    let (numbers, total) = vm.with_trace(|trace| {
        let numbers: Vec<u64> = trace.records().map(|record| record.sequence).collect();
        (numbers, trace.total())
    });
    assert_eq!(numbers, (total - 10..total).collect::<Vec<_>>());
    vm.set_trace_capacity(0);
    vm.stop(RunState::Paused).expect("stops");
    assert_eq!(vm.with_trace(|trace| trace.records().count()), 0);
}

#[test]
fn a_request_that_is_held_or_idle_turns_do_not_fill_the_trace() {
    let (vm, _) = running(Compat::Current);
    vm.requests().suspend();
    vm.stop(RunState::Paused).expect("stops");
    let (sleeper, _) = suspended(Compat::Current);
    for vm in [vm, sleeper] {
        vm.dispatch();
        let total = vm.with_trace(lifecycle::Trace::total);
        for _ in 0..100 {
            vm.dispatch();
        }
        assert_eq!(vm.with_trace(lifecycle::Trace::total), total);
    }
}

#[test]
fn a_trace_that_was_tampered_with_diverges() {
    let (vm, _) = machine(Compat::Current);
    vm.start().expect("starts");
    vm.stop(RunState::IoError).expect("stops");
    let records: Vec<TraceRecord> = vm.with_trace(|trace| trace.records().copied().collect());
    assert_eq!(
        replay(&records, Compat::Current),
        Ok(Some(RunState::IoError))
    );
    let mut forged = records.clone();
    let last = forged.last_mut().expect("something happened");
    last.happening = Happening::State {
        from: RunState::Running,
        to: RunState::Paused,
    };
    assert!(replay(&forged, Compat::Current).is_err());
    let missing: Vec<_> = records
        .iter()
        .filter(|record| !matches!(record.happening, Happening::Stop { .. }))
        .zip(0..)
        .map(|(record, sequence)| TraceRecord {
            sequence,
            ..*record
        })
        .collect();
    assert!(replay(&missing, Compat::Current).is_err());
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Start,
    Stop(RunState),
    Set(RunState),
    Suspend,
    Wakeup,
    Reset,
    Shutdown,
    VmStop(RunState),
    Panic,
    Watchdog(WatchdogAction),
    Dispatch,
}

fn act() -> impl Strategy<Value = Act> {
    let state = || proptest::sample::select(RunState::ALL);
    prop_oneof![
        3 => Just(Act::Start),
        3 => state().prop_map(Act::Stop),
        1 => state().prop_map(Act::Set),
        2 => Just(Act::Suspend),
        2 => Just(Act::Wakeup),
        2 => Just(Act::Reset),
        1 => Just(Act::Shutdown),
        2 => state().prop_map(Act::VmStop),
        1 => Just(Act::Panic),
        2 => proptest::sample::select(WatchdogAction::ALL).prop_map(Act::Watchdog),
        5 => Just(Act::Dispatch),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_recorded_trace_leads_through_the_decisions_to_the_same_state(
        acts in proptest::collection::vec(act(), 1..80),
        capacity in prop_oneof![Just(10_000_usize), 1..40_usize],
    ) {
        for compat in [Compat::Qemu7_2, Compat::Current] {
            let (vm, notes) = machine(compat);
            vm.set_trace_capacity(capacity);
            vm.policy().set_shutdown(ShutdownAction::Pause);
            for (at, act) in acts.iter().enumerate() {
                // Pauses that fail now and then.
                notes.pause_fails.set(at % 7 == 3);
                let aborts = match act {
                    Act::Start => vm.start().is_err(),
                    Act::Stop(state) => vm.stop(*state).is_err(),
                    Act::Set(state) => vm.set_state(*state).is_err(),
                    Act::Suspend => { vm.requests().suspend(); false }
                    Act::Wakeup => {
                        let _refused = vm.request_wakeup(WakeupReason::Other);
                        false
                    }
                    Act::Reset => { vm.requests().reset(ShutdownCause::GuestReset); false }
                    Act::Shutdown => {
                        vm.requests().shutdown(ShutdownCause::GuestShutdown);
                        false
                    }
                    Act::VmStop(state) => { vm.requests().vmstop(*state); false }
                    Act::Watchdog(action) => {
                        vm.policy().set_watchdog(*action);
                        vm.requests().watchdog_expired();
                        false
                    }
                    Act::Panic => { vm.requests().guest_panicked(None); false }
                    Act::Dispatch => matches!(vm.dispatch(), Turn::Abort(_)),
                };
                if aborts && compat == Compat::Qemu7_2 {
                    break;
                }
            }
            let records: Vec<TraceRecord> =
                vm.with_trace(|trace| trace.records().copied().collect());
            let replayed = replay(&records, compat);
            // Plans nest under `Qemu7_2`: a trace without its front misses the outer ones.
            if capacity == 10_000 || compat == Compat::Current {
                let state = replayed.map_err(|e| TestCaseError::fail(e.to_string()))?;
                prop_assert!(state.is_none_or(|state| state == vm.state()), "{:?}", records);
            }
        }
    }
}
