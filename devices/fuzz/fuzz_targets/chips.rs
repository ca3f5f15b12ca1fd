//! A hostile guest at the interval timer and the interrupt controllers, against plain models of them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/chips_model/mod.rs"]
mod chips_model;

fuzz_target!(|bytes: &[u8]| chips_model::run(bytes));
