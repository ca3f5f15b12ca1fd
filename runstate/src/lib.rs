#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]

#[cfg(test)]
extern crate std;

#[cfg(target_has_atomic = "64")]
mod cell;
mod diagram;
mod qemu;
mod run_state;
mod state;
mod status;
mod store;
mod table;

#[cfg(target_has_atomic = "64")]
pub use cell::{RunStateCell, Snapshot, StateCell};
pub use qemu::{QEMU_7_2, QEMU_10_2};
pub use run_state::RunState;
pub use state::{MAX_STATES, State, UnknownState};
pub use status::StatusInfo;
pub use store::{BufferTooSmall, restore, store, store_with_nul};
pub use table::{Change, InvalidTransition, Transition, TransitionTable};
