//! Hands `cargo test` over to the whole-VM tests, which are Python because QEMU's own QMP client is.
//!
//! The harness is our own: `integration-tests/run` runs the tests and reports as cargo's harness does, test by test.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    // cargo's words for its own harness mean nothing to ours, but a filter does.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let list = words.iter().any(|word| word == "--list");
    let filter = words.iter().filter(|word| !word.starts_with('-'));
    let mut run = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/run"));
    run.arg("whole-vm").args(filter);
    if list {
        run.arg("--list");
    }
    match run.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("integration-tests/run does not start: {error}");
            ExitCode::FAILURE
        }
    }
}
