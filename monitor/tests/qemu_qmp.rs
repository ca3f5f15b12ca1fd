//! The QEMU project's own clients, unmodified: `qemu.qmp` and `qmp-shell` from PyPI.
//!
//! `QMP_PYTHON` names an interpreter that has `qemu.qmp`; otherwise `python3` is tried. Without
//! them the tests say so and pass.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod soft;
mod support;

use soft::Soft;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An interpreter that can import the library, or why there is none.
fn python() -> Result<OsString, String> {
    let python = std::env::var_os("QMP_PYTHON").unwrap_or_else(|| "python3".into());
    let check = Command::new(&python)
        .args(["-c", "import qemu.qmp"])
        .output();
    match check {
        Ok(output) if output.status.success() => Ok(python),
        Ok(_) => Err(format!("{} has no qemu.qmp", python.display())),
        Err(error) => Err(format!("{} does not run: {error}", python.display())),
    }
}

fn against_a_server(test: impl FnOnce(&OsString, &Path) -> Output) -> Option<String> {
    let python = match python() {
        Ok(python) => python,
        Err(reason) => {
            println!("skipped: {reason} (pip install qemu.qmp, or set QMP_PYTHON)");
            return None;
        }
    };
    let soft = Soft::start();
    let output = test(&python, soft.path());
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
    // The shell takes the end of its server for a failure, so it does not quit itself.
    if soft.path().exists() {
        soft.client().call("{'execute':'quit'}");
    }
    assert_eq!(soft.cause(), "host-qmp-quit");
    Some(text)
}

#[test]
fn qemu_qmp_drives_the_server() {
    let text = against_a_server(|python, path| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/qemu_qmp_client.py");
        Command::new(python)
            .arg(script)
            .arg(path)
            .output()
            .expect("the client runs")
    });
    if let Some(text) = text {
        assert!(text.contains("all as expected"), "{text}");
    }
}

/// Runs the shell on these lines.
fn shell(python: &OsString, path: &Path, options: &[&str], lines: &str) -> Output {
    let mut shell = Command::new(python)
        .args(["-c", "from qemu.qmp.qmp_shell import main; main()"])
        .args(options)
        .arg(path)
        .env("HOME", path.parent().expect("a directory"))
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the shell runs");
    let mut input = shell.stdin.take().expect("a pipe");
    input.write_all(lines.as_bytes()).expect("the shell reads");
    drop(input);
    shell.wait_with_output().expect("the shell ends")
}

#[test]
fn qmp_shell_drives_the_server() {
    let text = against_a_server(|python, path| {
        let lines =
            "query-status\ncont\nset-action panic=bogus\nset-action panic=none\nquery-status\n";
        shell(python, path, &[], lines)
    });
    let Some(text) = text else { return };
    for expected in [
        "Connected to QEMU 7.2.0",
        "prelaunch",
        "\"running\": true",
        "Parameter 'panic' does not accept value 'bogus'",
    ] {
        assert!(text.contains(expected), "{expected} is not in: {text}");
    }
}

#[test]
fn qmp_shell_drives_the_human_monitor() {
    let text = against_a_server(|python, path| {
        let lines = "info status\ncont\ninfo status\ncpu 1\ninfo cpus\ncpu 7\nfoo\nsystem_wakeup\n";
        shell(python, path, &["-H", "-v"], lines)
    });
    let Some(text) = text else { return };
    for expected in [
        "Welcome to the HMP shell!",
        "VM status: paused (prelaunch)",
        "VM status: running",
        "* CPU #1",
        "bad CPU index",
        "unknown command: 'foo'",
        "Error: Unable to wake up: guest is not in suspended state",
    ] {
        assert!(text.contains(expected), "{expected} is not in: {text}");
    }
}
