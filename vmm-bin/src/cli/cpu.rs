//! `--cpu`: what the processors have only if it is asked for.

use super::Accel;
use super::error::UsageError;
use crate::platform::CpuFeatures;

/// `--cpu`, for processors of this accelerator.
pub(super) fn features(given: Option<&str>, accel: Accel) -> Result<CpuFeatures, UsageError> {
    let mut features = CpuFeatures::default();
    let Some(text) = given else {
        return Ok(features);
    };
    for part in text.split(',') {
        features.hv_crash = match part.split_once('=') {
            Some(("hv-crash", "on")) => true,
            Some(("hv-crash", "off")) => false,
            _ => {
                let remedy = "use hv-crash=on or hv-crash=off";
                return Err(UsageError::value("--cpu", text, "is not known", remedy));
            }
        };
    }
    if features.hv_crash && accel == Accel::Qtest {
        return Err(UsageError::contradiction(
            "--cpu hv-crash=on is for processors that execute something, and those of --accel qtest do not",
            "leave one of them out",
        ));
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_that_was_not_asked_for() {
        let read = |text| features(text, Accel::Kvm).unwrap().hv_crash;
        assert!(!read(None));
        assert!(read(Some("hv-crash=on")));
        assert!(!read(Some("hv-crash=on,hv-crash=off")));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for text in [
            "",
            "host",
            "hv-crash",
            "hv-crash=",
            "hv-crash=on,",
            "hv_crash=on",
        ] {
            let error = features(Some(text), Accel::Kvm).unwrap_err().to_string();
            assert!(error.starts_with("--cpu"), "{error}");
            assert!(error.contains("use hv-crash=on"), "{error}");
        }
        let error = features(Some("hv-crash=on"), Accel::Qtest).unwrap_err();
        assert!(error.to_string().contains("--accel qtest"), "{error}");
    }
}
