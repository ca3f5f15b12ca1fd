//! Requests of other threads against the main loop, in every interleaving (of an observer's, up to a number of
//! preemptions).
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p lifecycle --test loom --target-dir target/loom`
//!
//! In the model: the latches, the run state, and the eventfd that a post writes to, which is one flag. The main loop is the
//! test's own thread, with the real turns of a real `Lifecycle`. At the end all posters have ended, and the main loop goes on for as long as
//! the flag is set, as a main loop does: what is not served by then never would be.
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle::{
    Error, Event, EventSink, ExitStatus, Lifecycle, Machine, MachineError, PanicAction, PanicInfo,
    Posted, Requests, RequestsState, ShutdownAction, ShutdownCause, Turn, Wake,
};
use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use runstate::RunState;

/// The eventfd.
struct Bell {
    rung: AtomicBool,
    /// Whether the crate's own wake-ups arrive.
    connected: bool,
}

impl Bell {
    fn new(connected: bool) -> Arc<Self> {
        Arc::new(Self {
            rung: AtomicBool::new(false),
            connected,
        })
    }

    fn ring(&self) {
        // Not a store: loom may overlook one. A write to an eventfd adds, too.
        let _before = self.rung.swap(true, Ordering::AcqRel);
    }

    /// Whether it was rung since the last look.
    fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(&self) {
        if self.connected {
            self.ring();
        }
    }
}

/// A machine that does what it is told, and what was told of it.
#[derive(Clone, Default)]
struct Vm(Rc<RefCell<Vec<Event>>>);

impl Machine for Vm {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        Ok(())
    }

    fn resume_vcpus(&self) {}

    fn reset_devices(&self, _: ShutdownCause) -> Result<(), MachineError> {
        Ok(())
    }
}

impl EventSink for Vm {
    fn event(&self, event: &Event) {
        self.0.borrow_mut().push(*event);
    }
}

/// A machine's main loop.
struct MainLoop {
    bell: Arc<Bell>,
    vm: Lifecycle<Vm, Vm>,
    seen: Vm,
}

impl MainLoop {
    /// Of a machine that runs, and has not been seen to do anything.
    fn running() -> Self {
        Self::with(Bell::new(true))
    }

    fn with(bell: Arc<Bell>) -> Self {
        let requests = Requests::new(Arc::clone(&bell) as Arc<dyn Wake>);
        let seen = Vm::default();
        let vm = Lifecycle::new(Arc::new(requests), seen.clone(), seen.clone());
        vm.start().unwrap();
        seen.0.take();
        Self { bell, vm, seen }
    }

    /// A turn, for whatever reason: of the wake-ups until now none is left.
    fn turn(&self) -> Turn {
        self.bell.take();
        self.vm.dispatch()
    }

    /// Turns for as long as there are wake-ups, or until the end. Nothing is left then.
    fn settle(&self) -> Option<ExitStatus> {
        while self.bell.take() {
            if let Turn::Exit(status) = self.vm.dispatch() {
                return Some(status);
            }
        }
        let left = self.vm.requests().snapshot();
        assert_eq!(left, RequestsState::default(), "lost: nobody will look");
        None
    }

    fn names(&self) -> Vec<&'static str> {
        self.seen.0.borrow().iter().map(Event::name).collect()
    }

    fn count(&self, name: &str) -> usize {
        self.names().iter().filter(|seen| **seen == name).count()
    }
}

/// Posts on a thread of its own.
fn post(main: &MainLoop, post: impl FnOnce(&Requests) + 'static) -> thread::JoinHandle<()> {
    let requests = Arc::clone(main.vm.requests());
    thread::spawn(move || post(&requests))
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    explore(Builder::new(), f);
}

fn explore(mut builder: Builder, f: impl Fn() + Sync + Send + 'static) {
    builder.max_branches = 10_000;
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        f();
    });
    let explored = count.load(std::sync::atomic::Ordering::Relaxed);
    eprintln!(
        "{}: {explored} executions",
        std::thread::current().name().unwrap_or("model")
    );
}

/// Whatever is posted is visible before the wake-up.
#[test]
fn the_turn_after_a_wake_up_finds_what_was_posted() {
    let posts: [fn(&Requests) -> Posted; 11] = [
        |requests| requests.shutdown(ShutdownCause::GuestShutdown),
        |requests| requests.quit(),
        |requests| requests.reset(ShutdownCause::GuestReset),
        |requests| requests.powerdown(),
        |requests| requests.debug(),
        |requests| requests.suspend(),
        |requests| requests.suspend_to_disk(),
        |requests| requests.guest_pvshutdown(),
        |requests| requests.guest_panicked(None),
        |requests| requests.guest_crashloaded(None),
        |requests| requests.stop_from_vcpu(RunState::IoError),
    ];
    for posted in posts {
        model(move || {
            let main = MainLoop::running();
            let poster = post(&main, move |requests| {
                let _as_any_thread = posted(requests);
            });
            let turn = main.turn();
            poster.join().unwrap();
            if turn == Turn::Continue {
                main.settle();
            }
        });
    }
}

/// QEMU's latches are plain variables: what is posted between the read and the clear is lost.
#[test]
fn what_is_posted_during_a_turn_is_served_in_it_or_in_the_next() {
    model(|| {
        let main = MainLoop::running();
        let poster = post(&main, |requests| {
            requests.powerdown();
            requests.reset(ShutdownCause::GuestReset);
        });
        main.turn();
        poster.join().unwrap();
        assert_eq!(main.settle(), None);
        assert_eq!(main.count("POWERDOWN"), 1);
        assert_eq!(main.count("RESET"), 1);
    });
}

/// The monitor's stop, the guest's reset and the watchdog's at once.
#[test]
fn a_stop_a_reset_and_a_watchdog() {
    model(|| {
        let main = MainLoop::running();
        let guest = post(&main, |requests| {
            requests.reset(ShutdownCause::GuestReset);
        });
        let watchdog = post(&main, |requests| {
            requests.watchdog_expired();
        });
        main.turn();
        main.vm.stop(RunState::Paused).unwrap();
        guest.join().unwrap();
        watchdog.join().unwrap();
        assert_eq!(main.settle(), None);
        assert_eq!(main.count("WATCHDOG"), 1);
        assert!((1..=2).contains(&main.count("RESET")), "{:?}", main.names());
        assert_eq!(main.count("STOP"), 1);
        assert!(!main.vm.state().is_live(), "{}", main.vm.state());
    });
}

/// A latched stop against `cont`: the stop wins, whichever comes first.
#[test]
fn a_latched_stop_against_a_start() {
    model(|| {
        let main = MainLoop::running();
        main.vm.stop(RunState::Paused).unwrap();
        let device = post(&main, |requests| requests.vmstop(RunState::IoError));
        main.turn();
        main.vm.cont().unwrap();
        device.join().unwrap();
        assert_eq!(main.settle(), None);
        // A turn before the start found the machine stopped, and it may have been started since.
        let names = main.names();
        match names.as_slice() {
            ["STOP", "RESUME", "STOP"] => assert_eq!(main.vm.state(), RunState::IoError),
            ["STOP", "RESUME"] => assert_eq!(main.vm.state(), RunState::Running),
            other => panic!("{other:?}"),
        }
    });
}

/// Two devices stop the machine: that it is broken is not lost, whichever comes first.
#[test]
fn a_stop_that_only_a_reset_ends_against_another() {
    model(|| {
        let main = MainLoop::running();
        let devices = [RunState::IoError, RunState::InternalError]
            .map(|state| post(&main, move |requests| requests.vmstop(state)));
        main.turn();
        for device in devices {
            device.join().unwrap();
        }
        assert_eq!(main.settle(), None);
        assert_eq!(main.vm.cont(), Err(Error::ResetRequired));
    });
}

/// A signal handler's post, which comes in two halves, against the turn that takes the guest's shutdown.
#[test]
fn a_signal_ends_the_process_and_is_reported() {
    model(|| {
        let main = MainLoop::running();
        main.vm.policy().set_shutdown(ShutdownAction::Pause);
        let handler = post(&main, |requests| requests.killed(15, 7));
        main.vm.requests().shutdown(ShutdownCause::GuestShutdown);
        let turn = main.turn();
        handler.join().unwrap();
        let status = match turn {
            Turn::Exit(status) => status,
            _ => main.settle().unwrap(),
        };
        assert_eq!(
            status.signal.map(|signal| (signal.number, signal.pid)),
            Some((15, 7))
        );
    });
}

/// The guest's exit code belongs to the guest's shutdown, whoever else asks for one.
#[test]
fn an_exit_code_stays_with_its_request() {
    model(|| {
        let main = MainLoop::running();
        main.vm.policy().set_shutdown(ShutdownAction::Pause);
        let guest = post(&main, |requests| {
            requests.shutdown_with_code(ShutdownCause::GuestShutdown, 33);
        });
        let client = post(&main, |requests| {
            requests.quit();
        });
        let turn = main.turn();
        guest.join().unwrap();
        client.join().unwrap();
        let status = match turn {
            Turn::Exit(status) => status,
            _ => main.settle().unwrap(),
        };
        let ended = (status.cause, status.guest_code);
        assert!(
            [
                (ShutdownCause::GuestShutdown, Some(33)),
                (ShutdownCause::HostQmpQuit, None)
            ]
            .contains(&ended),
            "{ended:?}"
        );
    });
}

/// Two vCPUs panic at once: what is told is one's or the other's, and never of both.
#[test]
fn the_information_of_two_panics_is_not_mixed() {
    model(|| {
        let main = MainLoop::running();
        main.vm.policy().set_panic(PanicAction::None);
        let vcpus = [1, 2].map(|number| {
            post(&main, move |requests| {
                requests.guest_panicked(Some(PanicInfo::HyperV([number; 5])));
            })
        });
        main.turn();
        for vcpu in vcpus {
            vcpu.join().unwrap();
        }
        assert_eq!(main.settle(), None);
        let seen = main.seen.0.borrow();
        assert!((1..=2).contains(&seen.len()), "{seen:?}");
        for event in seen.iter() {
            let Event::GuestPanicked { info, .. } = event else {
                panic!("{event:?}")
            };
            let Some(PanicInfo::HyperV([first, rest @ ..])) = info else {
                panic!("{info:?}")
            };
            assert_eq!(*rest, [*first; 4]);
        }
    });
}

/// Whoever looks at what is pending sees one panic or the other.
#[test]
fn an_observer_does_not_see_a_mixture_of_two_panics() {
    // An observer looks at every latch, and a turn takes every one: too many interleavings for all of them.
    let mut builder = Builder::new();
    builder.preemption_bound = Some(1);
    explore(builder, || {
        let main = MainLoop::running();
        main.vm.policy().set_panic(PanicAction::None);
        let panic = |number| {
            let info = Some(PanicInfo::HyperV([number; 5]));
            main.vm.requests().guest_panicked(info);
        };
        panic(1);
        let observer = post(&main, |requests| {
            if let Some(Some(PanicInfo::HyperV([first, rest @ ..]))) = requests.snapshot().panicked
            {
                assert_eq!(rest, [first; 4]);
            }
        });
        main.turn();
        panic(2);
        observer.join().unwrap();
    });
}

/// A seeded bug, which must be found: the wake-up comes first and the request second.
#[test]
#[should_panic(expected = "lost: nobody will look")]
fn a_wake_up_before_the_post_is_found() {
    model(|| {
        let bell = Bell::new(false);
        let main = MainLoop::with(Arc::clone(&bell));
        let poster = post(&main, move |requests| {
            bell.ring();
            requests.powerdown();
        });
        main.turn();
        poster.join().unwrap();
        main.settle();
    });
}
