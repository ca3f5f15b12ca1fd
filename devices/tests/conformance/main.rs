//! The crate's own devices, held to their contract; and devices with one fault each, which must not
//! pass.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a test fails by panicking; and which of these fire depends on the features, so none can be expected"
)]

mod chips;
mod faulty;
mod fixtures;
#[path = "../support/mod.rs"]
mod support;
mod timed;
