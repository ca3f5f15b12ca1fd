//! Which behaviour is wanted: QEMU 7.2's to the letter, or the one with its bugs fixed.

use core::fmt;

use crate::names::UnknownName;
use runstate::{QEMU_7_2, QEMU_10_2, RunState, TransitionTable};

/// Which behaviour is wanted. The README's table lists every difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compat {
    /// QEMU 7.2, step by step, with what went wrong in it. Where QEMU would abort the process,
    /// an error is returned and the machine is to be thrown away.
    Qemu7_2,
    /// The newest semantics, with the bugs of upstream and of the field fixed. Nothing aborts.
    #[default]
    Current,
}

impl Compat {
    /// The transitions that are legal.
    #[must_use]
    pub const fn table(self) -> &'static TransitionTable<RunState> {
        const OLD: TransitionTable<RunState> = QEMU_7_2;
        const NEW: TransitionTable<RunState> = QEMU_10_2;
        match self {
            Self::Qemu7_2 => &OLD,
            Self::Current => &NEW,
        }
    }

    /// Its name on a command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qemu7_2 => "qemu-7.2",
            Self::Current => "current",
        }
    }
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Compat {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        let all = [Self::Qemu7_2, Self::Current];
        let found = all.into_iter().find(|compat| compat.as_str() == name);
        found.ok_or(UnknownName {
            what: "behaviour",
            names: &["qemu-7.2", "current"],
        })
    }
}
