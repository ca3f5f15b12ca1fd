//! What is posted is served once, as it was meant, and is neither lost nor left over.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, Weak};

use lifecycle::{
    Checkpoint, Lifecycle, NoReplay, PanicAction, RebootAction, ReplayGate, Requests,
    RequestsState, ShutdownAction, ShutdownCause, Turn, Wake, WatchdogAction,
};
use runstate::RunState;

use crate::NOW;
use crate::common::{Bell, Notes, Noting, machine_with, running};

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
    leaves_the_policy_alone(|requests| requests.killed(1, 0));
}

#[test]
fn quit_powers_off_and_leaves_the_policy_alone() {
    leaves_the_policy_alone(|requests| {
        requests.quit();
    });
}

fn leaves_the_policy_alone(ask: impl Fn(&Requests)) {
    let (vm, _) = running(NOW);
    vm.policy().set_shutdown(ShutdownAction::Pause);
    ask(vm.requests());
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

/// The same, at the one moment that matters: the turn has read the latch, which held a reset that
/// nobody hears of, and has not cleared it.
#[test]
fn a_reset_posted_between_the_look_and_the_clear_is_not_lost() {
    #[derive(Default)]
    struct PostsWhenAsked(OnceLock<Weak<Requests>>);

    impl ReplayGate for PostsWhenAsked {
        fn checkpoint(&self, checkpoint: Checkpoint) -> bool {
            if checkpoint == Checkpoint::ResetRequested {
                let requests = self.0.get().and_then(Weak::upgrade).expect("there are");
                requests.reset(ShutdownCause::GuestReset);
            }
            true
        }
    }

    let gate = Arc::new(PostsWhenAsked::default());
    let (vm, notes) = machine_with(NOW, gate.clone());
    gate.0.set(Arc::downgrade(vm.requests())).expect("set once");
    vm.start().expect("starts");
    notes.take();
    vm.requests().reset(ShutdownCause::SnapshotLoad);
    assert_eq!(vm.dispatch(), Turn::Continue);
    assert_eq!(notes.events(), ["RESET"]);
    assert_eq!(vm.requests().snapshot(), RequestsState::default());
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
    source.requests().guest_pvshutdown();
    source.requests().watchdog_expired();
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

/// QEMU: an exit code that the guest gave, and the event that explains a shutdown, are given apart
/// from the request. Between the two a turn of the main loop may end the process, and a client never
/// hears why.
#[test]
fn what_explains_a_shutdown_is_told_first_whenever_it_is_posted() {
    type Post = fn(&Requests);
    let posts: [(Post, &[&str]); 3] = [
        (
            |requests| {
                requests.suspend_to_disk();
            },
            &["SUSPEND_DISK", "SHUTDOWN"],
        ),
        (
            |requests| {
                requests.guest_pvshutdown();
            },
            &["GUEST_PVSHUTDOWN", "SHUTDOWN"],
        ),
        (
            |requests| {
                requests.guest_panicked(None);
            },
            &["GUEST_PANICKED", "SHUTDOWN"],
        ),
    ];
    for (post, expected) in posts {
        let (vm, notes) = running(NOW);
        let requests = Arc::clone(vm.requests());
        // After the turn has looked for reports, and before it looks for a shutdown.
        let between = Box::new(move || post(&requests));
        notes.while_pausing.set(Some(between));
        vm.requests().debug();
        assert_eq!(vm.dispatch(), Turn::Continue);
        assert_eq!(notes.events(), ["STOP"], "not half of it");
        assert!(matches!(vm.dispatch(), Turn::Exit(_)));
        assert_eq!(notes.events(), expected);
    }
}

/// QEMU 7.2 and 10: a watchdog's `poweroff` calls exit() in a timer: no SHUTDOWN, nothing flushed.
#[test]
fn a_watchdog_that_powers_off_ends_the_process_in_order() {
    let (vm, notes) = running(NOW);
    vm.policy().set_watchdog(WatchdogAction::Poweroff);
    let told = Rc::new(std::cell::Cell::new(false));
    let hears = Rc::clone(&told);
    vm.on_shutdown(move |_| hears.set(true)).detach();
    vm.requests().watchdog_expired();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    assert!(told.get(), "who waits for a shutdown hears of it");
    assert_eq!(notes.events(), ["WATCHDOG", "SHUTDOWN"]);
    vm.shutdown_for_exit().expect("stops");
    assert!(notes.take().contains(&"flush".to_owned()));
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
                requests.watchdog_expired();
            }
        }
    }
    let wake = Arc::new(Interrupting(std::sync::OnceLock::new(), 0.into()));
    let requests = Arc::new(Requests::new(wake.clone()));
    assert!(wake.0.set(requests.clone()).is_ok());
    requests.shutdown(ShutdownCause::GuestShutdown);
    assert_eq!(requests.shutdown_pending(), ShutdownCause::GuestShutdown);
}
