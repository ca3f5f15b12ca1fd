//! The crate's own devices, held to their contract; and devices with one fault each, which must not pass.

#![allow(
    clippy::allow_attributes,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each set of features uses another part"
)]

mod faulty;
mod fixtures;
