//! What can be wrong with a command line.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Why a command line was refused: what was given, what is wrong with it, what would do.
/// The text is one line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsageError {
    /// An option has a value that it cannot have.
    #[error("{option} {given}: {problem}; {remedy}")]
    Value {
        /// The option.
        option: &'static str,
        /// Its value.
        given: String,
        /// What is wrong.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// Options contradict each other.
    #[error("{problem}; {remedy}")]
    Contradiction {
        /// Which, and how.
        problem: &'static str,
        /// What would be right.
        remedy: &'static str,
    },
    /// There is no such option.
    #[error("unknown option {0}; --help lists those that exist")]
    Unknown(String),
    /// A word that belongs to no option.
    #[error("'{0}' belongs to no option; a kernel is given with --kernel FILE, see --help")]
    Stray(String),
    /// An option lacks its value.
    #[error("{option}: a value is missing; write {usage}")]
    Missing {
        /// The option.
        option: String,
        /// The option with the name of its value.
        usage: String,
    },
    /// An option that takes no value has one.
    #[error("{option}: takes no value, and '{given}' was given; leave it out")]
    Superfluous {
        /// The option.
        option: String,
        /// The value.
        given: String,
    },
    /// Anything else that the parser finds.
    #[error("{0}; see --help")]
    Other(String),
}

impl UsageError {
    pub(super) fn value(
        option: &'static str,
        given: &str,
        problem: impl Into<String>,
        remedy: &str,
    ) -> Self {
        Self::Value {
            option,
            given: one_line(given),
            problem: one_line(&problem.into()),
            remedy: remedy.into(),
        }
    }

    pub(super) fn contradiction(problem: &'static str, remedy: &'static str) -> Self {
        Self::Contradiction { problem, remedy }
    }

    /// Says in one line what `clap` says in several.
    pub(super) fn from_clap(error: &clap::Error) -> Self {
        let context = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => one_line(text),
            Some(ContextValue::Strings(texts)) => one_line(&texts.join(" ")),
            _ => String::new(),
        };
        let argument = context(ContextKind::InvalidArg);
        // "--memory <SIZE>" names both the option and its value.
        let option = argument.split(' ').next().unwrap_or_default().to_owned();
        match error.kind() {
            ErrorKind::UnknownArgument if argument.starts_with('-') => Self::Unknown(argument),
            ErrorKind::UnknownArgument => Self::Stray(argument),
            ErrorKind::InvalidValue => Self::Missing {
                option,
                usage: argument.replace(['<', '>'], ""),
            },
            ErrorKind::TooManyValues => Self::Superfluous {
                option,
                given: context(ContextKind::InvalidValue),
            },
            _ => {
                let text = error.to_string();
                let first = text.lines().next().unwrap_or_default();
                Self::Other(one_line(first.trim_start_matches("error: ")))
            }
        }
    }
}

/// The text without anything that could begin a new line or speak to the terminal.
fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.into()
    }
}
