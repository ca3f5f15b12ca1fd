//! The machine can be ended from wherever it is, and a step that fails leaves it in a state that says so.

use std::rc::Rc;

use lifecycle::{
    Error, Outcome, PanicAction, ShutdownAction, ShutdownCause, Teardown, TeardownPhase, Turn,
};
use runstate::RunState;

use crate::NOW;
use crate::common::{Notes, Vm, machine, running, suspended};

/// Cloud Hypervisor 816, 817, 1064: the shutdown of a machine that is not running hangs.
#[test]
fn every_state_can_be_left_for_good() {
    for state in RunState::ALL {
        for how in 0..3 {
            let (vm, notes) = machine_in(*state);
            match how {
                0 => vm.requests().quit(),
                1 => {
                    vm.requests().killed(15, 0);
                    lifecycle::Posted::Continue
                }
                _ => vm.requests().shutdown(ShutdownCause::GuestShutdown),
            };
            assert!(matches!(vm.dispatch(), Turn::Exit(_)), "{state}");
            assert_eq!(notes.events().last().map(String::as_str), Some("SHUTDOWN"));
            vm.shutdown_for_exit().expect("legal in every state");
            assert!(!vm.state().is_live(), "{state}");
        }
    }
}

/// A machine in this state, with nothing noted.
fn machine_in(state: RunState) -> (Rc<Vm>, Rc<Notes>) {
    let (vm, notes) = match state {
        RunState::Prelaunch | RunState::InMigrate => machine(NOW),
        RunState::Suspended => suspended(NOW),
        _ => running(NOW),
    };
    let arrived = match state {
        RunState::Prelaunch | RunState::Suspended | RunState::Running => Ok(Outcome::Done),
        RunState::InMigrate => vm.set_state(state),
        RunState::PostMigrate => {
            vm.stop(RunState::FinishMigrate).expect("is an edge");
            vm.set_state(state)
        }
        other => vm.stop(other),
    };
    arrived.expect("is an edge");
    assert_eq!(vm.state(), state);
    notes.take();
    (vm, notes)
}

/// QEMU 7.2: cleanup drains the storage before the machine is stopped; a device's request that is
/// stuck in a queue hangs the exit.
#[test]
fn the_machine_is_stopped_before_its_storage_is_drained_for_good() {
    let (vm, notes) = running(NOW);
    let log: Rc<Notes> = Rc::default();
    let drained = log.clone();
    let teardown: Teardown<Error> = Teardown::new().with(TeardownPhase::Drain, move |_| {
        drained.add("drained");
        Ok(())
    });
    let state = vm.state_cell();
    teardown.run(&*vm, std::time::Duration::from_secs(10), |phase| {
        if phase == TeardownPhase::Drain {
            assert_eq!(state.load(), RunState::Shutdown);
        }
    });
    assert_eq!(log.take(), ["drained"]);
    assert!(notes.take().contains(&"pause".to_owned()));
}

/// QEMU: a panic on a vCPU thread that ends the process shows no STOP; SHUTDOWN is the last event.
#[test]
fn a_panic_that_ends_the_process_ends_it_with_shutdown() {
    let (vm, notes) = running(NOW);
    vm.requests().guest_panicked(None);
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    assert_eq!(notes.events(), ["GUEST_PANICKED", "SHUTDOWN"]);

    let (vm, notes) = running(NOW);
    vm.policy().set_panic(PanicAction::ExitFailure);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    vm.requests().guest_panicked(None);
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(notes.events(), ["GUEST_PANICKED", "SHUTDOWN", "STOP"]);
    assert_eq!(vm.state(), RunState::Shutdown);
}

/// Cloud Hypervisor 7638: a pause that misses its deadline leaves a machine that is neither
/// running nor paused.
#[test]
fn a_pause_that_fails_leaves_a_machine_that_runs() {
    for state in RunState::ALL.iter().filter(|state| !state.is_live()) {
        let (vm, notes) = running(NOW);
        notes.pause_fails.set(true);
        match vm.stop(*state) {
            Err(Error::InvalidTransition(_)) => continue,
            result => assert!(
                matches!(result, Err(Error::Pause(_))),
                "{state}: {result:?}"
            ),
        }
        assert_eq!(vm.state(), RunState::Running, "{state}");
        assert!(!vm.reset_required(), "{state}");
        let lines = notes.take();
        let clock: Vec<_> = lines.iter().filter(|line| line.contains("clock")).collect();
        assert_eq!(clock, ["stop clock", "start clock"]);
        assert_eq!(lines.last().map(String::as_str), Some("resume"));
        assert!(!lines.contains(&"STOP".to_owned()));
        notes.pause_fails.set(false);
        vm.stop(*state).expect("the next one works");
    }
    // Latched requests: reported, and the machine runs on. The last stop of all goes on.
    let (vm, notes) = running(NOW);
    notes.pause_fails.set(true);
    vm.requests().suspend();
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    vm.requests().vmstop(RunState::IoError);
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(vm.state(), RunState::Running);
    assert!(notes.events().is_empty());
    vm.shutdown_for_exit().expect("goes on");
    assert_eq!(vm.state(), RunState::Shutdown);
}

/// QEMU 11: a machine that cannot be rebuilt on a reset is stopped with an internal error.
#[test]
fn a_reset_that_fails_is_an_internal_error() {
    let (vm, notes) = running(NOW);
    notes.reset_fails.set(true);
    vm.requests().reset(ShutdownCause::GuestReset);
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(vm.state(), RunState::InternalError);
    assert_eq!(notes.events(), ["STOP"]);
    assert_eq!(vm.cont(), Err(Error::ResetRequired));
    notes.reset_fails.set(false);
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    vm.dispatch();
    vm.cont().expect("fresh");
}
