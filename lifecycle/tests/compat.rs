//! The README's table of differences: a test for each row, both sides in each.

mod common;

use std::rc::Rc;

use lifecycle::{
    Compat, Error, Outcome, PanicAction, ShutdownAction, ShutdownCause, Teardown, TeardownPhase,
    Turn, WakeupReason, WatchdogAction,
};
use runstate::RunState;

use crate::common::{machine, running, suspended};

const OLD: Compat = Compat::Qemu7_2;
const NEW: Compat = Compat::Current;

#[test]
fn the_table_has_a_test_for_each_row() {
    let readme = include_str!("../README.md");
    let here = include_str!("compat.rs");
    let rows = readme.lines().filter_map(|line| {
        line.strip_prefix("| ")?
            .split_once(' ')?
            .0
            .parse::<u32>()
            .ok()
    });
    let mut count = 0;
    for row in rows {
        count += 1;
        assert_eq!(row, count, "rows are numbered");
        assert!(here.contains(&format!("fn row_{row:02}_")), "row {row}");
    }
    assert_eq!(count, 24);
}

#[test]
fn row_01_a_forbidden_transition() {
    let (vm, notes) = running(OLD);
    vm.stop(RunState::InternalError).expect("stops");
    notes.take();
    assert!(matches!(vm.start(), Err(Error::InvalidTransition(_))));
    assert_eq!(notes.take(), ["RESUME", "start clock"], "half-way");

    let (vm, notes) = running(NEW);
    vm.stop(RunState::InternalError).expect("stops");
    notes.take();
    assert_eq!(vm.start(), Err(Error::ResetRequired));
    assert!(matches!(
        vm.set_state(RunState::PostMigrate),
        Err(Error::InvalidTransition(_))
    ));
    assert!(notes.take().is_empty(), "nothing was done");
}

#[test]
fn row_02_the_table() {
    assert_eq!(OLD.table().edge_count(), 71);
    assert_eq!(NEW.table().edge_count(), 85);
}

#[test]
fn row_03_a_second_shutdown_cause() {
    for (compat, cause, code) in [
        (OLD, ShutdownCause::HostSignal, 0),
        (NEW, ShutdownCause::GuestPanic, 1),
    ] {
        let (vm, _) = running(compat);
        vm.policy().set_panic(PanicAction::ExitFailure);
        vm.policy().set_shutdown(ShutdownAction::Pause);
        vm.requests().shutdown(ShutdownCause::GuestPanic);
        vm.requests().killed(15, 0);
        let Turn::Exit(status) = vm.dispatch() else {
            panic!("a signal powers off")
        };
        assert_eq!((status.cause, status.code()), (cause, code));
        assert_eq!(status.signal.map(|signal| signal.number), Some(15));
    }
}

#[test]
fn row_04_a_signal_and_the_shutdown_action() {
    for (compat, action) in [
        (OLD, ShutdownAction::Poweroff),
        (NEW, ShutdownAction::Pause),
    ] {
        for quit in [true, false] {
            let (vm, _) = running(compat);
            vm.policy().set_shutdown(ShutdownAction::Pause);
            if quit {
                vm.requests().quit();
            } else {
                vm.requests().killed(15, 1);
            }
            assert!(matches!(vm.dispatch(), Turn::Exit(_)));
            assert_eq!(vm.policy().actions().shutdown, action);
        }
    }
}

#[test]
fn row_05_a_second_reset() {
    use ShutdownCause::{GuestReset, HostQmpSystemReset, SubsystemReset};
    for (compat, first, second, stands) in [
        (OLD, GuestReset, HostQmpSystemReset, HostQmpSystemReset),
        (OLD, GuestReset, SubsystemReset, SubsystemReset),
        (NEW, GuestReset, HostQmpSystemReset, GuestReset),
        (NEW, GuestReset, SubsystemReset, GuestReset),
        (NEW, SubsystemReset, GuestReset, GuestReset),
    ] {
        let (vm, _) = running(compat);
        vm.requests().reset(first);
        vm.requests().reset(second);
        assert_eq!(vm.requests().reset_pending(), stands);
    }
}

#[test]
fn row_06_a_second_latched_stop() {
    use RunState::{InternalError, IoError, Paused};
    for (compat, first, second, stands) in [
        (OLD, IoError, Paused, Paused),
        (NEW, IoError, Paused, IoError),
        (NEW, IoError, InternalError, InternalError),
        (NEW, InternalError, Paused, InternalError),
    ] {
        let (vm, _) = running(compat);
        vm.requests().vmstop(first);
        vm.requests().vmstop(second);
        assert_eq!(vm.dispatch(), Turn::Continue);
        assert_eq!(vm.state(), stands);
    }
}

#[test]
fn row_07_when_a_woken_machine_reads_running() {
    for (compat, state) in [(OLD, RunState::Running), (NEW, RunState::Suspended)] {
        let (vm, notes) = suspended(compat);
        vm.request_wakeup(WakeupReason::Rtc).expect("sleeps");
        assert_eq!(vm.state(), state);
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Running);
        assert_eq!(notes.events(), ["WAKEUP"]);
    }
    // Asked for on another thread, the old machine reads it in the next turn.
    let (vm, notes) = suspended(OLD);
    vm.requests().wakeup(WakeupReason::Rtc).expect("sleeps");
    assert_eq!(vm.state(), RunState::Suspended);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Running);
    assert_eq!(notes.events(), ["WAKEUP"]);
}

#[test]
fn row_08_a_wakeup_of_a_machine_that_was_stopped_meanwhile() {
    for (compat, events) in [(OLD, vec!["STOP", "WAKEUP"]), (NEW, vec!["STOP"])] {
        let (vm, notes) = suspended(compat);
        vm.request_wakeup(WakeupReason::Other).expect("sleeps");
        vm.stop(RunState::Paused).expect("stops");
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Paused);
        assert_eq!(notes.events(), events, "{compat}");
    }
}

#[test]
fn row_09_a_suspended_machine_can_be_stopped() {
    let (vm, notes) = suspended(OLD);
    vm.stop(RunState::Paused).expect("nothing to do");
    assert_eq!(vm.state(), RunState::Suspended);
    assert_eq!(notes.take(), ["flush"]);

    let (vm, notes) = suspended(NEW);
    vm.stop(RunState::Paused).expect("stops");
    assert_eq!(
        notes.take(),
        ["suspended -> paused", "stop clock", "STOP", "flush"],
        "its vCPUs are parked already"
    );
    assert_eq!(
        vm.request_wakeup(WakeupReason::Other),
        Err(Error::NotSuspended)
    );
    vm.cont().expect("goes on");
    assert_eq!(
        notes.take(),
        ["RESUME", "start clock", "paused -> suspended"],
        "its vCPUs stay parked"
    );
    vm.stop(RunState::Paused).expect("stops");
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Prelaunch);
    vm.cont().expect("starts");
    assert_eq!(vm.state(), RunState::Running, "a reset forgets the sleep");
}

#[test]
fn row_10_a_suspended_machine_stopped_for_a_reason_without_an_edge() {
    let (vm, _) = suspended(OLD);
    vm.requests().vmstop(RunState::IoError);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Suspended);

    let (vm, notes) = suspended(NEW);
    vm.requests().vmstop(RunState::IoError);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(notes.events(), ["STOP"]);
    vm.cont().expect("goes on");
    assert_eq!(vm.state(), RunState::Suspended);

    let (vm, _) = suspended(NEW);
    vm.stop(RunState::InternalError).expect("stops");
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(vm.cont(), Err(Error::ResetRequired));
}

#[test]
fn row_11_a_suspend_that_finds_the_machine_stopped() {
    let (vm, _) = running(OLD);
    vm.requests().suspend();
    vm.stop(RunState::Paused).expect("stops");
    assert!(matches!(vm.dispatch(), Turn::Abort(_)));

    let (vm, notes) = running(NEW);
    vm.requests().suspend();
    vm.stop(RunState::Paused).expect("stops");
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(vm.state(), RunState::Paused);
    vm.cont().expect("goes on");
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Suspended);
    assert_eq!(notes.events(), ["STOP", "RESUME", "SUSPEND"]);
}

#[test]
fn row_12_a_suspend_and_a_reset_in_one_turn() {
    for (compat, state) in [(OLD, RunState::Prelaunch), (NEW, RunState::Running)] {
        let (vm, _) = running(compat);
        vm.requests().suspend();
        vm.requests().reset(ShutdownCause::GuestReset);
        vm.dispatch();
        assert_eq!(vm.state(), state);
        vm.dispatch();
        assert_eq!(vm.state(), state, "the suspend is gone");
    }
}

#[test]
fn row_13_requests_that_the_guest_makes_while_it_is_reset() {
    for (compat, resets) in [(OLD, 2), (NEW, 1)] {
        let (vm, notes) = running(compat);
        vm.requests().reset(ShutdownCause::GuestReset);
        // The other vCPU has a reset of its own, just before it is paused.
        let requests = vm.requests().clone();
        notes.while_pausing.set(Some(Box::new(move || {
            requests.reset(ShutdownCause::GuestReset);
        })));
        vm.dispatch();
        vm.dispatch();
        let lines = notes.take();
        let seen = lines.iter().filter(|line| *line == "reset guest-reset");
        assert_eq!(seen.count(), resets, "{compat}: {lines:?}");
    }
}

#[test]
fn row_14_a_reset_during_a_dump_or_a_checkpoint() {
    let (vm, _) = running(OLD);
    vm.stop(RunState::SaveVm).expect("stops");
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    assert!(matches!(vm.dispatch(), Turn::Abort(_)));

    for state in [RunState::SaveVm, RunState::Colo] {
        let (vm, notes) = running(NEW);
        vm.stop(state).expect("stops");
        vm.requests().reset(ShutdownCause::HostQmpSystemReset);
        assert_eq!(vm.dispatch(), Turn::Continue);
        assert_eq!(vm.state(), state);
        assert_eq!(notes.events(), ["STOP", "RESET"]);
        vm.start().expect("the dump is over");
    }
}

#[test]
fn row_15_a_start_with_a_stop_latched() {
    for (compat, state) in [(OLD, RunState::Running), (NEW, RunState::Watchdog)] {
        let (vm, notes) = running(compat);
        vm.stop(RunState::Paused).expect("stops");
        vm.requests().vmstop(RunState::Watchdog);
        vm.cont().expect("goes on");
        vm.dispatch();
        assert_eq!(vm.state(), state);
        let told = notes.events();
        assert_eq!(told.len(), if compat == OLD { 2 } else { 3 }, "{told:?}");
    }
    for compat in [OLD, NEW] {
        // Running: both take the stop back, in so many words.
        let (vm, notes) = running(compat);
        vm.requests().vmstop(RunState::IoError);
        vm.cont().expect("runs");
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Running);
        assert_eq!(notes.events(), ["STOP", "RESUME"]);
    }
}

#[test]
fn row_16_a_latched_stop_that_finds_the_machine_stopped() {
    let (vm, notes) = machine(OLD);
    vm.requests().vmstop(RunState::InternalError);
    vm.dispatch();
    assert_eq!(notes.take(), ["flush"]);
    vm.start().expect("starts");

    let (vm, notes) = machine(NEW);
    vm.requests().vmstop(RunState::InternalError);
    vm.dispatch();
    assert_eq!(
        notes.take(),
        ["report: request dropped: vmstop does not apply to a machine that is prelaunch"]
    );
    assert_eq!(vm.start(), Err(Error::ResetRequired));
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    vm.dispatch();
    vm.start().expect("starts");
}

#[test]
fn row_17_a_stop_in_a_live_state() {
    for state in [RunState::Running, RunState::Suspended] {
        let (vm, notes) = running(OLD);
        vm.stop(state).expect("is done");
        assert!(notes.take().contains(&"STOP".to_owned()));

        let (vm, notes) = running(NEW);
        assert_eq!(vm.stop(state), Err(Error::NotAStop(state)));
        assert!(notes.take().is_empty());
        vm.requests().vmstop(state);
        vm.dispatch();
        assert_eq!(vm.state(), RunState::Running);
        assert!(notes.events().is_empty());
    }
}

#[test]
fn row_18_a_needed_reset_is_not_got_round() {
    for (compat, works) in [(OLD, true), (NEW, false)] {
        let (vm, _) = running(compat);
        vm.stop(RunState::Shutdown).expect("stops");
        vm.set_state(RunState::Colo).expect("is an edge");
        assert_eq!(vm.start().is_ok(), works, "{compat}");
    }
}

#[test]
fn row_19_changes_that_callbacks_ask_for() {
    for (compat, first, rest) in [
        (OLD, Outcome::Done, ["STOP", "io-error"]),
        (NEW, Outcome::Deferred, ["io-error", "STOP"]),
    ] {
        let (vm, notes) = machine(compat);
        let weak = Rc::downgrade(&vm);
        let heard = notes.clone();
        let handler = vm.add_state_handler(0, move |notice| {
            heard.add(notice.state);
            if let Some(vm) = weak.upgrade().filter(|_| notice.running) {
                assert_eq!(vm.stop(RunState::IoError), Ok(first));
            }
        });
        let late = notes.clone();
        let other = vm.add_state_handler(1, move |notice| {
            late.add(format!("late {}", notice.running));
        });
        vm.start().expect("starts");
        assert_eq!(vm.state(), RunState::IoError);
        let lines = notes.take();
        let at = |what: &str| lines.iter().position(|line| line == what);
        let (started, stopped) = (at("late true"), at("late false"));
        // In order only where the changes do not nest.
        assert_eq!(started < stopped, compat == NEW, "{lines:?}");
        assert!(at(rest[0]).is_some() && at(rest[1]).is_some());
        drop((handler, other));
    }
}

#[test]
fn row_20_a_handler_that_is_added_during_a_round() {
    for (compat, calls) in [(OLD, 1), (NEW, 0)] {
        let (vm, notes) = machine(compat);
        let weak = Rc::downgrade(&vm);
        let log = notes.clone();
        let first = vm.add_state_handler(0, move |_| {
            let Some(vm) = weak.upgrade() else { return };
            let log = log.clone();
            vm.add_state_handler(2, move |_| log.add("added")).detach();
        });
        let second = vm.add_state_handler(1, |_| {});
        vm.start().expect("starts");
        let seen = notes.take().iter().filter(|line| *line == "added").count();
        assert_eq!(seen, calls, "{compat}");
        drop((first, second));
    }
}

#[test]
fn row_21_a_bare_change_of_a_live_state() {
    let (vm, _) = running(OLD);
    vm.set_state(RunState::Paused).expect("is an edge");
    vm.set_state(RunState::Running).expect("is an edge");

    let (vm, notes) = running(NEW);
    assert!(matches!(
        vm.set_state(RunState::Paused),
        Err(Error::BareChange(_))
    ));
    vm.stop(RunState::Paused).expect("stops");
    notes.take();
    assert!(matches!(
        vm.set_state(RunState::Running),
        Err(Error::BareChange(_))
    ));
    assert!(notes.take().is_empty());
}

#[test]
fn row_22_an_incoming_machine_that_was_suspended() {
    for (compat, state) in [(OLD, RunState::Suspended), (NEW, RunState::Paused)] {
        let (vm, notes) = machine(compat);
        vm.set_state(RunState::InMigrate).expect("is an edge");
        vm.set_autostart(false);
        assert_eq!(vm.restore("suspended"), Ok(RunState::Suspended));
        assert_eq!(vm.state(), state);
        notes.take();
        vm.cont().expect("legal");
        assert_eq!(vm.state(), RunState::Suspended, "it sleeps on");
        assert!(!notes.take().contains(&"resume".to_owned()));
    }
}

#[test]
fn row_23_the_order_of_the_tear_down() {
    for (compat, drains_first) in [(OLD, true), (NEW, false)] {
        let (vm, _) = running(compat);
        let mut order = Vec::new();
        let teardown: Teardown<Error> = Teardown::new();
        let bound = std::time::Duration::from_secs(10);
        let failures = teardown.run(&*vm, bound, |phase| order.push(phase));
        assert!(failures.is_empty());
        let at = |phase| order.iter().position(|of| *of == phase);
        let (drain, stop) = (at(TeardownPhase::Drain), at(TeardownPhase::StopMachine));
        assert_eq!(drain < stop, drains_first, "{compat}");
        assert_eq!(order.len(), TeardownPhase::ALL.len());
        assert_eq!(vm.state(), RunState::Shutdown);
    }
}

#[test]
fn row_24_a_watchdog_that_powers_off() {
    for (compat, expected) in [(OLD, vec!["WATCHDOG"]), (NEW, vec!["WATCHDOG", "SHUTDOWN"])] {
        let (vm, notes) = running(compat);
        vm.policy().set_watchdog(WatchdogAction::Poweroff);
        vm.policy().set_shutdown(ShutdownAction::Pause);
        vm.requests().watchdog_expired();
        let Turn::Exit(status) = vm.dispatch() else {
            panic!("{compat}: it ends, whatever the shutdown action is")
        };
        assert_eq!(notes.events(), expected, "{compat}");
        let cause = match compat {
            Compat::Qemu7_2 => ShutdownCause::None,
            _ => ShutdownCause::GuestReset,
        };
        assert_eq!((status.cause, status.code()), (cause, 0), "{compat}");
        assert_eq!(
            vm.policy().actions().shutdown,
            ShutdownAction::Pause,
            "{compat}"
        );
    }
}
