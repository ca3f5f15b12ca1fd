#![doc = include_str!("../README.md")]
#![deny(missing_docs, missing_debug_implementations)]
#![cfg_attr(
    not(test),
    deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)
)]

mod control;
mod error;
mod exclusive;
#[cfg(feature = "test-utilities")]
pub mod fake;
#[cfg(feature = "kvm")]
pub mod kvm;
mod pause;
mod run;
mod set;
mod sync;
mod sys;
mod thread;
mod word;
mod work;
mod worker;

/// The protocol alone, for a VMM that brings its own threads, and for the models that check it.
pub mod protocol {
    pub use crate::control::{ControlWord, Refusal};
    pub use crate::word::{Phase, Word};
}

pub use error::{Failure, FailureKind, PauseError, Stuck, VcpuError};
pub use pause::{PauseGuard, VcpuPause};
pub use run::{Control, Entry, Kicker, LastExit, VcpuId, VcpuRun};
pub use set::{VcpuEvent, VcpuEvents, VcpuSet};
pub use thread::VcpuThread;
pub use word::{Phase, VcpuState, Word};
