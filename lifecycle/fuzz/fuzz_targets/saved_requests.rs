//! Saved requests are hostile: whatever the bytes are, decoding refuses them or encodes back to
//! the same, and a machine that is given them serves its turns.

#![no_main]

#[path = "../../tests/common/mod.rs"]
#[expect(dead_code, reason = "the tests need the rest of it")]
mod common;
#[path = "../../tests/saved/mod.rs"]
mod saved;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| saved::run(bytes));
