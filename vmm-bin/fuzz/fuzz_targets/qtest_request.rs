//! Any line of a test client's is a request within its bounds, or a refusal of one line.

#![no_main]
#![allow(
    dead_code,
    reason = "the target looks at a part of the program's module"
)]

#[path = "../oracle.rs"]
mod oracle;
#[path = "../../src/qtest/request.rs"]
mod request;

use request::{MOST_BYTES, Request, parse};

libfuzzer_sys::fuzz_target!(|data: &[u8]| oracle::check(data));
