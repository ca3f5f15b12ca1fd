//! Prints a table of QEMU's as a diagram.
//!
//! `cargo run -p runstate --example diagram [mermaid|dot] [10.2|7.2]`

use std::process::ExitCode;

use runstate::{QEMU_7_2, QEMU_10_2, RunState};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let format = arguments.next().unwrap_or_else(|| "mermaid".to_owned());
    let table = match arguments.next().as_deref() {
        None | Some("10.2") => QEMU_10_2,
        Some("7.2") => QEMU_7_2,
        Some(other) => return usage(&format!("no edition `{other}`: expected 10.2 or 7.2")),
    };
    let mut text = String::new();
    let written = match format.as_str() {
        "mermaid" => table.write_mermaid(&mut text, RunState::Prelaunch),
        "dot" => table.write_dot(&mut text, RunState::Prelaunch),
        other => return usage(&format!("no format `{other}`: expected mermaid or dot")),
    };
    if written.is_err() {
        return ExitCode::FAILURE;
    }
    print!("{text}");
    ExitCode::SUCCESS
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("diagram: {problem}");
    ExitCode::from(2)
}
