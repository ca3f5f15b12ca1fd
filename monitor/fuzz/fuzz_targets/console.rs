#![no_main]

#[path = "../oracle/console.rs"]
mod console;

libfuzzer_sys::fuzz_target!(|data: &[u8]| console::check(data));
