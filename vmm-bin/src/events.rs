//! What happens to the VM, told twice: to the monitor's clients, and in the log; and in all detail in
//! the trace.
//!
//! The rule that must never be broken: the guest decides how often this is called, and so nothing
//! here blocks or grows.

use std::time::{Duration, Instant};

use lifecycle::{Event, EventSink, Report, TraceRecord};
use log::{debug, error, info, warn};
use runstate::RunState;

use crate::rate::RateLimit;
use crate::sender::Senders;
use crate::trace::Recorder;

/// Where events for the monitor's clients go.
pub(crate) type Emit = Box<dyn Fn(&Event)>;

/// Tells the clients and the log.
pub(crate) struct Announcer {
    emit: Option<Emit>,
    trace: Option<Recorder>,
    senders: Option<Senders>,
    events: RateLimit,
    reports: RateLimit,
}

impl Announcer {
    /// Tells the log, and if there are clients, `emit`.
    pub(crate) fn new(emit: Option<Emit>) -> Self {
        let now = Instant::now();
        Self {
            emit,
            trace: None,
            senders: None,
            events: RateLimit::new(now),
            reports: RateLimit::new(now),
        }
    }

    /// Has the lifecycle's trace written, too.
    pub(crate) fn with_trace(self, trace: Option<Recorder>) -> Self {
        Self { trace, ..self }
    }

    /// Has the senders of signals named in the log.
    pub(crate) fn with_senders(self, senders: Senders) -> Self {
        Self {
            senders: Some(senders),
            ..self
        }
    }

    /// Has what was traced written, if it is.
    pub(crate) fn flush_trace(&self) {
        if let Some(trace) = &self.trace {
            trace.flush();
        }
    }

    /// Ends the trace, if there is one.
    pub(crate) fn finish_trace(&self, bound: Duration) {
        if let Some(trace) = &self.trace {
            trace.finish(bound);
        }
    }
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").finish_non_exhaustive()
    }
}

/// The log line for an event: QAPI's name, and what that means.
pub(crate) fn line(event: &Event) -> String {
    let meaning = match event {
        Event::Stop => String::from("the VM is stopped"),
        Event::Resume => String::from("the VM goes on"),
        Event::Suspend => String::from("the guest sleeps"),
        Event::SuspendDisk => String::from("the guest has saved itself to disk"),
        Event::Wakeup => String::from("the guest is awake"),
        Event::Powerdown => String::from("the power button is pressed"),
        Event::Reset { reason, .. } => format!("the machine is reset, cause: {reason}"),
        Event::Shutdown { reason, .. } => format!("the machine is shut down, cause: {reason}"),
        Event::Watchdog { action } => format!("the watchdog expired, action: {action}"),
        Event::GuestPanicked { action, .. } => format!("the guest panicked, action: {action}"),
        Event::GuestCrashloaded { .. } => String::from("the guest runs its crash kernel"),
        Event::GuestPvshutdown => String::from("the guest asks to be shut down"),
        _ => return String::from(event.name()),
    };
    format!("{}: {meaning}", event.name())
}

impl EventSink for Announcer {
    fn event(&self, event: &Event) {
        if let Some(held_back) = self.events.admit(Instant::now()) {
            if held_back > 0 {
                info!("{held_back} events were not logged, there were too many at once");
            }
            info!("{}", line(event));
        }
        if let Some(emit) = &self.emit {
            emit(event);
        }
    }

    fn report(&self, report: &Report) {
        let Some(held_back) = self.reports.admit(Instant::now()) else {
            return;
        };
        if held_back > 0 {
            warn!("{held_back} reports were not logged, there were too many at once");
        }
        match report {
            Report::Terminating(signal) => {
                // The name in it is the sender's own choice.
                let sender = self.senders.as_ref().and_then(|it| it.describe(signal.pid));
                info!("{}", one_line(&signal.report(sender.as_deref())));
            }
            Report::Dropped { .. } => debug!("{report}"),
            Report::Failed(_) => error!("{report}"),
            _ => warn!("{report}"),
        }
    }

    fn state_changed(&self, from: RunState, to: RunState) {
        debug!("run state: {from} -> {to}");
    }

    fn traced(&self, record: &TraceRecord) {
        if let Some(trace) = &self.trace {
            trace.record(record);
        }
    }
}

/// The text without anything that could begin a new line or speak to a terminal.
fn one_line(text: &str) -> String {
    let visible = |char: char| -> String {
        if char.is_control() {
            char.escape_default().collect()
        } else {
            char.into()
        }
    };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use lifecycle::ShutdownCause;

    use super::*;

    #[test]
    fn every_line_names_its_event_and_its_cause() {
        let reset = Event::Reset {
            guest: true,
            reason: ShutdownCause::GuestReset,
        };
        assert_eq!(
            line(&reset),
            "RESET: the machine is reset, cause: guest-reset"
        );
        assert_eq!(line(&Event::Stop), "STOP: the VM is stopped");
    }

    #[test]
    fn clients_hear_every_event_of_a_storm() {
        let heard = Rc::new(RefCell::new(0));
        let count = Rc::clone(&heard);
        let announcer = Announcer::new(Some(Box::new(move |_| *count.borrow_mut() += 1)));
        for _ in 0..1000 {
            announcer.event(&Event::Stop);
        }
        assert_eq!(*heard.borrow(), 1000);
    }

    #[test]
    fn a_sender_cannot_add_lines_of_its_own() {
        assert_eq!(
            one_line("from pid 1 (a\n\x1b[2Jb)"),
            "from pid 1 (a\\n\\u{1b}[2Jb)"
        );
    }
}
