//! Whether what a client asks for can be.

use super::types::{DumpFormat, DumpGuestMemory};
use crate::registry::CommandError;
use std::ops::Range;

/// A dump that can be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpRequest {
    /// Where the file is to be, as the client has named it.
    pub file: String,
    /// The client does not wait for the end.
    pub detach: bool,
    /// The physical addresses that are wanted; all if there is no range. It is not empty, and may hold
    /// more than memory.
    pub range: Option<Range<u64>>,
}

/// Refuses what cannot be, in QEMU's words where QEMU refuses it too.
pub(super) fn check(asked: DumpGuestMemory) -> Result<DumpRequest, CommandError> {
    let refuse = |text: String| Err(CommandError::generic(text));
    let filtered = asked.begin.is_some() || asked.length.is_some();
    match asked.format {
        None | Some(DumpFormat::Elf) => {}
        Some(_) if asked.paging || filtered => {
            return refuse("kdump-compressed format doesn't support paging or filter".to_owned());
        }
        Some(other) => {
            let other = other.as_str();
            return refuse(format!("{other} is not available now; there is elf"));
        }
    }
    if asked.paging {
        return refuse(
            "Parameter 'paging' must be false: the guest's own mapping is not followed".to_owned(),
        );
    }
    let range = match (asked.begin, asked.length) {
        (None, None) => None,
        (Some(_), None) => return refuse("Parameter 'length' is missing".to_owned()),
        (None, Some(_)) => return refuse("Parameter 'begin' is missing".to_owned()),
        (Some(begin), Some(length)) => Some(range(begin, length)?),
    };
    let Some(file) = asked.protocol.strip_prefix("file:") else {
        if asked.protocol.starts_with("fd:") {
            return refuse(
                "Parameter 'protocol' names a descriptor, and there is no 'getfd' to hand one over; \
                 use file:PATH"
                    .to_owned(),
            );
        }
        return refuse("Invalid parameter 'protocol'".to_owned());
    };
    if file.is_empty() {
        return refuse("Could not open '': the name is empty; use file:PATH".to_owned());
    }
    Ok(DumpRequest {
        file: file.to_owned(),
        detach: asked.detach.unwrap_or(false),
        range,
    })
}

fn range(begin: i64, length: i64) -> Result<Range<u64>, CommandError> {
    let invalid = |name| CommandError::generic(format!("Invalid parameter '{name}'"));
    let begin = u64::try_from(begin).map_err(|_| invalid("begin"))?;
    let length = u64::try_from(length).map_err(|_| invalid("length"))?;
    if length == 0 {
        return Err(invalid("length"));
    }
    Ok(begin..begin.saturating_add(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(protocol: &str) -> DumpGuestMemory {
        DumpGuestMemory {
            paging: false,
            protocol: protocol.to_owned(),
            detach: None,
            begin: None,
            length: None,
            format: None,
        }
    }

    #[test]
    fn what_can_be_is_taken() {
        let request = check(DumpGuestMemory {
            detach: Some(true),
            begin: Some(0x1000),
            length: Some(0x2000),
            format: Some(DumpFormat::Elf),
            ..asked("file:a:b")
        });
        let expected = DumpRequest {
            file: "a:b".to_owned(),
            detach: true,
            range: Some(0x1000..0x3000),
        };
        assert_eq!(request, Ok(expected));
        let longest = check(DumpGuestMemory {
            begin: Some(i64::MAX),
            length: Some(i64::MAX),
            ..asked("file:x")
        });
        assert!(longest.is_ok());
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_why() {
        let elf = || asked("file:x");
        let with = |begin, length| DumpGuestMemory {
            begin,
            length,
            ..elf()
        };
        let format = Some(DumpFormat::KdumpZlib);
        for (asked, text) in [
            (asked("x"), "Invalid parameter 'protocol'"),
            (asked("file:"), "the name is empty"),
            (asked("fd:core"), "no 'getfd'"),
            (
                DumpGuestMemory {
                    paging: true,
                    ..elf()
                },
                "'paging' must be false",
            ),
            (
                DumpGuestMemory { format, ..elf() },
                "kdump-zlib is not available now; there is elf",
            ),
            (
                DumpGuestMemory {
                    format,
                    ..with(Some(0), Some(1))
                },
                "kdump-compressed format doesn't support paging or filter",
            ),
            (with(Some(0), None), "Parameter 'length' is missing"),
            (with(None, Some(0)), "Parameter 'begin' is missing"),
            (with(Some(0), Some(0)), "Invalid parameter 'length'"),
            (with(Some(0), Some(-1)), "Invalid parameter 'length'"),
            (with(Some(-1), Some(1)), "Invalid parameter 'begin'"),
        ] {
            let error = check(asked).unwrap_err().to_string();
            assert!(error.contains(text), "{error:?} lacks {text:?}");
        }
    }
}
