//! A trace as text: one line of JSON for each record, for a file that grows while the machine
//! runs, and back.
//!
//! ```text
//!  {"trace":"lifecycle","version":1,"compat":"current"}
//!  {"seq":0,"ns":48211,"what":"start","state":"prelaunch"}
//!  {"seq":1,"ns":49020,"what":"event","event":"RESUME"}
//!  {"seq":2,"ns":51874,"what":"state","from":"prelaunch","to":"running"}
//!  {"seq":3,"ns":52160,"what":"resumed"}
//!  {"seq":4,"ns":904117,"what":"turn","phase":"reset","state":"running","reset":"guest-reset",
//!   "on-reboot":"reset","on-shutdown":"poweroff","on-panic":"shutdown","on-watchdog":"reset"}
//! ```
//!
//! (The last one is one line.) A writer that may not go on writes `{"truncated":true}`. Every
//! object is flat; flags that are false and what is not there are left out. Names that a reader
//! does not know are passed over.
//!
//! The rule that must never be broken: what is written reads back as what it was.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use super::fields::{Fields, Object};
use super::read::read_happening;
use super::write::write_happening;
use super::{Happening, TraceRecord};
use crate::compat::Compat;

/// A line of a trace. `Display` and `FromStr` are its JSON, without the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceLine {
    /// The first line: what the others are to be read as.
    Header(Compat),
    /// The file was not to grow any more: records are missing from here on, until the end of the
    /// trace, if that is there.
    Truncated,
    /// Every other line.
    Record {
        /// When it happened, since whatever moment the writer counts from.
        at: Duration,
        /// What happened.
        record: TraceRecord,
    },
}

/// Why a text is no line of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceLineError {
    /// The text ends in the middle of the object.
    CutOff,
    /// The text is no flat JSON object.
    Syntax {
        /// The first byte that does not fit, from 1.
        column: usize,
        /// What would.
        expected: &'static str,
    },
    /// A field is there twice.
    Twice(Box<str>),
    /// There are more fields than any line has.
    TooManyFields,
    /// A field that belongs to this kind of line is not there.
    Missing(&'static str),
    /// A field has a value of the wrong kind: it should be this.
    Kind(&'static str, &'static str),
    /// A field holds a name that does not exist.
    Name(&'static str, Box<str>),
    /// A header of something else, or of another version of this format.
    Version,
}

impl fmt::Display for TraceLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => f.write_str("the line is cut off"),
            Self::Syntax { column, expected } => write!(f, "column {column}: expected {expected}"),
            Self::Twice(name) => write!(f, "the field {name:?} is there twice"),
            Self::TooManyFields => f.write_str("more fields than any line of a trace has"),
            Self::Missing(name) => write!(f, "the field {name:?} is missing"),
            Self::Kind(name, kind) => write!(f, "the field {name:?} is not {kind}"),
            Self::Name(name, value) => write!(f, "the field {name:?} cannot be {value:?}"),
            Self::Version => write!(f, "not a lifecycle trace of version {VERSION}"),
        }
    }
}

impl core::error::Error for TraceLineError {}

/// The version of the format.
const VERSION: u32 = 1;

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut object = Object::new(f);
        match self {
            Self::Header(compat) => {
                object.text("trace", "lifecycle");
                object.number("version", VERSION);
                object.text("compat", compat);
            }
            Self::Truncated => object.flag("truncated", true),
            Self::Record { at, record } => {
                object.number("seq", record.sequence);
                object.number("ns", at.as_nanos());
                write_happening(&mut object, &record.happening);
            }
        }
        object.end()
    }
}

impl FromStr for TraceLine {
    type Err = TraceLineError;

    fn from_str(line: &str) -> Result<Self, TraceLineError> {
        let fields = Fields::read(line)?;
        if let Some(kind) = fields.find("trace")? {
            let version: u32 = fields.number("version")?;
            if kind != "lifecycle" || version != VERSION {
                return Err(TraceLineError::Version);
            }
            return Ok(Self::Header(fields.name("compat")?));
        }
        if fields.flag("truncated")? {
            return Ok(Self::Truncated);
        }
        let record = TraceRecord {
            sequence: fields.number("seq")?,
            happening: read_happening(&fields)?,
        };
        let at = Duration::from_nanos(fields.number("ns")?);
        Ok(Self::Record { at, record })
    }
}

impl Happening {
    /// The kind of it, as the field `what` of a [`TraceLine`] has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Turn { .. } => "turn",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Set { .. } => "set",
            Self::State { .. } => "state",
            Self::RolledBack { .. } => "rolled-back",
            Self::Dropped { .. } => "dropped",
            Self::Deferred => "deferred",
            Self::Refused(_) => "refused",
            Self::Event(_) => "event",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::PauseFailed => "pause-failed",
            Self::Resumed => "resumed",
            Self::Exit => "exit",
        }
    }
}
