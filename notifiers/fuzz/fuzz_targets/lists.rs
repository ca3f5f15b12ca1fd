//! Programs from the fuzzer's bytes, run on a list and on the naive reference of the tests.

#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    model::agree(&model::Program::from_bytes(bytes));
});
