//! Every operation in every state: alone, twice, before and after every other one, and in the middle of it.
//!
//! Of each case it is asked what no table of expectations could get wrong: nothing aborts, every change is an edge of the
//! table, STOP and RESUME alternate, guest code runs if and only if the state says so, and the machine can be ended.

#[expect(dead_code, reason = "other tests need the rest of it")]
mod common;

use std::rc::Rc;

use common::{Notes, Vm, machine, running, suspended};
use lifecycle::{
    Compat, PanicAction, ShutdownAction, ShutdownCause, Turn, WakeupReason, WatchdogAction,
};
use runstate::{QEMU_10_2, RunState};

const NOW: Compat = Compat::Current;

/// An operation by its name. What it answers is not asked here.
type Operation = (&'static str, fn(&Vm));

const OPERATIONS: &[Operation] = &[
    ("turn", |vm| {
        vm.dispatch();
    }),
    ("start", |vm| drop(vm.start())),
    ("cont", |vm| drop(vm.cont())),
    ("pause", |vm| drop(vm.pause())),
    ("stop for a dump", |vm| drop(vm.stop(RunState::SaveVm))),
    ("stop for a migration", |vm| {
        drop(vm.stop_force(RunState::FinishMigrate));
    }),
    ("set paused", |vm| drop(vm.set_state(RunState::Paused))),
    ("set postmigrate", |vm| {
        drop(vm.set_state(RunState::PostMigrate));
    }),
    ("stop for the exit", |vm| drop(vm.shutdown_for_exit())),
    ("reset by the guest", |vm| {
        vm.requests().reset(ShutdownCause::GuestReset);
    }),
    ("reset by a client", |vm| {
        vm.request_reset(ShutdownCause::HostQmpSystemReset);
    }),
    ("shutdown by the guest", |vm| {
        vm.requests().shutdown(ShutdownCause::GuestShutdown);
    }),
    ("suspend", |vm| {
        vm.requests().suspend();
    }),
    ("suspend to disk", |vm| {
        vm.requests().suspend_to_disk();
    }),
    ("wakeup by a device", |vm| {
        drop(vm.requests().wakeup(WakeupReason::Rtc));
    }),
    ("wakeup by a client", |vm| drop(vm.system_wakeup())),
    ("power button", |vm| {
        vm.requests().powerdown();
    }),
    ("debug", |vm| {
        vm.requests().debug();
    }),
    ("error of a disk", |vm| {
        vm.requests().vmstop(RunState::IoError)
    }),
    ("internal error", |vm| {
        vm.requests().stop_from_vcpu(RunState::InternalError);
    }),
    ("panic", |vm| {
        vm.requests().guest_panicked(None);
    }),
    ("crash kernel", |vm| {
        vm.requests().guest_crashloaded(None);
    }),
    ("watchdog", |vm| {
        vm.requests().watchdog_expired();
    }),
];

/// A machine in a state, with the actions that let it live on.
fn reach(state: RunState) -> (Rc<Vm>, Rc<Notes>) {
    let (vm, notes) = match state {
        RunState::Prelaunch | RunState::InMigrate => machine(NOW),
        RunState::Suspended => suspended(NOW),
        _ => running(NOW),
    };
    let reached = match state {
        RunState::Prelaunch | RunState::Running | RunState::Suspended => true,
        RunState::InMigrate => vm.set_state(state).is_ok(),
        RunState::PostMigrate => {
            vm.stop(RunState::FinishMigrate).is_ok() && vm.set_state(state).is_ok()
        }
        _ => vm.stop(state).is_ok(),
    };
    assert!(reached && vm.state() == state, "{state}");
    vm.policy().set_shutdown(ShutdownAction::Pause);
    vm.policy().set_panic(PanicAction::Pause);
    vm.policy().set_watchdog(WatchdogAction::Pause);
    notes.take();
    (vm, notes)
}

/// Serves what is latched, and checks all that was noted since `from`.
fn check(vm: &Vm, notes: &Notes, from: RunState, case: &str) {
    for _ in 0..3 {
        assert_eq!(vm.dispatch(), Turn::Continue, "{case}");
    }
    let mut state = from;
    let mut stopped = !from.is_live();
    let mut guest_runs = from.is_running();
    let lines = notes.take();
    for line in &lines {
        match line.as_str() {
            "STOP" | "RESUME" => {
                assert_eq!(stopped, line == "RESUME", "{case}: {lines:#?}");
                stopped = line == "STOP";
            }
            "pause" => guest_runs = false,
            "resume" => guest_runs = true,
            _ => {}
        }
        if let Some((before, after)) = line.split_once(" -> ") {
            let (before, after) = (before.parse(), after.parse());
            let (Ok(before), Ok(after)) = (before, after) else {
                continue;
            };
            assert_eq!(state, before, "{case}: {lines:#?}");
            assert!(QEMU_10_2.allows(before, after), "{case}: {lines:#?}");
            state = after;
            // Fresh after a reset: no STOP tells of it, and RESUME follows.
            if state == RunState::Prelaunch {
                stopped = true;
            }
        }
    }
    assert_eq!(state, vm.state(), "{case}: {lines:#?}");
    assert_eq!(guest_runs, state.is_running(), "{case}: {lines:#?}");
}

fn ends(vm: &Vm, case: &str) {
    vm.requests().quit();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)), "{case}");
}

#[test]
fn alone_and_twice() {
    for &state in RunState::ALL {
        for (name, operate) in OPERATIONS {
            let (vm, notes) = reach(state);
            for round in ["once", "twice"] {
                let case = format!("{state}: {name}, {round}");
                let before = vm.state();
                operate(&vm);
                check(&vm, &notes, before, &case);
            }
            ends(&vm, &format!("{state}: {name}"));
        }
    }
}

#[test]
fn with_every_other_one() {
    for &state in RunState::ALL {
        for (first, operate) in OPERATIONS {
            for (second, operate_too) in OPERATIONS {
                let case = format!("{state}: {first}, {second}");
                let (vm, notes) = reach(state);
                operate(&vm);
                operate_too(&vm);
                check(&vm, &notes, state, &case);
                ends(&vm, &case);
            }
        }
    }
}

/// The second one comes while the first one's vCPUs are being paused: from another thread, or from a callback.
#[test]
fn in_the_middle_of_every_other_one() {
    let mut met = 0;
    for &state in RunState::ALL {
        for (first, operate) in OPERATIONS {
            for (second, operate_too) in OPERATIONS {
                let case = format!("{state}: {second} in the middle of {first}");
                let (vm, notes) = reach(state);
                let inside = Rc::downgrade(&vm);
                let operate_too = *operate_too;
                notes.while_pausing.set(Some(Box::new(move || {
                    if let Some(vm) = inside.upgrade() {
                        operate_too(&vm);
                    }
                })));
                operate(&vm);
                check(&vm, &notes, state, &case);
                if notes.while_pausing.take().is_none() {
                    met += 1;
                }
                ends(&vm, &case);
            }
        }
    }
    assert!(met > 1_000, "{met} only");
}
