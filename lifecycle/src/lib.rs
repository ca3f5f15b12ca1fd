#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]
#![cfg_attr(
    not(test),
    deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)
)]

mod cause;
mod compat;
mod decide;
mod error;
mod event;
mod executor;
mod exit;
mod guest;
mod handlers;
mod latch;
mod lifecycle;
mod machine;
mod names;
mod panic;
mod policy;
mod posting;
mod replay;
mod requests;
mod saved;
mod startup;
mod step;
mod sync;
mod teardown;
mod trace;
mod turn;

pub use cause::{ShutdownCause, WakeupReason};
pub use compat::Compat;
pub use decide::{
    TurnPlan, admit_set, decide, plan_reset, plan_start, plan_stop, start_takes_vmstop, step,
    walk_turn,
};
pub use error::{Error, MachineError};
pub use event::{Event, EventSink, Report};
pub use exit::ExitStatus;
pub use handlers::{StateHandler, StateNotice};
pub use latch::{ShutdownRequest, Signal};
pub use lifecycle::{Lifecycle, Outcome, Turn};
pub use machine::Machine;
pub use names::UnknownName;
pub use notifiers::NotifierHandle;
pub use panic::{GuestPanicAction, PanicInfo, S390CrashReason, panic_action};
pub use policy::{
    ActionChange, Actions, PanicAction, Policy, RebootAction, ShutdownAction, WatchdogAction,
};
pub use posting::{Posted, ResetAdmission, Wake, admit_reset};
pub use replay::{Checkpoint, NoReplay, ReplayGate};
pub use requests::{PreparedStop, Requests};
pub use saved::{DecodeError, RequestsState};
pub use startup::{Started, Startup, StartupFailed, StartupPhase};
pub use step::{End, Latched, Listeners, Notice, Phase, Situation, Step, Steps};
pub use teardown::{
    Deadline, Escalation, Ladder, Rung, StillRunning, Teardown, TeardownFailure, TeardownPhase,
};
pub use trace::{Divergence, Happening, Trace, TraceLine, TraceLineError, TraceRecord, replay};
