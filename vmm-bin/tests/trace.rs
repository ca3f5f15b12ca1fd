//! `--trace FILE`, and what `vmm-bin trace` makes of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Directory, Vm, needs_kvm, output, wait_for};
use serde_json::Value;

/// Looks at a trace.
fn look(view: &str, file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmm-bin"))
        .args(["trace", view])
        .arg(file)
        .args(more)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The changes of state in a trace.
fn states(file: &Path) -> Vec<String> {
    let lines = std::fs::read_to_string(file).unwrap();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let to =
        |line: Value| (line["what"] == "state").then(|| line["to"].as_str().unwrap().to_owned());
    lines.filter_map(to).collect()
}

#[test]
fn a_run_is_recorded_shown_drawn_and_played_back() {
    needs_kvm!();
    let directory = Directory::new();
    let file = directory.path("trace");
    let mut vm = Vm::menu(&["--trace", file.to_str().unwrap(), "--cpus", "2"]);
    let mut qmp = vm.qmp();
    qmp.execute("stop");
    qmp.execute("cont");
    vm.press("r", "guest> ");
    vm.press("u", "suspend: S3");
    qmp.event("SUSPEND");
    qmp.execute("system_wakeup");
    vm.hear("awake");
    vm.hear("guest> ");
    vm.power_off();

    assert_eq!(
        states(&file),
        [
            "running",
            "paused",
            "running",
            "suspended",
            "running",
            "shutdown"
        ]
    );
    let table = text(&look("show", &file, &[]));
    for row in [
        "request   stop: paused",
        "event     STOP",
        "request   reset: guest-reset",
        "event     RESET guest-reset",
        "request   wakeup: other",
        "event     SHUTDOWN guest-shutdown",
        "note      the process ends",
    ] {
        assert!(table.contains(row), "no {row:?} in\n{table}");
    }
    let some = text(&look("show", &file, &["--from", "3", "--to", "5"]));
    let numbers = some
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap());
    let mut numbers: Vec<_> = numbers.collect();
    numbers.dedup();
    assert_eq!(numbers, ["3", "4", "5"]);
    let picture = text(&look("svg", &file, &[]));
    assert!(picture.starts_with("<svg ") && picture.contains(">suspended<"));
    let checked = text(&look("check", &file, &[]));
    assert!(
        checked.contains(" 0 gaps: the decisions lead there; it ends shutdown"),
        "{checked}"
    );

    // Somebody has been at it: the reset has become a suspend.
    let forged = std::fs::read_to_string(&file).unwrap();
    let forged = forged.replacen("\"to\":\"suspended\"", "\"to\":\"watchdog\"", 1);
    std::fs::write(&file, forged).unwrap();
    let found = look("check", &file, &[]);
    assert_eq!(found.status.code(), Some(1));
    let error = String::from_utf8(found.stderr).unwrap();
    assert!(error.contains("of the trace does not follow"), "{error}");
}

#[test]
fn what_a_vm_that_was_killed_has_recorded_is_shown() {
    needs_kvm!();
    let directory = Directory::new();
    let file = directory.path("trace");
    let mut vm = Vm::menu(&["--trace", file.to_str().unwrap()]);
    let mut qmp = vm.qmp();
    qmp.execute("stop");
    wait_for("record of the stop", || {
        std::fs::read_to_string(&file)
            .unwrap()
            .contains("\"event\":\"STOP\"")
            .then_some(())
    });
    vm.child.kill().unwrap();
    vm.child.wait().unwrap();
    assert!(text(&look("show", &file, &[])).contains("event     STOP"));

    // The end of it is lost.
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 9]).unwrap();
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    for view in ["show", "svg", "check"] {
        let seen = look(view, &file, &[]);
        assert_eq!(seen.status.code(), Some(1), "{view}");
        assert!(!seen.stdout.is_empty(), "{view}: what is good is shown");
        let error = String::from_utf8(seen.stderr).unwrap();
        let expected = format!("line {lines}: the line is cut off");
        assert!(error.contains(&expected), "{view}: {error}");
    }
}

/// A guest that resets itself all the time fills neither the disk nor the time of the main loop.
#[test]
fn a_guest_in_a_reset_loop_is_recorded_within_bounds() {
    needs_kvm!();
    let directory = Directory::new();
    let file = directory.path("trace");
    let vm = Vm::menu(&["--trace", file.to_str().unwrap()]);
    let mut qmp = vm.qmp();
    for _ in 0..300 {
        qmp.execute("system_reset");
    }
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.matches("\"event\":\"RESET\"").count(), 300);
    let longest = lines.lines().map(str::len).max().unwrap();
    assert!(longest < 400, "a record has at most {longest} bytes");
    assert!(text(&look("check", &file, &[])).contains(" 0 gaps"));
}

#[test]
fn a_trace_needs_a_plain_file() {
    needs_kvm!();
    let directory = Directory::new();
    let fifo = directory.path("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    for path in [
        "/dev/full",
        fifo.to_str().unwrap(),
        "/nonexistent/trace",
        "/tmp",
    ] {
        let ended = output(&["--trace", path, "--serial", "none"]);
        assert_eq!(ended.status.code(), Some(2), "{path}");
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(
            error.contains(&format!("--trace {path}: ")) && error.contains("plain file"),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let directory = Directory::new();
    let file = directory.path("trace");
    let missing = look("show", &file, &[]);
    assert_eq!(missing.status.code(), Some(1));
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("No such file"), "{error}");
    std::fs::write(&file, "hello\n").unwrap();
    let other = look("svg", &file, &[]);
    let error = String::from_utf8(other.stderr).unwrap();
    assert!(
        error.contains("line 1: is no trace of this program"),
        "{error}"
    );
    for args in [&["trace"][..], &["trace", "dance"], &["trace", "show"]] {
        let ended = output_of(args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(
            error.contains("vmm-bin trace show FILE"),
            "{args:?}: {error}"
        );
    }
    let help = text(&output_of(&["trace", "--help"]));
    assert!(help.contains("svg") && help.contains("check"), "{help}");
}

fn output_of(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmm-bin"))
        .args(args)
        .output()
        .unwrap()
}
