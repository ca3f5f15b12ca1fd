//! `--pvpanic`: what the guest is told that it can say there.

use devices::pvpanic::{CRASHLOADED, DEFAULT_EVENTS, PANICKED, SHUTDOWN};

use super::error::UsageError;

/// What `--pvpanic` is unless it is given.
pub(super) fn default() -> String {
    format!("events={DEFAULT_EVENTS}")
}

/// `--pvpanic`.
pub(super) fn events(text: &str) -> Result<u8, UsageError> {
    let known = PANICKED | CRASHLOADED | SHUTDOWN;
    text.strip_prefix("events=")
        .and_then(|mask| mask.parse().ok())
        .filter(|mask: &u8| mask & !known == 0)
        .ok_or_else(|| {
            let remedy = "use events=, and the sum of 1 (panicked), 2 (crash loaded), 4 (shutdown)";
            UsageError::value("--pvpanic", text, "is not known", remedy)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_of_what_the_device_knows() {
        for mask in 0..=7 {
            assert_eq!(events(&format!("events={mask}")).ok(), Some(mask));
        }
        assert_eq!(events(&default()).ok(), Some(3), "as in QEMU before 9.1");
        for text in [
            "",
            "events",
            "events=",
            "events=8",
            "events=-1",
            "events=256",
            "7",
        ] {
            let error = events(text).unwrap_err().to_string();
            assert!(error.starts_with("--pvpanic"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
