//! A hostile guest at every device's registers, with time, typing, resets and restores in between.
//! The model that the property tests use says what must come of it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/models/mod.rs"]
mod models;

fuzz_target!(|bytes: &[u8]| models::run(bytes));
