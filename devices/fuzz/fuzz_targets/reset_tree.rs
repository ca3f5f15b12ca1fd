//! Random trees, resets, moves and removals, against a model without counts.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/reset_model/mod.rs"]
mod reset_model;

fuzz_target!(|bytes: &[u8]| reset_model::run(bytes));
