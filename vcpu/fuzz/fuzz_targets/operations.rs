//! Sequences of operations on fake vCPUs: every state and register must be as a reference without threads says.
//!
//! `cargo fuzz run -s none operations`
#![no_main]

#[path = "../../tests/operations/mod.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // A sequence that is longer finds nothing that two shorter ones do not.
    operations::run(bytes.get(..200).unwrap_or(bytes));
});
