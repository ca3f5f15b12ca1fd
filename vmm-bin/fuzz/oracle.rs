//! What must hold for any line of a test client's: the body of the fuzz target, which replays in the unit tests.

use super::{MOST_BYTES, Request, parse};

/// It is a request within its bounds, or a refusal of one line.
pub(crate) fn check(line: &[u8]) {
    match parse(line) {
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
    }
}
