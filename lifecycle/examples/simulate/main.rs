//! Plays a scenario to a simulated machine, and prints what an observer sees.
//!
//! ```text
//! cargo run -p lifecycle --example simulate -- --compat qemu-7.2 < scenario.in
//! ```
//!
//! Exit status: 0; 2 when the last machine ended in an abort; 3 for a wrong option; 4 for a line
//! that cannot be read.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle::Compat;

use crate::command::{Command, parse};
use crate::world::{Left, Screen, World};

mod command;
mod world;

const ABORTED: u8 = 2;
const BAD_OPTION: u8 = 3;
const BAD_LINE: u8 = 4;

/// Injections nest as deep as a scenario likes.
const STACK: usize = 1 << 28;

/// So much is printed at a time, unless a person is at the keyboard.
const PAGE: usize = 1 << 16;

fn main() -> ExitCode {
    let compat = match compat_option(std::env::args().skip(1)) {
        Ok(compat) => compat,
        Err(problem) => {
            eprintln!(
                "simulate: {problem}\nusage: simulate [--compat qemu-7.2|current] < SCENARIO"
            );
            return ExitCode::from(BAD_OPTION);
        }
    };
    let simulation = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || simulate(compat, io::stdin().lock(), &mut io::stdout().lock()));
    match simulation.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(status))) => ExitCode::from(status),
        Ok(Ok(Err(error))) | Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
        Ok(Err(_)) => ExitCode::FAILURE,
    }
}

fn compat_option(mut arguments: impl Iterator<Item = String>) -> Result<Compat, String> {
    let mut compat = Compat::Qemu7_2;
    while let Some(argument) = arguments.next() {
        let value = match argument.strip_prefix("--compat") {
            Some("") => arguments.next(),
            Some(value) => value.strip_prefix('=').map(str::to_owned),
            None => return Err(format!("no such option: '{argument}'")),
        };
        compat = match value.as_deref() {
            Some("qemu-7.2") => Compat::Qemu7_2,
            Some("current") => Compat::Current,
            Some(other) => {
                return Err(format!("--compat {other}: expected qemu-7.2 or current"));
            }
            None => return Err("--compat needs a value: qemu-7.2 or current".into()),
        };
    }
    Ok(compat)
}

/// Plays one scenario after the other. Returns the exit status.
fn simulate(compat: Compat, input: impl BufRead, output: &mut impl Write) -> io::Result<u8> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let fresh = || World::new(compat, Screen::new(lines.clone()));
    let print = |text: &str| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend_from_slice(text.as_bytes());
    };
    let typed = io::stdin().is_terminal();
    let mut world = fresh();
    let mut status = 0;
    for line in input.split(b'\n') {
        let line = line?;
        let command = parse(&String::from_utf8_lossy(&line));
        if world.left() == Left::Aborted && !matches!(command, Ok(Some(Command::New))) {
            continue;
        }
        match command {
            Ok(None) => {}
            Ok(Some(Command::New)) => {
                print("new\n");
                world = fresh();
            }
            Ok(Some(command)) => {
                world.run(&command);
                if world.left() == Left::Forgotten {
                    print("new\n");
                    world = fresh();
                }
            }
            Err(bad) => {
                print(bad.as_str());
                print("\n");
                status = BAD_LINE;
                break;
            }
        }
        let pending = lines.lock().unwrap_or_else(PoisonError::into_inner).len();
        if pending > if typed { 0 } else { PAGE } {
            flush(&lines, output)?;
        }
    }
    flush(&lines, output)?;
    if status == 0 && world.left() == Left::Aborted {
        status = ABORTED;
    }
    Ok(status)
}

fn flush(lines: &Mutex<Vec<u8>>, output: &mut impl Write) -> io::Result<()> {
    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    output.write_all(&lines)?;
    lines.clear();
    output.flush()
}
