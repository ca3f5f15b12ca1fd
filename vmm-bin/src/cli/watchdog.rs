//! `--watchdog`: which watchdogs the machine has.

use super::error::UsageError;
use crate::platform::Watchdogs;

/// Every `--watchdog` that was given.
pub(super) fn watchdogs(given: &[String]) -> Result<Watchdogs, UsageError> {
    if given.is_empty() {
        return Ok(Watchdogs::default());
    }
    let mut watchdogs = Watchdogs::NONE;
    for text in given {
        match text.as_str() {
            "ib700" => watchdogs.ib700 = true,
            "wdat" => watchdogs.wdat = true,
            "none" if given.len() == 1 => {}
            "none" => {
                return Err(UsageError::contradiction(
                    "--watchdog none and another --watchdog exclude each other",
                    "give either",
                ));
            }
            _ => {
                let remedy = "use ib700, wdat or none";
                return Err(UsageError::value(
                    "--watchdog",
                    text,
                    "is not known",
                    remedy,
                ));
            }
        }
    }
    Ok(watchdogs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> Result<Watchdogs, String> {
        let given: Vec<String> = given.iter().map(|text| String::from(*text)).collect();
        watchdogs(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn each_is_there_if_it_is_named() {
        let made = |ib700, wdat| Ok(Watchdogs { ib700, wdat });
        assert_eq!(read(&[]), made(true, false));
        assert_eq!(read(&["ib700"]), made(true, false));
        assert_eq!(read(&["wdat"]), made(false, true));
        assert_eq!(read(&["wdat", "ib700", "wdat"]), made(true, true));
        assert_eq!(read(&["none"]), made(false, false));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        for given in [
            &["i6300esb"][..],
            &[""],
            &["IB700"],
            &["none", "wdat"],
            &["none", "none"],
        ] {
            let error = read(given).unwrap_err();
            assert!(error.starts_with("--watchdog"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
