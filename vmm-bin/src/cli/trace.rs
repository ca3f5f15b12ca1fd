//! `vmm-bin trace ...`: its own few options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use super::UsageError;
use crate::trace::{Look, View};

/// Look at the lifecycle's trace that `vmm-bin --trace FILE` has written.
#[derive(Debug, Parser)]
#[command(
    name = "vmm-bin trace",
    disable_help_subcommand = true,
    arg_required_else_help = false
)]
struct Options {
    #[command(subcommand)]
    view: Views,
}

#[derive(Debug, Subcommand)]
enum Views {
    /// Print it as a table
    Show(Which),
    /// Draw it: an SVG picture of states, requests, decisions, events and pauses
    Svg(Which),
    /// Play it through the decisions, and say where it does not follow from them
    Check(Whole),
}

#[derive(Debug, Args)]
struct Which {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Begin with the record of this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// End with the record of this number
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
}

#[derive(Debug, Args)]
struct Whole {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// What was asked for.
pub(super) enum Asked {
    /// This help.
    Help(String),
    /// A look at a trace.
    Look(Look),
}

/// Reads what follows `vmm-bin trace`.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Asked, UsageError> {
    let args = std::iter::once("vmm-bin trace".into()).chain(args);
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Asked::Help(error.to_string()));
        }
        Err(error) => return Err(usage(&error)),
    };
    let (view, which) = match options.view {
        Views::Show(which) => (View::Table, which),
        Views::Svg(which) => (View::Picture, which),
        Views::Check(Whole { file }) => {
            let (from, to) = (0, u64::MAX);
            (View::Check, Which { file, from, to })
        }
    };
    Ok(Asked::Look(Look {
        view,
        file: which.file,
        records: which.from..=which.to,
    }))
}

fn usage(error: &clap::Error) -> UsageError {
    match error.kind() {
        ErrorKind::MissingSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::MissingRequiredArgument
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => UsageError::contradiction(
            "trace: it is not said what to do with which file",
            "write vmm-bin trace show FILE, trace svg FILE or trace check FILE",
        ),
        _ => UsageError::from_clap(error),
    }
}
