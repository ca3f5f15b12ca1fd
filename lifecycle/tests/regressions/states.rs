//! No edge that is not there is taken, and none leads astray: no abort, and no guest that runs unasked.

use std::rc::Rc;

use lifecycle::{Error, PanicAction, ShutdownAction, ShutdownCause, Turn, WakeupReason};
use runstate::RunState;

use crate::NOW;
use crate::common::{machine, running, suspended};

/// QEMU 7.2 and 10.0: `dump-guest-memory detach=true`, then `system_reset`: RESET, then an abort
/// on 'save-vm' -> 'prelaunch'.
#[test]
fn a_reset_during_a_dump_does_not_abort() {
    let (vm, notes) = running(NOW);
    vm.stop(RunState::SaveVm).expect("the dump begins");
    vm.request_reset(ShutdownCause::HostQmpSystemReset);
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(vm.state(), RunState::SaveVm);
    vm.start().expect("the dump is over");
    assert_eq!(notes.events(), ["STOP", "RESET", "RESUME"]);
}

/// QEMU 7.2: a guest that enters S3 while a client sends `stop` aborts the process within
/// seconds, on 'paused' -> 'suspended'; so does one that sleeps on one vCPU and panics on another.
#[test]
fn a_sleep_that_races_with_a_stop_does_not_abort() {
    for state in RunState::ALL.iter().filter(|state| !state.is_live()) {
        let (vm, _) = running(NOW);
        vm.requests().suspend();
        if vm.stop(*state).is_err() {
            continue;
        }
        assert_eq!(vm.dispatch(), Turn::Continue, "{state}");
        assert_eq!(vm.state(), *state);
    }
    let (vm, notes) = running(NOW);
    vm.policy().set_panic(PanicAction::Pause);
    vm.requests().guest_panicked(None);
    vm.requests().suspend();
    assert_eq!(vm.dispatch(), Turn::Continue);
    // Asleep first, and then the panic's stop: remembered, and no abort.
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(notes.events(), ["GUEST_PANICKED", "SUSPEND", "STOP"]);
}

/// QEMU 10.0: after the same race the client has STOP and a successful `stop`, but the machine is
/// `suspended`, and a wakeup runs the guest behind the client's back.
#[test]
fn a_sleep_that_races_with_a_stop_leaves_the_machine_stopped() {
    let (vm, notes) = running(NOW);
    vm.requests().suspend();
    vm.stop(RunState::Paused).expect("stops");
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(
        vm.requests().wakeup(WakeupReason::Other),
        Err(Error::NotSuspended)
    );
    assert!(!notes.take().contains(&"resume".to_owned()));
}

/// QEMU 7.2 and 10.0: a migration stream that says `debug`, `save-vm` or `restore-vm` aborts the
/// destination.
#[test]
fn a_hostile_migration_stream_does_not_abort() {
    let names = RunState::ALL.iter().map(|state| state.as_str());
    for name in names.chain(["", "RUNNING", "paused\0", "\u{fffd}"]) {
        for autostart in [true, false] {
            let (vm, _) = machine(NOW);
            vm.set_state(RunState::InMigrate).expect("is an edge");
            vm.set_autostart(autostart);
            let taken_for = vm.restore(name).expect("nothing is illegal here");
            assert_ne!(vm.state(), RunState::InMigrate, "{name}");
            if ["debug", "save-vm", "restore-vm", ""].contains(&name) {
                assert_eq!(
                    (taken_for, vm.state()),
                    (RunState::Paused, RunState::Paused)
                );
            }
        }
    }
    let (vm, _) = machine(NOW);
    assert!(vm.restore("paused").is_err(), "nothing is incoming");
}

/// QEMU 10: a stop latched as io-error, watchdog, guest-panicked or internal-error, or one for the
/// debugger, served while the machine is suspended: an edge that is not there, and an abort.
#[test]
fn a_latched_stop_of_a_suspended_machine_does_not_abort() {
    for state in RunState::ALL {
        let (vm, _) = suspended(NOW);
        vm.requests().vmstop(*state);
        assert_eq!(vm.dispatch(), Turn::Continue, "{state}");
    }
    let (vm, notes) = suspended(NOW);
    vm.requests().debug();
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(notes.events(), ["STOP"]);
}

/// openEuler's patch for QEMU: a guest's reset during the last phase of a migration rewrites the
/// state, and the migration aborts on 'prelaunch' -> 'postmigrate'.
#[test]
fn a_reset_does_not_rewrite_the_state_of_a_migration() {
    let (vm, notes) = running(NOW);
    vm.stop(RunState::FinishMigrate).expect("the last phase");
    vm.requests().reset(ShutdownCause::GuestReset);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::FinishMigrate);
    vm.set_state(RunState::PostMigrate).expect("migrated");

    // The phase begins while the reset is under way.
    let (vm, _) = running(NOW);
    vm.requests().reset(ShutdownCause::GuestReset);
    let weak = Rc::downgrade(&vm);
    notes.take();
    vm.machine().0.while_pausing.set(Some(Box::new(move || {
        let vm = weak.upgrade().expect("it lives");
        vm.stop_force(RunState::FinishMigrate).expect("deferred");
    })));
    vm.dispatch();
    assert_eq!(vm.state(), RunState::FinishMigrate);
    vm.set_state(RunState::PostMigrate).expect("migrated");
}

/// QEMU: edges that were added to quieten aborts of COLO let a machine that was shut down run
/// again, by way of `colo`.
#[test]
fn a_machine_that_was_shut_down_does_not_run_again_by_a_detour() {
    for detour in [RunState::Colo, RunState::Paused, RunState::FinishMigrate] {
        for broken in [RunState::Shutdown, RunState::InternalError] {
            let (vm, _) = running(NOW);
            vm.stop(broken).expect("stops");
            if vm.set_state(detour).is_err() {
                continue;
            }
            assert_eq!(vm.start(), Err(Error::ResetRequired), "{broken}, {detour}");
        }
    }
    // And a guest that powers off at a checkpoint does not abort.
    let (vm, _) = running(NOW);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    vm.stop(RunState::Colo).expect("a checkpoint");
    vm.requests().shutdown(ShutdownCause::GuestShutdown);
    assert_eq!(vm.dispatch(), Turn::Continue);
    vm.requests().reset(ShutdownCause::GuestReset);
    assert_eq!(vm.dispatch(), Turn::Continue);
}

/// QEMU before 9.0 (commits b4e9ddccd1a6, 58b105703e86): a snapshot or a migration wakes a guest
/// that sleeps, and can corrupt its time.
#[test]
fn a_sleeping_guest_sleeps_on_over_a_snapshot_and_a_migration() {
    for state in [
        RunState::SaveVm,
        RunState::RestoreVm,
        RunState::FinishMigrate,
    ] {
        let (vm, notes) = suspended(NOW);
        vm.stop(state).expect("is an edge");
        assert!(vm.situation().was_suspended);
        vm.start().expect("done, or failed");
        assert_eq!(vm.state(), RunState::Suspended, "{state}");
        let lines = notes.take();
        assert!(!lines.contains(&"resume".to_owned()), "{state}: {lines:?}");
        vm.request_wakeup(WakeupReason::Rtc).expect("it sleeps");
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Running);
        assert_eq!(notes.events(), ["WAKEUP"]);
    }
}
