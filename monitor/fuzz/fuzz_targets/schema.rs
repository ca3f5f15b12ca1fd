#![no_main]
#![expect(dead_code, reason = "each target uses a part of the oracle")]

#[path = "../oracle/mod.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::schema(data));
