//! `--rtc`: what the real-time clock follows, and what it shows at power-on.

use std::time::UNIX_EPOCH;

use super::error::UsageError;
use crate::platform::{RtcBase, RtcSource, RtcTime};

/// `--rtc`.
pub(super) fn rtc(text: &str) -> Result<RtcTime, UsageError> {
    let bad = |problem: &str, remedy: &str| UsageError::value("--rtc", text, problem, remedy);
    let mut time = RtcTime::default();
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("clock", "host")) => time.source = RtcSource::Host,
            Some(("clock", "vm")) => time.source = RtcSource::Virtual,
            Some(("clock", _)) => return Err(bad("has an unknown clock", "use host or vm")),
            Some(("base", "utc")) => time.base = RtcBase::Utc,
            Some(("base", "localtime")) => time.base = RtcBase::Local,
            Some(("base", date)) => {
                let date = nanoseconds(date);
                let remedy =
                    "use utc, localtime, or a date and time in UTC such as 2026-01-31T12:00:00";
                let date = date.ok_or_else(|| bad("has no such base", remedy))?;
                time.base = RtcBase::At(date);
            }
            _ => {
                let remedy = "use clock=host|vm and base=utc|localtime|DATETIME";
                return Err(bad("is not known", remedy));
            }
        }
    }
    Ok(time)
}

/// A date, or a date and a time, in nanoseconds since 1970.
fn nanoseconds(text: &str) -> Option<u64> {
    let full = if text.contains(['T', ' ']) {
        text.to_owned()
    } else {
        format!("{text}T00:00:00")
    };
    let time = humantime::parse_rfc3339_weak(&full).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_and_a_base_are_read() {
        let read = |text| rtc(text).unwrap();
        assert_eq!(read("clock=host"), RtcTime::default());
        assert_eq!(read("base=utc,clock=vm").source, RtcSource::Virtual);
        assert_eq!(read("base=localtime").base, RtcBase::Local);
        assert_eq!(read("base=localtime,base=utc").base, RtcBase::Utc);
        let date = RtcBase::At(1_150_502_400_000_000_000);
        assert_eq!(read("base=2006-06-17").base, date);
        assert_eq!(read("base=2006-06-17T00:00:00").base, date);
        assert_eq!(
            read("base=1970-01-01T00:00:01").base,
            RtcBase::At(1_000_000_000)
        );
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for text in [
            "",
            "vm",
            "clock",
            "clock=",
            "clock=rt",
            "clock=vm,",
            "base=",
            "base=local",
            "base=2006-13-01",
            "base=1969-12-31",
            "base=9999-12-31",
            "driftfix=slew",
        ] {
            let error = rtc(text).unwrap_err().to_string();
            assert!(error.starts_with("--rtc"), "{error}");
            assert!(error.contains("; use "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
