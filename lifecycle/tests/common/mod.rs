//! A machine that notes what is done to it, for the tests.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifecycle::{
    Compat, Event, EventSink, Lifecycle, Machine, MachineError, NoReplay, ReplayGate, Report,
    Requests, ShutdownCause, TraceRecord, Wake,
};
use runstate::RunState;

/// Counts wake-ups.
#[derive(Debug, Default)]
pub(crate) struct Bell(pub(crate) AtomicU64);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What was seen, a line each.
#[derive(Default)]
pub(crate) struct Notes {
    lines: RefCell<Vec<String>>,
    pub(crate) pause_fails: Cell<bool>,
    pub(crate) reset_fails: Cell<bool>,
    pub(crate) flush_fails: Cell<bool>,
    /// Every record of the trace.
    pub(crate) traced: RefCell<Vec<TraceRecord>>,
    /// Run once, while the vCPUs are being paused.
    pub(crate) while_pausing: Cell<Option<Box<dyn Fn()>>>,
}

impl std::fmt::Debug for Notes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.fmt(f)
    }
}

impl Notes {
    pub(crate) fn add(&self, line: impl ToString) {
        self.lines.borrow_mut().push(line.to_string());
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        self.lines.take()
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Vec<String> {
        self.take()
            .into_iter()
            .filter(|line| is_event(line))
            .collect()
    }
}

/// Whether a line of the notes is an event's name.
pub(crate) fn is_event(line: &str) -> bool {
    line.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[derive(Debug, Clone)]
pub(crate) struct Noting(pub(crate) Rc<Notes>);

impl Noting {
    fn or_fail(&self, fails: &Cell<bool>) -> Result<(), MachineError> {
        if fails.get() {
            return Err(MachineError::new("it was told to fail"));
        }
        Ok(())
    }
}

impl Machine for Noting {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        self.0.add("pause");
        if let Some(act) = self.0.while_pausing.take() {
            act();
        }
        self.or_fail(&self.0.pause_fails)
    }

    fn resume_vcpus(&self) {
        self.0.add("resume");
    }

    fn stop_clock(&self) {
        self.0.add("stop clock");
    }

    fn start_clock(&self) {
        self.0.add("start clock");
    }

    fn reset_devices(&self, cause: ShutdownCause) -> Result<(), MachineError> {
        self.0.add(format!("reset {cause}"));
        self.or_fail(&self.0.reset_fails)
    }

    fn drain_and_flush(&self) -> Result<(), MachineError> {
        self.0.add("flush");
        self.or_fail(&self.0.flush_fails)
    }
}

impl EventSink for Noting {
    fn event(&self, event: &Event) {
        self.0.add(event.name());
    }

    fn report(&self, report: &Report) {
        self.0.add(format!("report: {report}"));
    }

    fn state_changed(&self, from: RunState, to: RunState) {
        self.0.add(format!("{from} -> {to}"));
    }

    fn traced(&self, record: &TraceRecord) {
        self.0.traced.borrow_mut().push(*record);
    }
}

pub(crate) type Vm = Lifecycle<Noting, Noting>;

/// A fresh machine.
pub(crate) fn machine_with(compat: Compat, gate: Arc<dyn ReplayGate>) -> (Rc<Vm>, Rc<Notes>) {
    let notes = Rc::new(Notes::default());
    let requests = Requests::with(Arc::new(Bell::default()), compat, gate);
    let vm = Lifecycle::new(
        Arc::new(requests),
        Noting(notes.clone()),
        Noting(notes.clone()),
    );
    (Rc::new(vm), notes)
}

pub(crate) fn machine(compat: Compat) -> (Rc<Vm>, Rc<Notes>) {
    machine_with(compat, Arc::new(NoReplay))
}

/// A machine that runs, with nothing noted.
pub(crate) fn running(compat: Compat) -> (Rc<Vm>, Rc<Notes>) {
    let (vm, notes) = machine(compat);
    vm.start().expect("a fresh machine starts");
    notes.take();
    (vm, notes)
}

/// A machine that sleeps, with nothing noted.
pub(crate) fn suspended(compat: Compat) -> (Rc<Vm>, Rc<Notes>) {
    let (vm, notes) = running(compat);
    vm.requests().suspend();
    vm.dispatch();
    assert_eq!(vm.state(), RunState::Suspended);
    notes.take();
    (vm, notes)
}
