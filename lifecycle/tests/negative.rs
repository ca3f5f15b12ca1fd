//! What is refused, and what fails: by name, and with nothing half-done.

mod common;

use lifecycle::{
    Actions, Compat, DecodeError, Error, PanicAction, PanicInfo, Posted, RebootAction,
    RequestsState, S390CrashReason, ShutdownAction, ShutdownCause, Startup, StartupPhase, Teardown,
    TeardownFailure, TeardownPhase, Turn, WakeupReason, WatchdogAction,
};

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use runstate::RunState;

use crate::common::{is_event, machine, running, suspended};

const NOW: Compat = Compat::Current;

#[test]
fn cont_is_refused_in_qemus_words() {
    let (vm, notes) = running(NOW);
    vm.stop(RunState::InternalError).expect("stops");
    notes.take();
    let refused = vm.cont().expect_err("needs a reset");
    assert_eq!(
        refused.to_string(),
        "Resetting the Virtual Machine is required"
    );
    let (vm, notes) = running(NOW);
    vm.stop(RunState::FinishMigrate).expect("stops");
    notes.take();
    let refused = vm.cont().expect_err("migrating");
    assert_eq!(refused.to_string(), "Migration is not finalized yet");
    assert!(notes.take().is_empty());
}

#[test]
fn cont_and_pause_of_an_incoming_machine_say_whether_it_will_start() {
    let (vm, notes) = machine(NOW);
    vm.set_state(RunState::InMigrate).expect("is an edge");
    notes.take();
    vm.pause().expect("legal");
    assert!(!vm.autostart());
    vm.cont().expect("legal");
    assert!(vm.autostart());
    assert!(notes.take().is_empty(), "no event");
}

#[test]
fn a_wakeup_is_refused_in_qemus_words() {
    let (vm, _) = running(NOW);
    let refused = vm.system_wakeup().expect_err("no support");
    assert_eq!(
        refused.to_string(),
        "wake-up from suspend is not supported by this guest"
    );
    vm.requests().register_wakeup_support();
    let refused = vm.system_wakeup().expect_err("awake");
    assert_eq!(
        refused.to_string(),
        "Unable to wake up: guest is not in suspended state"
    );
}

#[test]
fn a_reason_that_is_not_enabled_does_nothing() {
    let (vm, notes) = suspended(NOW);
    vm.requests().enable_wakeup(WakeupReason::Rtc, false);
    vm.request_wakeup(WakeupReason::Rtc).expect("silent");
    vm.request_wakeup(WakeupReason::None).expect("silent");
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Suspended);
    assert!(notes.take().is_empty());
}

#[test]
fn vcpus_that_cannot_be_reset_are_reported_once() {
    for by_thread in [true, false] {
        let (vm, notes) = running(NOW);
        vm.requests().set_cpus_resettable(false);
        if by_thread {
            vm.requests().reset(ShutdownCause::GuestReset);
        } else {
            vm.request_reset(ShutdownCause::GuestReset);
        }
        assert!(matches!(vm.dispatch(), Turn::Exit(_)));
        let lines = notes.take();
        let reports = lines
            .iter()
            .filter(|line| line.contains("cpus are not resettable"));
        assert_eq!(reports.count(), 1);
    }
}

#[test]
fn a_flush_that_fails_is_told_and_the_machine_is_stopped() {
    let (vm, notes) = running(NOW);
    notes.flush_fails.set(true);
    assert!(matches!(vm.stop(RunState::Paused), Err(Error::Flush(_))));
    assert_eq!(vm.state(), RunState::Paused);
    assert_eq!(notes.events(), ["STOP"]);
}

#[test]
fn names_that_do_not_exist_are_answered_with_those_that_do() {
    let error = "reboot".parse::<PanicAction>().expect_err("no such action");
    assert_eq!(
        error.to_string(),
        "no such panic action: expected one of pause, shutdown, exit-failure, none"
    );
    assert_eq!("exit-failure".parse(), Ok(PanicAction::ExitFailure));
}

#[test]
fn the_watchdog_does_what_its_action_says() {
    for action in WatchdogAction::ALL {
        let (vm, notes) = running(NOW);
        vm.policy().set_watchdog(*action);
        vm.policy().set_shutdown(ShutdownAction::Pause);
        // Twice before anybody looks is once.
        assert_eq!(vm.requests().watchdog_expired(), Posted::Continue);
        vm.requests().watchdog_expired();
        assert!(notes.take().is_empty(), "the main loop tells of it");
        let turn = vm.dispatch();
        let seen = notes.take();
        let said = |line: &str| seen.iter().any(|seen| seen == line);
        let events: Vec<_> = seen.iter().filter(|line| is_event(line)).collect();
        let state = vm.state();
        let and = |event| vec!["WATCHDOG", event];
        match action {
            WatchdogAction::Reset => assert_eq!(events, and("RESET")),
            WatchdogAction::Shutdown => assert_eq!(events, and("POWERDOWN")),
            WatchdogAction::Poweroff => {
                assert_eq!(events, and("SHUTDOWN"));
                assert!(matches!(turn, Turn::Exit(_)));
            }
            WatchdogAction::Pause => {
                assert_eq!(events, and("STOP"));
                assert_eq!(state, RunState::Watchdog);
            }
            WatchdogAction::InjectNmi => {
                assert_eq!(events, ["WATCHDOG"]);
                assert!(said(&format!("report: {}", Error::NmiNotSupported)));
            }
            WatchdogAction::Debug => {
                assert_eq!(events, ["WATCHDOG"]);
                assert!(said("report: watchdog: timer fired"));
            }
            WatchdogAction::None => assert_eq!(seen, ["WATCHDOG"]),
        }
    }
}

#[test]
fn a_watchdogs_reset_is_a_shutdown_where_a_reboot_is() {
    let (vm, notes) = running(NOW);
    vm.policy().set_reboot(RebootAction::Shutdown);
    vm.requests().watchdog_expired();
    let Turn::Exit(status) = vm.dispatch() else {
        panic!("it ends")
    };
    assert_eq!(notes.events(), ["WATCHDOG", "SHUTDOWN"]);
    assert_eq!(status.cause, ShutdownCause::GuestReset);
}

#[test]
fn a_shutdown_through_pvpanic_is_an_event_and_a_shutdown() {
    for action in ShutdownAction::ALL {
        let (vm, notes) = running(NOW);
        vm.policy().set_shutdown(*action);
        vm.requests().guest_pvshutdown();
        assert!(notes.take().is_empty(), "the main loop tells of it");
        let turn = vm.dispatch();
        let mut expected = vec!["GUEST_PVSHUTDOWN", "SHUTDOWN"];
        match action {
            ShutdownAction::Poweroff => {
                let Turn::Exit(status) = turn else {
                    panic!("it ends")
                };
                assert_eq!(status.cause, ShutdownCause::GuestShutdown);
            }
            ShutdownAction::Pause => {
                assert_eq!((turn, vm.state()), (Turn::Continue, RunState::Shutdown));
                expected.push("STOP");
            }
        }
        assert_eq!(notes.events(), expected);
    }
}

#[test]
fn what_a_guest_told_of_its_panic_goes_with_the_event_and_to_the_log() {
    let (vm, notes) = running(NOW);
    vm.policy().set_panic(PanicAction::None);
    let s390 = PanicInfo::S390 {
        core: 1,
        psw_mask: 2,
        psw_addr: 3,
        reason: S390CrashReason::DisabledWait,
    };
    for info in [PanicInfo::HyperV([1, 2, 3, 4, 0xff]), s390] {
        vm.requests().guest_panicked(Some(info));
        vm.dispatch();
        let lines = notes.take();
        assert_eq!(
            lines[..2],
            [
                "GUEST_PANICKED".into(),
                format!("report: guest crashed: {info}")
            ]
        );
    }
    assert_eq!(vm.state(), RunState::Running);
}

#[test]
fn a_start_up_that_fails_is_undone_in_reverse() {
    let log: Rc<RefCell<Vec<String>>> = Rc::default();
    let note = |line: &'static str| {
        let log = log.clone();
        move || log.borrow_mut().push(line.to_owned())
    };
    let ok = |line: &'static str| {
        let note = note(line);
        move || {
            note();
            Ok::<(), &str>(())
        }
    };
    let startup = Startup::new()
        .with(StartupPhase::Sockets, ok("sockets"), note("no sockets"))
        .with(StartupPhase::Trace, ok("trace"), note("no trace"))
        .with(StartupPhase::Monitor, ok("monitor"), note("no monitor"))
        .with(
            StartupPhase::Monitor,
            ok("second monitor"),
            note("no second monitor"),
        )
        .with(
            StartupPhase::Crypto,
            || Err("no entropy"),
            note("no crypto"),
        );
    let failed = startup.run(|_| {}).expect_err("crypto fails");
    assert_eq!(
        (failed.phase, failed.error),
        (StartupPhase::Crypto, "no entropy")
    );
    assert_eq!(
        failed.to_string(),
        "start-up failed in crypto_init: no entropy"
    );
    let expected = [
        "trace",
        "monitor",
        "second monitor",
        "no second monitor",
        "no monitor",
        "no trace",
    ];
    assert_eq!(*log.borrow(), expected);
}

#[test]
fn a_tear_down_goes_on_whatever_fails() {
    let (vm, notes) = running(NOW);
    notes.pause_fails.set(true);
    notes.flush_fails.set(true);
    let teardown = Teardown::new()
        .with(TeardownPhase::Debugger, |_| Err("gone"))
        .with(TeardownPhase::Network, |deadline| {
            let (leave, left) = std::sync::mpsc::channel::<()>();
            let thread = std::thread::spawn(move || left.recv().is_ok());
            let still = deadline.join(thread).expect_err("it waits for us");
            drop(leave);
            assert!(!still.0.join().expect("ends"));
            Err("a thread was not done")
        })
        .with(TeardownPhase::UserObjects, |deadline| {
            let done = deadline.join(std::thread::spawn(|| 7));
            assert!(done.is_ok_and(|joined| joined.is_ok_and(|seven| seven == 7)));
            Ok(())
        });
    let mut phases = 0;
    let failures = teardown.run(&*vm, Duration::from_secs(2), |_| phases += 1);
    assert_eq!(phases, TeardownPhase::ALL.len());
    assert!(matches!(
        failures[..],
        [
            TeardownFailure::Task(TeardownPhase::Debugger, "gone"),
            TeardownFailure::Machine(Error::Flush(_)),
            TeardownFailure::Task(TeardownPhase::Network, _),
        ]
    ));
    assert_eq!(vm.state(), RunState::Shutdown);
}

#[test]
fn saved_requests_that_are_forged_are_refused() {
    let good = RequestsState::default().encode();
    assert_eq!(RequestsState::decode(&good), Ok(RequestsState::default()));
    assert_eq!(
        RequestsState::decode(&good[1..]),
        Err(DecodeError::Length(good.len() - 1))
    );
    assert_eq!(RequestsState::decode(&[]), Err(DecodeError::Length(0)));
    let with = |at: usize, byte: u8| {
        let mut bytes = good;
        bytes[at] = byte;
        RequestsState::decode(&bytes)
    };
    assert_eq!(with(0, 2), Err(DecodeError::Version(2)));
    for (word, name) in [
        (0, "flags"),
        (1, "shutdown"),
        (2, "signal"),
        (3, "reset"),
        (4, "wakeup"),
        (5, "vmstop"),
        (6, "panicked"),
        (12, "crashloaded"),
    ] {
        // The highest byte of a word: no field reaches there, but for a sender and an exit code.
        assert_eq!(with(8 + word * 8, 0xff), Err(DecodeError::Field(name)));
    }
}

#[test]
fn a_post_from_elsewhere_does_not_change_the_state() {
    let (vm, _) = machine(NOW);
    let cell = vm.state_cell();
    let requests = vm.requests().clone();
    let seen = cell.snapshot().generation;
    std::thread::spawn(move || {
        requests.vmstop(RunState::Paused);
        requests.suspend();
        requests.killed(15, 0);
    })
    .join()
    .expect("posts");
    assert!(cell.changed_since(seen).is_none());
    assert_eq!(vm.policy().actions(), Actions::default());
}

#[test]
fn a_prepared_stop_is_not_seen_before_it_is_requested() {
    let (vm, notes) = running(NOW);
    let prepared = vm.requests().vmstop_prepare();
    vm.dispatch();
    assert_eq!(vm.requests().vmstop_pending(), None);
    assert_eq!(vm.state(), RunState::Running);
    prepared.request(RunState::IoError);
    vm.dispatch();
    assert_eq!(vm.state(), RunState::IoError);
    drop(vm.requests().vmstop_prepare());
    assert_eq!(
        vm.requests().vmstop_pending(),
        None,
        "nothing was requested"
    );
    assert_eq!(notes.events(), ["STOP"]);
}

#[test]
fn a_suspend_to_disk_is_an_event_and_a_shutdown() {
    let (vm, notes) = running(NOW);
    vm.suspend_to_disk();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    assert_eq!(notes.events(), ["SUSPEND_DISK", "SHUTDOWN"]);
    vm.requests().suspend_to_disk();
    assert!(notes.events().is_empty(), "the main loop tells of it");
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    assert_eq!(notes.events(), ["SUSPEND_DISK", "SHUTDOWN"]);
}

#[test]
fn the_reset_at_power_on_is_silent_and_one_that_fails_keeps_the_machine_off() {
    let (vm, notes) = machine(NOW);
    vm.system_reset(ShutdownCause::None).expect("resets");
    assert_eq!(notes.take(), ["reset none"]);
    vm.system_reset(ShutdownCause::SnapshotLoad)
        .expect("resets");
    assert!(notes.events().is_empty());
    notes.reset_fails.set(true);
    assert!(matches!(
        vm.system_reset(ShutdownCause::None),
        Err(Error::Reset(_))
    ));
    assert_eq!(vm.start(), Err(Error::ResetRequired));
    notes.reset_fails.set(false);
    vm.system_reset(ShutdownCause::None).expect("resets");
    vm.start().expect("starts");
}

#[test]
fn a_held_vcpu_is_released_when_its_request_is_dropped() {
    let (vm, notes) = running(NOW);
    assert_eq!(
        vm.requests().stop_from_vcpu(RunState::Running),
        Posted::Hold
    );
    vm.dispatch();
    assert!(notes.take().contains(&"resume".to_owned()));
    // A sleep that a reset overtakes: the reset resumes.
    assert_eq!(vm.requests().suspend(), Posted::Hold);
    vm.requests().reset(ShutdownCause::HostQmpSystemReset);
    vm.dispatch();
    assert_eq!(notes.take().last().map(String::as_str), Some("resume"));
    // A panic that the policy, changed meanwhile, lets go.
    assert_eq!(vm.requests().guest_panicked(None), Posted::Hold);
    vm.policy().set_panic(PanicAction::None);
    vm.dispatch();
    assert_eq!(notes.take(), ["GUEST_PANICKED", "resume"]);
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic_and_what_decodes_encodes_to_the_same(
        bytes in proptest::collection::vec(
            prop_oneof![4 => Just(0_u8), 1 => 0..12_u8, 1 => any::<u8>()],
            RequestsState::ENCODED_LEN
        )
    ) {
        let mut bytes = bytes;
        bytes[0] = 1;
        if let Ok(state) = RequestsState::decode(&bytes) {
            prop_assert_eq!(state.encode().to_vec(), bytes);
        }
    }
}
