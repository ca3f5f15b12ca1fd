//! Holds the traces of all whole-VM runs against the transition table: `edges FOLDER`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use integration_tests::edges::{Coverage, Runs};

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return end("usage: edges FOLDER (LIFECYCLE_TRACES of the runs)", false);
    };
    match Runs::read(&folder) {
        Ok(runs) => {
            let coverage = Coverage::of(&runs);
            end(&coverage.to_string(), coverage.is_complete())
        }
        Err(error) => end(&error, false),
    }
}

fn end(text: &str, good: bool) -> ExitCode {
    let written = writeln!(std::io::stdout(), "{text}");
    if good && written.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
