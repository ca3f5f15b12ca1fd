//! One simulated machine: what a scenario's commands do to it, and what an observer sees of it.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io::Write as _;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lifecycle::{
    Checkpoint, Compat, Error, Event, EventSink, Lifecycle, Machine, MachineError, NotifierHandle,
    ReplayGate, Report, Requests, ShutdownCause, Startup, StateHandler, Teardown, TeardownPhase,
    Turn, Wake,
};
use runstate::{InvalidTransition, RunState};

use crate::command::{Command, List, Place};

/// Where the lines go. A machine that is gone is not heard of any more.
#[derive(Debug)]
pub(crate) struct Screen {
    lines: Arc<Mutex<Vec<u8>>>,
    gone: AtomicBool,
}

impl Screen {
    pub(crate) fn new(lines: Arc<Mutex<Vec<u8>>>) -> Arc<Self> {
        let gone = AtomicBool::new(false);
        Arc::new(Self { lines, gone })
    }

    fn line(&self, text: fmt::Arguments<'_>) {
        if !self.is_gone() {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            // Writing to memory does not fail.
            let _written = writeln!(lines, "{text}");
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn is_gone_from_now_on(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// The wake-up and the replay gate: what the latches reach.
#[derive(Debug)]
struct Outside {
    screen: Arc<Screen>,
    gate_open: AtomicBool,
}

impl Wake for Outside {
    fn wake(&self) {
        self.screen.line(format_args!("kick main-loop"));
    }

    fn stop_current_vcpu(&self) {
        self.screen.line(format_args!("vcpu stop-current"));
    }
}

impl ReplayGate for Outside {
    fn checkpoint(&self, _checkpoint: Checkpoint) -> bool {
        self.gate_open.load(Ordering::Relaxed)
    }
}

/// The machine and the sink: they print, and reach the points where a command may be injected.
struct Simulated {
    world: Weak<World>,
    screen: Arc<Screen>,
}

impl Simulated {
    fn visit(&self, place: &Place) {
        if let Some(world) = self.world.upgrade() {
            world.visit(place);
        }
    }

    fn has(&self, hook: impl Fn(&World) -> bool) -> bool {
        self.world.upgrade().is_some_and(|world| hook(&world))
    }
}

impl Machine for Simulated {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        self.screen.line(format_args!("vcpu pause-all"));
        self.visit(&Place::Pause);
        Ok(())
    }

    fn resume_vcpus(&self) {
        self.screen.line(format_args!("vcpu resume-all"));
        self.visit(&Place::Resume);
    }

    fn keep_paused(&self) {
        // QEMU calls its resume here too, which finds that the machine does not run.
        self.resume_vcpus();
    }

    fn stop_clock(&self) {
        self.screen.line(format_args!("clock stop"));
    }

    fn start_clock(&self) {
        self.screen.line(format_args!("clock start"));
    }

    fn synchronize_state(&self) {
        self.screen.line(format_args!("vcpu synchronize-state"));
    }

    fn synchronize_post_reset(&self) {
        self.screen
            .line(format_args!("vcpu synchronize-post-reset"));
    }

    fn reset(&self, cause: ShutdownCause) -> Result<(), MachineError> {
        if self.has(|world| world.reset_hook.get()) {
            self.screen.line(format_args!("reset machine {cause}"));
        }
        self.reset_devices(cause)
    }

    fn reset_devices(&self, cause: ShutdownCause) -> Result<(), MachineError> {
        self.screen.line(format_args!("reset devices {cause}"));
        self.visit(&Place::Reset);
        Ok(())
    }

    fn wakeup(&self) {
        if self.has(|world| world.wakeup_hook.get()) {
            self.screen.line(format_args!("machine wakeup"));
        }
    }

    fn inject_nmi(&self) -> Result<(), Error> {
        self.screen.line(format_args!("vcpu inject-nmi"));
        Ok(())
    }

    fn drain_and_flush(&self) -> Result<(), MachineError> {
        self.screen.line(format_args!("storage drain-flush"));
        Ok(())
    }
}

impl EventSink for Simulated {
    fn event(&self, event: &Event) {
        let name = event.name();
        match event {
            Event::Reset { guest, reason } | Event::Shutdown { guest, reason } => self
                .screen
                .line(format_args!("event {name} guest={guest} reason={reason}")),
            Event::GuestPanicked { action, .. } | Event::GuestCrashloaded { action, .. } => self
                .screen
                .line(format_args!("event {name} action={action}")),
            Event::Watchdog { action } => self
                .screen
                .line(format_args!("event {name} action={action}")),
            _ => self.screen.line(format_args!("event {name}")),
        }
    }

    fn report(&self, report: &Report) {
        match report {
            // Processes are not looked up in a simulation.
            Report::Terminating(signal) => self
                .screen
                .line(format_args!("report {}", signal.report(Some("")))),
            _ => self.screen.line(format_args!("report {report}")),
        }
    }

    fn state_changed(&self, from: RunState, to: RunState) {
        self.screen.line(format_args!("state {from} -> {to}"));
    }
}

/// How a machine is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It can go on.
    Alive,
    /// QEMU would have aborted.
    Aborted,
    /// A fresh one was asked for.
    Forgotten,
}

/// One simulated machine.
pub(crate) struct World {
    lifecycle: OnceCell<Lifecycle<Simulated, Simulated>>,
    outside: Arc<Outside>,
    screen: Arc<Screen>,
    reset_hook: Cell<bool>,
    wakeup_hook: Cell<bool>,
    injections: RefCell<Vec<(Place, Command)>>,
    handlers: RefCell<Vec<(String, StateHandler)>>,
    notifiers: RefCell<Vec<(List, String, NotifierHandle)>>,
    left: Cell<Left>,
}

impl World {
    pub(crate) fn new(compat: Compat, screen: Arc<Screen>) -> Rc<Self> {
        let outside = Arc::new(Outside {
            screen: screen.clone(),
            gate_open: AtomicBool::new(true),
        });
        let requests = Requests::with(outside.clone(), compat, outside.clone());
        Rc::new_cyclic(|world| {
            let simulated = || Simulated {
                world: world.clone(),
                screen: screen.clone(),
            };
            let lifecycle = Lifecycle::new(Arc::new(requests), simulated(), simulated());
            Self {
                lifecycle: OnceCell::from(lifecycle),
                outside,
                screen: screen.clone(),
                reset_hook: Cell::new(false),
                wakeup_hook: Cell::new(false),
                injections: RefCell::default(),
                handlers: RefCell::default(),
                notifiers: RefCell::default(),
                left: Cell::new(Left::Alive),
            }
        })
    }

    pub(crate) fn left(&self) -> Left {
        self.left.get()
    }

    /// Runs the oldest command that waits for this place.
    fn visit(self: &Rc<Self>, place: &Place) {
        if self.screen.is_gone() {
            return;
        }
        let mut injections = self.injections.borrow_mut();
        let Some(at) = injections.iter().position(|(of, _)| of == place) else {
            return;
        };
        let (_, command) = injections.remove(at);
        drop(injections);
        self.run(&command);
    }

    pub(crate) fn run(self: &Rc<Self>, command: &Command) {
        let Some(lifecycle) = self.lifecycle.get() else {
            return;
        };
        let requests = lifecycle.requests();
        let policy = lifecycle.policy();
        match command {
            Command::Set(state) => self.told(lifecycle.set_state(*state)),
            Command::Start => self.told(lifecycle.start()),
            Command::Cont => self.cont(lifecycle),
            Command::Stop(state) => self.told(lifecycle.stop(*state)),
            Command::StopFromVcpu(state) => {
                requests.stop_from_vcpu(*state);
            }
            Command::StopForce(state) => self.told(lifecycle.stop_force(*state)),
            Command::StopForExit => self.told(lifecycle.shutdown_for_exit()),
            Command::Shutdown(cause) => {
                requests.shutdown(*cause);
            }
            Command::Reset(cause) => {
                lifecycle.request_reset(*cause);
            }
            Command::Powerdown => {
                requests.powerdown();
            }
            Command::Suspend => {
                requests.suspend();
            }
            Command::Wakeup(reason) => self.told(lifecycle.request_wakeup(*reason)),
            Command::Debug => {
                requests.debug();
            }
            Command::VmStop(state) => requests.vmstop(*state),
            Command::Killed { signal, pid } => requests.killed(*signal, *pid),
            Command::GuestPanicked => self.told(lifecycle.guest_panicked(None)),
            Command::GuestCrashloaded => lifecycle.guest_crashloaded(None),
            Command::GuestPvshutdown => {
                requests.guest_pvshutdown();
            }
            Command::WatchdogExpired => {
                requests.watchdog_expired();
            }
            Command::RebootAction(action) => policy.set_reboot(*action),
            Command::ShutdownAction(action) => policy.set_shutdown(*action),
            Command::PanicAction(action) => policy.set_panic(*action),
            Command::WatchdogAction(action) => policy.set_watchdog(*action),
            Command::WakeupEnable(reason, enabled) => requests.enable_wakeup(*reason, *enabled),
            Command::WakeupSupport => requests.register_wakeup_support(),
            Command::HandlerAdd(id, priority) => self.add_handler(lifecycle, id, *priority),
            Command::HandlerDel(id) => self.remove_handler(id),
            Command::NotifierAdd(list, id) => self.add_notifier(lifecycle, *list, id),
            Command::NotifierDel(list, id) => self.remove_notifier(*list, id),
            Command::CpusResettable(resettable) => requests.set_cpus_resettable(*resettable),
            Command::ReplayGate { open } => self.outside.gate_open.store(*open, Ordering::Relaxed),
            Command::ResetHook(hook) => self.reset_hook.set(*hook),
            Command::WakeupHook(hook) => self.wakeup_hook.set(*hook),
            Command::Inject(place, command) => {
                let mut injections = self.injections.borrow_mut();
                injections.push((place.clone(), (**command).clone()));
            }
            Command::Dispatch => match lifecycle.dispatch() {
                Turn::Continue => self.screen.line(format_args!("continue")),
                Turn::Exit(status) => self.screen.line(format_args!("exit {}", status.code())),
                Turn::Abort(transition) => self.abort(transition),
            },
            Command::New => self.end(Left::Forgotten),
            Command::Query => self.query(lifecycle),
            Command::RunExitNotifiers => lifecycle.run_exit_notifiers(),
            Command::Init => self.init(),
            Command::Cleanup => self.clean_up(lifecycle),
        }
    }

    fn end(&self, left: Left) {
        if self.left.get() == Left::Alive {
            self.left.set(left);
        }
        self.screen.is_gone_from_now_on();
    }

    fn abort(&self, InvalidTransition { from, to }: InvalidTransition<RunState>) {
        self.screen.line(format_args!(
            "report invalid runstate transition: '{from}' -> '{to}'"
        ));
        self.screen.line(format_args!("abort"));
        self.end(Left::Aborted);
    }

    /// What the caller of an operation gets.
    fn told<T>(&self, result: Result<T, Error>) {
        match result {
            Ok(_) => {}
            Err(Error::InvalidTransition(transition)) if self.aborts() => self.abort(transition),
            Err(error) => self.screen.line(format_args!("error {error}")),
        }
    }

    fn aborts(&self) -> bool {
        let compat = self.lifecycle.get().map(Lifecycle::compat);
        compat == Some(Compat::Qemu7_2)
    }

    /// `cont`, in a world without migrations: their states are left by a start like any other.
    fn cont(&self, lifecycle: &Lifecycle<Simulated, Simulated>) {
        if lifecycle.reset_required() {
            self.told::<()>(Err(Error::ResetRequired));
        } else if lifecycle.state() != RunState::Suspended {
            self.told(lifecycle.start());
        }
    }

    fn query(&self, lifecycle: &Lifecycle<Simulated, Simulated>) {
        let status = lifecycle.status();
        let requests = lifecycle.requests();
        self.screen.line(format_args!(
            "status {} running={} needs-reset={} wakeup-support={} shutdown-pending={} \
             reset-pending={}",
            status.status,
            status.running,
            lifecycle.reset_required(),
            requests.wakeup_support(),
            requests.shutdown_pending(),
            requests.reset_pending(),
        ));
    }

    fn add_handler(
        self: &Rc<Self>,
        lifecycle: &Lifecycle<Simulated, Simulated>,
        id: &str,
        priority: i32,
    ) {
        let world = Rc::downgrade(self);
        let name = id.to_owned();
        let handler = lifecycle.add_state_handler(priority, move |notice| {
            let Some(world) = world.upgrade() else { return };
            let direction = if notice.running { "run" } else { "stop" };
            let state = notice.state;
            world
                .screen
                .line(format_args!("handler {name} {direction} {state}"));
            world.visit(&Place::Handler(name.clone()));
        });
        self.handlers.borrow_mut().push((id.to_owned(), handler));
    }

    fn remove_handler(&self, id: &str) {
        let mut handlers = self.handlers.borrow_mut();
        // Of several with one ID, the oldest.
        let at = handlers.iter().position(|(of, _)| of == id);
        let removed = at.map(|at| handlers.remove(at));
        drop(handlers);
        drop(removed);
    }

    fn add_notifier(
        self: &Rc<Self>,
        lifecycle: &Lifecycle<Simulated, Simulated>,
        list: List,
        id: &str,
    ) {
        let world = Rc::downgrade(self);
        let name = id.to_owned();
        let heard = move |data: &str| {
            let Some(world) = world.upgrade() else { return };
            let list = list.as_str();
            world
                .screen
                .line(format_args!("notify {list} {name}{data}"));
            world.visit(&Place::Notifier(name.clone()));
        };
        let handle = match list {
            List::Exit => lifecycle.on_exit(move || heard("")),
            List::Suspend => lifecycle.on_suspend(move || heard("")),
            List::Powerdown => lifecycle.on_powerdown(move || heard("")),
            List::Shutdown => lifecycle.on_shutdown(move |cause| heard(&format!(" {cause}"))),
            List::Wakeup => {
                let requests = Arc::clone(lifecycle.requests());
                lifecycle.on_wakeup(move |reason| {
                    // QEMU hands out a pointer to the latch: what it holds now is what is read.
                    let reason = match requests.compat() {
                        Compat::Qemu7_2 => requests.wakeup_pending(),
                        _ => reason,
                    };
                    heard(&format!(" {reason}"));
                })
            }
        };
        let mut notifiers = self.notifiers.borrow_mut();
        notifiers.push((list, id.to_owned(), handle));
    }

    fn remove_notifier(&self, list: List, id: &str) {
        let mut notifiers = self.notifiers.borrow_mut();
        // Of several with one ID, the newest: the first on the list.
        let at = notifiers
            .iter()
            .rposition(|(of, name, _)| *of == list && name == id);
        let removed = at.map(|at| notifiers.remove(at));
        drop(notifiers);
        drop(removed);
    }

    fn init(&self) {
        let screen = Arc::clone(&self.screen);
        let startup: Startup<MachineError> = Startup::new();
        match startup.run(|phase| screen.line(format_args!("step {phase}"))) {
            Ok(started) => started.keep(),
            Err(failed) => self.screen.line(format_args!("error {failed}")),
        }
    }

    fn clean_up(&self, lifecycle: &Lifecycle<Simulated, Simulated>) {
        let teardown: Teardown<MachineError> = Teardown::new();
        let failures = teardown.run(lifecycle, Duration::from_secs(1), |phase| {
            if phase != TeardownPhase::StopMachine {
                self.screen.line(format_args!("step {phase}"));
            }
        });
        for failure in failures {
            self.screen.line(format_args!("error {failure:?}"));
        }
    }
}
