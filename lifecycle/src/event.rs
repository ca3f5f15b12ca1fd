//! What a client is told: QAPI's run-state events, typed, and the lines for the error log.

use core::fmt;

use runstate::RunState;

use crate::cause::ShutdownCause;
use crate::error::Error;
use crate::latch::Signal;
use crate::panic::{GuestPanicAction, PanicInfo};
use crate::policy::WatchdogAction;
use crate::step::Phase;
use crate::trace::TraceRecord;

/// An event of QAPI's run-state module, with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The machine was stopped: its vCPUs are parked.
    Stop,
    /// The machine is about to run again.
    Resume,
    /// The guest sleeps.
    Suspend,
    /// The guest has saved itself to disk, and a shutdown follows.
    SuspendDisk,
    /// The guest has been woken, and its vCPUs run.
    Wakeup,
    /// The power button was pressed.
    Powerdown,
    /// The machine was reset.
    Reset {
        /// The guest is the cause.
        guest: bool,
        /// Why.
        reason: ShutdownCause,
    },
    /// The machine is being shut down.
    Shutdown {
        /// The guest is the cause.
        guest: bool,
        /// Why.
        reason: ShutdownCause,
    },
    /// The watchdog expired.
    Watchdog {
        /// What is done about it.
        action: WatchdogAction,
    },
    /// The guest panicked.
    GuestPanicked {
        /// What is done about it.
        action: GuestPanicAction,
        /// What the guest told.
        info: Option<PanicInfo>,
    },
    /// The guest has loaded its crash kernel.
    GuestCrashloaded {
        /// What is done about it: always [`GuestPanicAction::Run`].
        action: GuestPanicAction,
        /// What the guest told.
        info: Option<PanicInfo>,
    },
    /// The guest asks to be shut down through pvpanic, and a shutdown follows.
    GuestPvshutdown,
}

impl Event {
    /// QAPI's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Resume => "RESUME",
            Self::Suspend => "SUSPEND",
            Self::SuspendDisk => "SUSPEND_DISK",
            Self::Wakeup => "WAKEUP",
            Self::Powerdown => "POWERDOWN",
            Self::Reset { .. } => "RESET",
            Self::Shutdown { .. } => "SHUTDOWN",
            Self::Watchdog { .. } => "WATCHDOG",
            Self::GuestPanicked { .. } => "GUEST_PANICKED",
            Self::GuestCrashloaded { .. } => "GUEST_CRASHLOADED",
            Self::GuestPvshutdown => "GUEST_PVSHUTDOWN",
        }
    }
}

/// A line for the error log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A signal ends the process.
    Terminating(Signal),
    /// A reset becomes a shutdown, because vCPUs cannot be reset.
    CpusNotResettable,
    /// The guest panicked and told this.
    GuestCrashed(PanicInfo),
    /// The watchdog expired, and its action is to say so.
    WatchdogFired,
    /// Something that was asked for before could not be done.
    Failed(Error),
    /// A latched request did not apply any more when its turn came.
    Dropped {
        /// The phase of the turn that would have served it.
        phase: Phase,
        /// The state that it did not apply to.
        state: RunState,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminating(signal) => {
                f.write_str(&signal.report(signal.sender_name().as_deref()))
            }
            Self::CpusNotResettable => f.write_str("cpus are not resettable, terminating"),
            Self::GuestCrashed(info) => write!(f, "guest crashed: {info}"),
            Self::WatchdogFired => f.write_str("watchdog: timer fired"),
            Self::Failed(error) => error.fmt(f),
            Self::Dropped { phase, state } => write!(
                f,
                "request dropped: {} does not apply to a machine that is {state}",
                phase.as_str()
            ),
        }
    }
}

/// Where the lifecycle tells what happens. Called on the main-loop thread, in order, while things
/// happen; a sink may call the lifecycle, and should not block.
pub trait EventSink {
    /// An event for the clients.
    fn event(&self, event: &Event);

    /// A line for the error log. A guest can cause many of [`Report::Dropped`] and
    /// [`Report::GuestCrashed`]: a log limits their rate.
    fn report(&self, report: &Report) {
        let _ = report;
    }

    /// The run state has changed.
    fn state_changed(&self, from: RunState, to: RunState) {
        let _ = (from, to);
    }

    /// Something was added to the trace. For a trace that is written as it grows: a
    /// [`TraceLine`](crate::TraceLine) is the form for a file.
    fn traced(&self, record: &TraceRecord) {
        let _ = record;
    }
}
