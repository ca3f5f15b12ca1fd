//! What can go wrong in a round.

use alloc::borrow::Cow;
use core::fmt;

/// The round was refused: as many rounds of this list as it allows are under way already, each
/// begun by a callback of the one before. No callback was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NestingExceeded {
    /// How many rounds of one list may be under way at a time.
    pub limit: u32,
}

impl fmt::Display for NestingExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "notifiers that notify their own list are nested more than {} deep",
            self.limit
        )
    }
}

impl core::error::Error for NestingExceeded {}

/// Why a round ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyError<Err> {
    /// The round was refused before its first callback.
    NestingExceeded(NestingExceeded),
    /// A notifier returned an error, and those after it were not called.
    Failed {
        /// The name under which the notifier was added.
        notifier: Cow<'static, str>,
        /// What it returned.
        error: Err,
    },
}

impl<Err> NotifyError<Err> {
    #[cold]
    pub(crate) fn failed(notifier: Option<&Cow<'static, str>>, error: Err) -> Self {
        Self::Failed {
            notifier: notifier.cloned().unwrap_or_default(),
            error,
        }
    }
}

impl<Err> From<NestingExceeded> for NotifyError<Err> {
    fn from(error: NestingExceeded) -> Self {
        Self::NestingExceeded(error)
    }
}

impl<Err: fmt::Display> fmt::Display for NotifyError<Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NestingExceeded(error) => error.fmt(f),
            Self::Failed { notifier, error } => write!(f, "notifier `{notifier}` failed: {error}"),
        }
    }
}

impl<Err: core::error::Error + 'static> core::error::Error for NotifyError<Err> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::NestingExceeded(error) => Some(error),
            Self::Failed { error, .. } => Some(error),
        }
    }
}
