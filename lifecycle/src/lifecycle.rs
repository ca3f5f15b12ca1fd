//! The lifecycle of one machine: what its main loop calls.
//!
//! ```text
//!                start                      suspend request
//!  prelaunch ─────────────▶ running ◀──────────────────────▶ suspended
//!      ▲                      │  ▲       wakeup request          │  ▲
//!      │ reset                │  │ start                    stop │  │ start
//!      │                 stop ▼  │                               ▼  │
//!      └──────── paused, io-error, watchdog, guest-panicked, debug ─┘
//!      └──────── shutdown, internal-error   (only a reset helps)
//! ```
//!
//! The rule that must never be broken: no borrow of this struct's insides is held while a
//! machine's method, a notifier, a handler or the sink runs. Any of them may call back.

use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::VecDeque;
use std::sync::Arc;

use notifiers::{NotifierHandle, NotifierList};
use runstate::{RunState, RunStateCell, StatusInfo};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::decide::plan_start;
use crate::error::Error;
use crate::event::EventSink;
use crate::executor::Operation;
use crate::exit::ExitStatus;
use crate::handlers::{StateHandler, StateHandlers, StateNotice};
use crate::machine::Machine;
use crate::policy::Policy;
use crate::requests::Requests;
use crate::step::Situation;
use crate::trace::{Happening, Trace};

/// How a turn of the main loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The main loop goes on.
    Continue,
    /// The process is to end, with this status.
    Exit(ExitStatus),
    /// Only under [`Compat::Qemu7_2`]: QEMU would have aborted here. The machine is to be thrown
    /// away.
    Abort(runstate::InvalidTransition<RunState>),
}

/// What became of a change of the state that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was made, or there was nothing to do.
    Done,
    /// A callback asked for it: it is made when the present change is complete. If it fails then,
    /// that is reported to the sink.
    Deferred,
}

/// The lists on which others hear of what happens.
#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) exit: NotifierList<()>,
    pub(crate) suspend: NotifierList<()>,
    pub(crate) wakeup: NotifierList<WakeupReason>,
    pub(crate) powerdown: NotifierList<()>,
    pub(crate) shutdown: NotifierList<ShutdownCause>,
    pub(crate) handlers: StateHandlers,
}

impl Lists {
    fn new(compat: Compat) -> Self {
        // QEMU recurses for as long as it has a stack.
        let limit = match compat {
            Compat::Qemu7_2 => u32::MAX,
            Compat::Current => notifiers::DEFAULT_MAX_NESTING,
        };
        Self {
            exit: NotifierList::with_max_nesting(limit),
            suspend: NotifierList::with_max_nesting(limit),
            wakeup: NotifierList::with_max_nesting(limit),
            powerdown: NotifierList::with_max_nesting(limit),
            shutdown: NotifierList::with_max_nesting(limit),
            handlers: StateHandlers::new(compat),
        }
    }
}

/// The lifecycle of one machine. Lives on the main-loop thread; everybody else has
/// [`Requests`].
///
/// It cannot be sent to another thread, and neither can the notifiers and handlers on it:
///
/// ```compile_fail
/// fn another_thread<T: Send>() {}
/// fn of<M: Send, S: Send>() { another_thread::<lifecycle::Lifecycle<M, S>>() }
/// ```
pub struct Lifecycle<M, S> {
    pub(crate) machine: M,
    pub(crate) sink: S,
    pub(crate) requests: Arc<Requests>,
    pub(crate) state: Arc<RunStateCell>,
    pub(crate) compat: Compat,
    /// What is remembered beside the state. The field `state` of it is not used.
    pub(crate) memory: Cell<Situation>,
    pub(crate) lists: Lists,
    /// A plan is being performed.
    pub(crate) busy: Cell<bool>,
    /// A turn is being performed.
    pub(crate) in_turn: Cell<bool>,
    pub(crate) deferred: RefCell<VecDeque<Operation>>,
    pub(crate) trace: RefCell<Trace>,
    autostart: Cell<bool>,
}

impl<M: Machine, S: EventSink> Lifecycle<M, S> {
    /// The lifecycle of a machine in the state that `requests` tells, `prelaunch` at first.
    #[must_use]
    pub fn new(requests: Arc<Requests>, machine: M, sink: S) -> Self {
        let compat = requests.compat();
        let state = Arc::clone(requests.state());
        Self {
            machine,
            sink,
            memory: Cell::new(Situation::new(state.load())),
            requests,
            state,
            compat,
            lists: Lists::new(compat),
            busy: Cell::new(false),
            in_turn: Cell::new(false),
            deferred: RefCell::new(VecDeque::new()),
            trace: RefCell::new(Trace::new(Trace::DEFAULT_CAPACITY)),
            autostart: Cell::new(true),
        }
    }

    /// The latches, for everybody.
    #[must_use]
    pub fn requests(&self) -> &Arc<Requests> {
        &self.requests
    }

    /// The actions, to read and to change.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        self.requests.policy()
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The sink.
    #[must_use]
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Which behaviour is wanted.
    #[must_use]
    pub fn compat(&self) -> Compat {
        self.compat
    }

    /// The run state.
    #[must_use]
    pub fn state(&self) -> RunState {
        self.state.load()
    }

    /// The run state, readable on any thread.
    #[must_use]
    pub fn state_cell(&self) -> Arc<RunStateCell> {
        Arc::clone(&self.state)
    }

    /// What a decision knows of the machine.
    #[must_use]
    pub fn situation(&self) -> Situation {
        Situation {
            state: self.state.load(),
            ..self.memory.get()
        }
    }

    /// The answer to `query-status`.
    #[must_use]
    pub fn status(&self) -> StatusInfo {
        StatusInfo::new(self.state())
    }

    /// Only a reset lets the machine run again.
    #[must_use]
    pub fn reset_required(&self) -> bool {
        self.situation().reset_required()
    }

    /// Whether an incoming machine starts by itself once it is complete.
    #[must_use]
    pub fn autostart(&self) -> bool {
        self.autostart.get()
    }

    /// Says whether an incoming machine starts by itself (QEMU's `-S` is `false`).
    pub fn set_autostart(&self, autostart: bool) {
        self.autostart.set(autostart);
    }

    /// Starts the machine, or lets it go on: a machine that was suspended when it was stopped is
    /// suspended again. Nothing happens to one that runs.
    ///
    /// # Errors
    ///
    /// [`Error::ResetRequired`], [`Error::InvalidTransition`].
    pub fn start(&self) -> Result<Outcome, Error> {
        self.operate(Operation::Start)
    }

    /// QMP's `cont`. An incoming machine will start when it is complete; a suspended one is left
    /// alone.
    ///
    /// # Errors
    ///
    /// [`Error::ResetRequired`], [`Error::MigrationNotFinalized`], and those of
    /// [`start`](Self::start).
    pub fn cont(&self) -> Result<Outcome, Error> {
        self.admit_cont()?;
        match self.state() {
            RunState::Suspended => Ok(Outcome::Done),
            RunState::InMigrate => {
                self.autostart.set(true);
                Ok(Outcome::Done)
            }
            _ => self.start(),
        }
    }

    /// Whether [`cont`](Self::cont) would be admitted now.
    ///
    /// # Errors
    ///
    /// Those of [`cont`](Self::cont).
    pub fn admit_cont(&self) -> Result<(), Error> {
        let now = self.situation();
        match now.state {
            _ if now.reset_required() => Err(Error::ResetRequired),
            RunState::Suspended | RunState::InMigrate => Ok(()),
            RunState::FinishMigrate => Err(Error::MigrationNotFinalized),
            _ => plan_start(now, false, self.compat).map(drop),
        }
    }

    /// QMP's `stop`. An incoming machine will not start when it is complete.
    ///
    /// # Errors
    ///
    /// Those of [`stop`](Self::stop).
    pub fn pause(&self) -> Result<Outcome, Error> {
        if self.state() == RunState::InMigrate {
            self.autostart.set(false);
            return Ok(Outcome::Done);
        }
        self.stop(RunState::Paused)
    }

    /// Stops the machine in this state. One that is stopped keeps its state; its storage is
    /// flushed all the same.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStop`], [`Error::InvalidTransition`]: nothing was done. [`Error::Pause`]: the
    /// machine runs on. [`Error::Flush`]: it is stopped.
    pub fn stop(&self, state: RunState) -> Result<Outcome, Error> {
        self.operate(Operation::Stop {
            target: state,
            announced: true,
        })
    }

    /// Stops the machine, and enters this state also when it is stopped already. No event tells
    /// of the latter. For migration.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_force(&self, state: RunState) -> Result<Outcome, Error> {
        self.operate(Operation::Force(state))
    }

    /// Stops the machine silently, before the process ends. No vCPU and no device is active
    /// afterwards, unless the machine could not pause its vCPUs, which is reported.
    ///
    /// # Errors
    ///
    /// [`Error::Flush`].
    pub fn shutdown_for_exit(&self) -> Result<Outcome, Error> {
        self.operate(Operation::Stop {
            target: RunState::Shutdown,
            announced: false,
        })
    }

    /// A bare change of the run state: an incoming machine becomes `paused`.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidTransition`], [`Error::BareChange`]; the state is what it was.
    pub fn set_state(&self, state: RunState) -> Result<Outcome, Error> {
        self.operate(Operation::Set(state))
    }

    /// Adds a state-change handler. Low priorities start first and stop last.
    pub fn add_state_handler(
        &self,
        priority: i32,
        callback: impl Fn(&StateNotice) + 'static,
    ) -> StateHandler {
        self.lists.handlers.add(priority, callback)
    }

    /// Adds a notifier for the end of the process.
    pub fn on_exit(&self, callback: impl Fn() + 'static) -> NotifierHandle {
        self.lists.exit.add(move |()| callback())
    }

    /// Adds a notifier for a suspend.
    pub fn on_suspend(&self, callback: impl Fn() + 'static) -> NotifierHandle {
        self.lists.suspend.add(move |()| callback())
    }

    /// Adds a notifier for a wakeup.
    pub fn on_wakeup(&self, callback: impl Fn(WakeupReason) + 'static) -> NotifierHandle {
        self.lists.wakeup.add(move |reason| callback(*reason))
    }

    /// Adds a notifier for the power button: the board presses it.
    pub fn on_powerdown(&self, callback: impl Fn() + 'static) -> NotifierHandle {
        self.lists.powerdown.add(move |()| callback())
    }

    /// Adds a notifier for a shutdown.
    pub fn on_shutdown(&self, callback: impl Fn(ShutdownCause) + 'static) -> NotifierHandle {
        self.lists.shutdown.add(move |cause| callback(*cause))
    }

    /// Tells those who wait for the end of the process, the newest first. On the main-loop
    /// thread, last of all.
    pub fn run_exit_notifiers(&self) {
        self.notified(self.lists.exit.notify(&()));
    }

    /// Reads the trace.
    pub fn with_trace<R>(&self, read: impl FnOnce(&Trace) -> R) -> R {
        read(&self.trace.borrow().clone())
    }

    /// Begins a new trace that keeps this many records; 0 keeps none.
    pub fn set_trace_capacity(&self, capacity: usize) {
        *self.trace.borrow_mut() = Trace::new(capacity);
    }

    pub(crate) fn note(&self, happening: Happening) {
        let record = self.trace.borrow_mut().push(happening);
        self.sink.traced(&record);
    }
}

impl<M, S> fmt::Debug for Lifecycle<M, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("requests", &self.requests)
            .field("lists", &self.lists)
            .field("busy", &self.busy.get())
            .finish_non_exhaustive()
    }
}
