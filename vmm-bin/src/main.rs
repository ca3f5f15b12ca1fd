//! The reference virtual machine monitor on KVM: a thin program around the lifecycle crates.
//!
//! ```text
//!   main ── cli            what the user wants
//!        └─ vmm            one VM from its start to its end
//!             ├─ platform  KVM, memory, boot images, devices
//!             ├─ machine   the platform as the lifecycle sees it
//!             ├─ power     what the guest asks for     ──▶ lifecycle's latches
//!             ├─ signals   what the host asks for      ──▶ lifecycle's latches
//!             ├─ qmp       what the monitor asks for   ──▶ lifecycle
//!             ├─ console   what people ask for at the human monitor
//!             ├─ qtest     what a test client does in place of a guest ──▶ platform
//!             ├─ dump      the guest's memory as a core file
//!             ├─ endpoint  the streams that clients come through, door by door
//!             ├─ gdb       what a debugger asks for    ──▶ lifecycle, vCPUs
//!             ├─ events    what happens ──▶ monitor's clients and log
//!             ├─ trace     what happened, as a file, a table, a picture
//!             ├─ lines     serial, terminal; pidfile
//!             ├─ sandbox   what each thread may ask of the kernel
//!             └─ main_loop where all of it meets
//! ```
//!
//! The rule that must never be broken: this program holds no policy of its own, and only `main`
//! ends it.

#![cfg_attr(
    not(test),
    deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)
)]

mod cli;
mod console;
mod door;
mod doorbell;
mod dump;
mod endpoint;
mod error;
mod escalation;
mod events;
#[cfg(test)]
mod exits;
mod gdb;
mod guest;
mod inventory;
mod lines;
mod logging;
mod machine;
mod main_loop;
mod pidfile;
mod platform;
mod power;
mod qmp;
mod qtest;
mod rate;
mod sandbox;
mod sender;
mod serial;
mod signals;
mod stream;
mod sys;
mod terminal;
mod trace;
mod vmm;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use cli::{ExitCodes, Invocation};
use endpoint::Inherited;

/// A command line that cannot be understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    sys::one_heap();
    let config = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Run(config)) => config,
        Ok(Invocation::Show(text)) => return show(&text),
        Ok(Invocation::Look(look)) => return look_at(&look),
        Err(error) => return fail(&error, USAGE),
    };
    // First of all: what is opened from here on could get these numbers.
    let inherited = Inherited::take_over(config.descriptors());
    logging::start();
    let exit_codes = config.exit_codes;
    match vmm::run(*config, inherited) {
        Ok(status) => {
            let code = match exit_codes {
                ExitCodes::Qemu => status.code(),
                ExitCodes::Cause => status.cause_code(),
            };
            // The system keeps the low 8 bits, and so does this.
            ExitCode::from(code.to_le_bytes()[0])
        }
        Err(error) => fail(&error, error.exit_code()),
    }
}

fn show(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, such as `head`, is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Shows a trace, as far as it can be read.
fn look_at(look: &trace::Look) -> ExitCode {
    match trace::look(look) {
        Ok(seen) => {
            let shown = show(&seen.text);
            if let Some(note) = seen.note {
                drop(writeln!(std::io::stderr(), "vmm-bin: {note}"));
            }
            seen.error.map_or(shown, |error| fail(&error, 1))
        }
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    // Nobody is left to be told that standard error is closed.
    let _closed = writeln!(std::io::stderr(), "vmm-bin: {error}");
    ExitCode::from(code)
}
