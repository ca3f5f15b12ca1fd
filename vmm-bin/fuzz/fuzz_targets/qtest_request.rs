//! Any line of a test client's is a request within its bounds, or a refusal of one line.

#![no_main]
#![allow(
    dead_code,
    reason = "the target looks at a part of the program's module"
)]

#[path = "../../src/qtest/request.rs"]
mod request;

use request::{MOST_BYTES, Request};

libfuzzer_sys::fuzz_target!(|data: &[u8]| match request::parse(data) {
    Ok(Request::Read { len, .. } | Request::ReadBase64 { len, .. }) => {
        assert!((1..=MOST_BYTES).contains(&len));
    }
    Ok(Request::Write { bytes, .. }) => assert!(bytes.len() <= MOST_BYTES),
    Ok(Request::Step(Some(ns)) | Request::SetClock(ns)) => assert!(i64::try_from(ns).is_ok()),
    Ok(_) => {}
    Err(refusal) => {
        let answer = refusal.to_string();
        assert!(answer.starts_with("FAIL ") || answer.starts_with("ERR "));
        assert!(!answer.chars().any(char::is_control), "{answer:?}");
        assert!(answer.len() < 1000);
    }
});
