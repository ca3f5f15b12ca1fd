//! State changes and stored names from the fuzzer's bytes, with an oracle that walks the edges.

#![no_main]

#[path = "../../tests/requests/mod.rs"]
mod requests;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| requests::run(bytes));
