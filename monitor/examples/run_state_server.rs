//! A QMP server with the run-state commands, for `qmp-shell` and other clients to play with.
//!
//! ```text
//! cargo run --example run_state_server --features run-state -- /tmp/qmp.sock
//! qmp-shell /tmp/qmp.sock
//! ```

mod vmm;

use monitor::{MonitorSocket, ServerLimits};
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: run_state_server SOCKET-PATH");
        return ExitCode::from(2);
    };
    let socket = match MonitorSocket::bind(path) {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match vmm::run(vec![socket], ServerLimits::default()) {
        Ok(status) => {
            println!("ended: {}", status.cause);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
