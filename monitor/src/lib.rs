#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![deny(missing_docs, missing_debug_implementations)]
#![cfg_attr(
    not(test),
    deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)
)]

// `qapi!` names this crate from within it as it does from without.
extern crate self as monitor;

#[cfg(feature = "console")]
pub mod console;
pub mod dump;
mod error;
pub mod events;
pub mod human;
pub mod inventory;
pub mod jobs;
pub mod protocol;
mod registry;
#[cfg(feature = "run-state")]
pub mod run_state;
pub mod schema;
mod server;
mod session;

pub use error::Error;
pub use events::EventSender;
pub use registry::{
    Command, CommandError, CommandInfo, EventSpec, EventTable, NoArguments, Registry, Version,
};
pub use schema::QapiType;
pub use server::{ClientStats, MonitorSocket, Server, ServerLimits};
pub use session::{Reply, Session};
