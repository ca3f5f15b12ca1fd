#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[macro_use]
mod basics;

mod error;
mod handle;
mod list;
mod list_with_return;
mod nesting;
mod priority_list;
mod registry;
mod two_phase;

pub use error::{NestingExceeded, NotifyError};
pub use handle::NotifierHandle;
pub use list::NotifierList;
pub use list_with_return::NotifierWithReturnList;
pub use nesting::DEFAULT_MAX_NESTING;
pub use priority_list::PriorityList;
pub use two_phase::{Participant, TwoPhaseList};
