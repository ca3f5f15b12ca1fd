//! What went wrong elsewhere, and does not here: a test for each bug, named after what it
//! prevents. All of them are about the default, `Compat::Current`.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lifecycle::{
    Compat, Error, Lifecycle, NoReplay, PanicAction, RebootAction, Requests, RequestsState,
    ShutdownAction, ShutdownCause, StateHandler, Teardown, TeardownPhase, Turn, Wake, WakeupReason,
};
use runstate::RunState;

use crate::common::{Bell, Notes, Noting, machine, running, suspended};

const NOW: Compat = Compat::Current;

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

/// QEMU 10.0: isa-debug-exit with `shutdown=pause`, a reset, then `quit`: the process ends with
/// the exit code of a guest that is long gone.
#[test]
fn an_exit_code_does_not_outlive_its_request() {
    let (vm, _) = running(NOW);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    vm.requests()
        .shutdown_with_code(ShutdownCause::GuestShutdown, 33);
    assert_eq!(vm.dispatch(), Turn::Continue);
    vm.request_reset(ShutdownCause::HostQmpSystemReset);
    vm.dispatch();
    vm.cont().expect("fresh");
    vm.requests().quit();
    let Turn::Exit(status) = vm.dispatch() else {
        panic!("quit ends it")
    };
    assert_eq!((status.code(), status.guest_code), (0, None));
}

/// QEMU: `quit` and signals rewrite the configured shutdown action.
#[test]
fn a_signal_powers_off_and_leaves_the_policy_alone() {
    let (vm, _) = running(NOW);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    vm.requests().killed(1, 0);
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    assert_eq!(vm.policy().actions().shutdown, ShutdownAction::Pause);
    vm.requests().shutdown(ShutdownCause::GuestShutdown);
    assert_eq!(vm.dispatch(), Turn::Continue, "the policy still holds");
}

/// QEMU: latches are plain variables, and a reset that is posted between the read and the clear
/// is lost; so is a panic's exit code when a signal comes after it.
#[test]
fn no_request_is_lost_between_threads() {
    const POSTS: u64 = 2_000;
    let (vm, notes) = running(NOW);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    let posters: Vec<_> = (0..4)
        .map(|_| {
            let requests = Arc::clone(vm.requests());
            std::thread::spawn(move || {
                for _ in 0..POSTS {
                    requests.powerdown();
                    requests.reset(ShutdownCause::HostQmpSystemReset);
                }
            })
        })
        .collect();
    while !posters.iter().all(std::thread::JoinHandle::is_finished) {
        assert_eq!(vm.dispatch(), Turn::Continue);
    }
    // Whatever was posted last was posted after the last look, or seen by it.
    vm.dispatch();
    let events = notes.events();
    assert!(events.iter().any(|event| event == "RESET"));
    assert_eq!(vm.requests().snapshot(), RequestsState::default());
    assert_eq!(vm.requests().posts(), 4 * 2 * POSTS);
    for poster in posters {
        poster.join().expect("posts");
    }
}

#[test]
fn a_panics_failure_is_not_lost_to_what_comes_after_it() {
    for after in 0..2 {
        let (vm, _) = running(NOW);
        vm.policy().set_panic(PanicAction::ExitFailure);
        vm.policy().set_reboot(RebootAction::Shutdown);
        vm.guest_panicked(None).expect("stops");
        if after == 0 {
            vm.requests().killed(15, 0);
        } else {
            vm.requests().reset(ShutdownCause::GuestReset);
        }
        let Turn::Exit(status) = vm.dispatch() else {
            panic!("it ends")
        };
        assert_eq!(
            (status.cause, status.code()),
            (ShutdownCause::GuestPanic, 1)
        );
    }
}

/// QEMU: `cont` takes a latched stop with it when the machine is not running, without a word.
#[test]
fn a_latched_stop_survives_a_start() {
    let (vm, notes) = running(NOW);
    vm.stop(RunState::Paused).expect("stops");
    vm.requests().vmstop(RunState::Watchdog);
    vm.cont().expect("goes on");
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Watchdog);
    assert_eq!(notes.events(), ["STOP", "RESUME", "STOP"]);
}

/// QEMU: a handler that removes the one after it makes the list walk freed memory.
#[test]
fn a_handler_may_remove_the_next_one() {
    for compat in [Compat::Qemu7_2, NOW] {
        let (vm, notes) = machine(compat);
        let next: Rc<RefCell<Option<StateHandler>>> = Rc::default();
        let victim = Rc::clone(&next);
        let first = vm.add_state_handler(0, move |_| drop(victim.take()));
        let log = notes.clone();
        next.replace(Some(vm.add_state_handler(0, move |_| log.add("removed"))));
        let log = notes.clone();
        let last = vm.add_state_handler(0, move |_| log.add("last"));
        vm.start().expect("starts");
        let lines = notes.take();
        assert!(lines.contains(&"last".to_owned()), "{compat}: {lines:?}");
        assert!(
            !lines.contains(&"removed".to_owned()),
            "{compat}: {lines:?}"
        );
        drop((first, last));
    }
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

/// QEMU issue 2771: exit notifiers ran without the big lock, on whatever thread called exit().
/// Here the lifecycle, and with it the list, cannot leave the main loop's thread; and a notifier
/// finds the lifecycle in working order.
#[test]
fn exit_notifiers_run_on_the_main_loops_thread() {
    let (vm, notes) = running(NOW);
    let main = std::thread::current().id();
    for name in ["first", "second"] {
        let (log, weak) = (notes.clone(), Rc::downgrade(&vm));
        vm.on_exit(move || {
            assert_eq!(std::thread::current().id(), main);
            log.add(name);
            let vm = weak.upgrade().expect("it lives");
            vm.shutdown_for_exit().expect("legal");
        })
        .detach();
    }
    vm.requests().quit();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    notes.take();
    vm.run_exit_notifiers();
    let lines = notes.take();
    assert_eq!(lines.first().map(String::as_str), Some("second"), "LIFO");
    assert_eq!(vm.state(), RunState::Shutdown);
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

/// Cloud Hypervisor 783, 784: two resets in a row, and the second one hangs or is served twice.
#[test]
fn resets_coalesce() {
    let (vm, notes) = running(NOW);
    for _ in 0..5 {
        vm.requests().reset(ShutdownCause::GuestReset);
    }
    vm.dispatch();
    vm.dispatch();
    assert_eq!(notes.events(), ["RESET"]);
}

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

/// A machine in this state, or in `running` where no edge leads there.
fn machine_in(state: RunState) -> (Rc<common::Vm>, Rc<Notes>) {
    let (vm, notes) = match state {
        RunState::Prelaunch => machine(NOW),
        RunState::Suspended => suspended(NOW),
        RunState::InMigrate => {
            let made = machine(NOW);
            made.0.set_state(RunState::InMigrate).expect("is an edge");
            made
        }
        RunState::PostMigrate => {
            let made = running(NOW);
            made.0.stop(RunState::FinishMigrate).expect("is an edge");
            made.0.set_state(RunState::PostMigrate).expect("is an edge");
            made
        }
        RunState::Running => running(NOW),
        other => {
            let made = running(NOW);
            made.0.stop(other).expect("is an edge");
            made
        }
    };
    assert_eq!(vm.state(), state);
    notes.take();
    (vm, notes)
}

/// Cloud Hypervisor 4269, 1242: a SIGTERM before the machine is started is ignored, or hangs.
#[test]
fn a_signal_before_the_start_is_served() {
    let requests = Arc::new(Requests::new(Arc::new(Bell::default())));
    requests.killed(15, 4242);
    let notes: Rc<Notes> = Rc::default();
    let vm = Lifecycle::new(requests, Noting(notes.clone()), Noting(notes.clone()));
    let Turn::Exit(status) = vm.dispatch() else {
        panic!("it ends")
    };
    assert_eq!(status.cause, ShutdownCause::HostSignal);
    assert!(notes.take()[0].starts_with("report: terminating on signal 15 from pid 4242 ("));
}

/// Cloud Hypervisor 6274: `reboot -f`, a triple fault and a watchdog give no event, or not the same.
#[test]
fn every_reset_is_told_of_with_its_cause() {
    for cause in ShutdownCause::ALL {
        let (vm, notes) = running(NOW);
        vm.requests().reset(*cause);
        vm.dispatch();
        let told = notes.events();
        assert_eq!(told.len(), usize::from(cause.announces_reset()), "{cause}");
    }
}

/// cyberus-technology/cloud-hypervisor 87: a reboot during a migration is lost.
#[test]
fn what_is_pending_travels_with_the_machine() {
    let (source, _) = running(NOW);
    source
        .stop(RunState::FinishMigrate)
        .expect("the last phase");
    source.requests().reset(ShutdownCause::GuestReset);
    source.requests().powerdown();
    source
        .requests()
        .shutdown_with_code(ShutdownCause::GuestShutdown, -7);
    source.requests().killed(15, 99);
    source.requests().suspend_to_disk();
    source.requests().vmstop(RunState::IoError);
    source
        .requests()
        .guest_panicked(Some(lifecycle::PanicInfo::HyperV([1, 2, 3, 4, 5])));
    let saved = source.requests().snapshot();
    let bytes = saved.encode();
    let loaded = RequestsState::decode(&bytes).expect("what was encoded");
    assert_eq!(loaded, saved);

    let bell = Arc::new(Bell::default());
    let target = Requests::with(bell.clone(), NOW, Arc::new(NoReplay));
    target.restore(&loaded);
    assert_eq!(target.snapshot(), saved);
    assert!(bell.0.load(Ordering::Relaxed) > 0, "the main loop looks");
}

/// firecracker 2452, PR 6086: a lock that is taken in a signal handler deadlocks. A post takes
/// none: it can interrupt another post of the same thread at any point, here in the wake-up.
#[test]
fn a_post_can_interrupt_a_post() {
    struct Interrupting(
        std::sync::OnceLock<Arc<Requests>>,
        std::sync::atomic::AtomicU32,
    );
    impl Wake for Interrupting {
        fn wake(&self) {
            if self.1.fetch_add(1, Ordering::Relaxed) < 100
                && let Some(requests) = self.0.get()
            {
                requests.killed(15, 0);
                requests.guest_panicked(None);
            }
        }
    }
    let wake = Arc::new(Interrupting(std::sync::OnceLock::new(), 0.into()));
    let requests = Arc::new(Requests::new(wake.clone()));
    assert!(wake.0.set(requests.clone()).is_ok());
    requests.shutdown(ShutdownCause::GuestShutdown);
    assert_eq!(requests.shutdown_pending(), ShutdownCause::GuestShutdown);
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

/// Dragonball 73: a handler that takes itself, or another, off the list deadlocks. And a pair that
/// undo each other's changes must come to an end.
#[test]
fn callbacks_that_undo_each_other_come_to_an_end() {
    let (vm, notes) = machine(NOW);
    let weak = Rc::downgrade(&vm);
    let handler = vm.add_state_handler(0, move |notice| {
        let vm = weak.upgrade().expect("it lives");
        let undone = if notice.running {
            vm.stop(RunState::Paused)
        } else {
            vm.start()
        };
        undone.expect("deferred");
    });
    vm.start().expect("starts");
    let lines = notes.take();
    assert!(lines.len() < 500);
    assert!(
        lines
            .last()
            .is_some_and(|line| line.starts_with("report: ")),
        "{lines:?}"
    );
    drop(handler);
    vm.stop(RunState::Paused).expect("works still");
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

/// A shutdown notifier that stops or starts the machine: SHUTDOWN is the last event all the same, and
/// nothing runs after it.
#[test]
fn nothing_that_a_notifier_wants_outlives_the_machine() {
    let (vm, notes) = running(NOW);
    let weak = Rc::downgrade(&vm);
    vm.on_shutdown(move |_| {
        let vm = weak.upgrade().expect("it lives");
        vm.stop(RunState::Paused).expect("deferred");
        vm.start().expect("deferred");
    })
    .detach();
    vm.requests().quit();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    vm.shutdown_for_exit().expect("stops");
    assert_eq!(notes.events(), ["SHUTDOWN"]);
    assert_eq!(vm.state(), RunState::Shutdown);
}

/// A stop that a callback of a reset wants comes after the reset, and keeps its state.
#[test]
fn a_stop_in_the_middle_of_a_reset_is_not_taken_for_a_fresh_machine() {
    let (vm, notes) = running(NOW);
    let weak = Rc::downgrade(&vm);
    notes.while_pausing.set(Some(Box::new(move || {
        let vm = weak.upgrade().expect("it lives");
        vm.stop(RunState::IoError).expect("deferred");
    })));
    vm.requests().reset(ShutdownCause::GuestReset);
    vm.dispatch();
    assert_eq!(notes.events(), ["RESET", "STOP"]);
    assert_eq!(vm.state(), RunState::IoError);
}
