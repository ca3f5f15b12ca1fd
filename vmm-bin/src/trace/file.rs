//! Reads a trace: as far as it is good, and what is wrong then.
//!
//! The rule that must never be broken: what is read is bounded by the file, and the first line that
//! is none ends it, with its number.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use lifecycle::{Compat, TraceLine, TraceLineError, TraceRecord};

/// The longest line that is read: several times as long as any that is written.
const LONGEST_LINE: u64 = 8 << 10;

/// Why a file is no trace, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// It cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is none of a trace.
    #[error("{file}: line {line}: {source}; what comes before it is good")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        source: TraceLineError,
    },
    /// A line is much too long, or no text.
    #[error("{file}: line {line}: is no line of a trace; what comes before it is good")]
    NoText {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
    },
    /// The file does not begin as a trace.
    #[error("{file}: line 1: is no trace of this program; `vmm-bin --trace FILE` writes one")]
    NoTrace {
        /// The file.
        file: String,
    },
    /// The decisions do not lead where the trace goes.
    #[error("{file}: {source}")]
    Divergence {
        /// The file.
        file: String,
        /// Where.
        source: lifecycle::Divergence,
    },
}

/// A record and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timed {
    /// Since the trace was begun.
    pub(crate) at: Duration,
    /// What happened.
    pub(crate) record: TraceRecord,
}

/// A trace that was read.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// What decided.
    pub(crate) compat: Compat,
    /// The records.
    pub(crate) records: Vec<Timed>,
    /// Why it ends there, if the file goes on.
    pub(crate) broken: Option<Error>,
}

/// Reads a file.
///
/// # Errors
/// When there is nothing in it that could be shown.
pub(crate) fn read(path: &Path) -> Result<Recorded, Error> {
    let file = path.display().to_string();
    let opened = File::open(path).map_err(|source| Error::Read {
        file: file.clone(),
        source,
    })?;
    read_lines(file, BufReader::new(opened))
}

pub(super) fn read_lines(file: String, mut from: impl BufRead) -> Result<Recorded, Error> {
    let mut compat = None;
    let mut records = Vec::new();
    let mut bytes = Vec::new();
    let mut number: u64 = 0;
    let broken = loop {
        number = number.saturating_add(1);
        bytes.clear();
        let length = from
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut bytes);
        let file = || file.clone();
        match length {
            Ok(0) => break None,
            Ok(_) => {}
            Err(source) => {
                let file = file();
                break Some(Error::Read { file, source });
            }
        }
        let line = number;
        let complete = bytes.ends_with(b"\n");
        let Ok(text) = std::str::from_utf8(&bytes) else {
            break Some(Error::NoText { file: file(), line });
        };
        match text.parse() {
            // The number at the end of a line may have lost digits.
            Ok(_) if !complete => {
                let source = TraceLineError::CutOff;
                break Some(Error::Line {
                    file: file(),
                    line,
                    source,
                });
            }
            Ok(TraceLine::Header(told)) if compat.is_none() => compat = Some(told),
            _ if compat.is_none() => return Err(Error::NoTrace { file: file() }),
            Ok(TraceLine::Record { at, record }) => records.push(Timed { at, record }),
            // Truncated: the numbers of the records tell as much.
            Ok(_) => {}
            Err(_) if bytes.len() as u64 >= LONGEST_LINE => {
                break Some(Error::NoText { file: file(), line });
            }
            Err(source) => {
                break Some(Error::Line {
                    file: file(),
                    line,
                    source,
                });
            }
        }
    };
    match compat {
        Some(compat) => Ok(Recorded {
            compat,
            records,
            broken,
        }),
        None => Err(Error::NoTrace { file }),
    }
}
