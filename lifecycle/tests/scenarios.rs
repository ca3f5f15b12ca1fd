//! The scenarios: what an observer of QEMU 7.2 sees, to the byte. And under `current` none of
//! them, nor any mixture of them, aborts.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The example, which cargo builds before it runs the tests of the package.
fn simulator() -> PathBuf {
    let mut path = std::env::current_exe().expect("the test knows where it is");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(format!("simulate{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: run `cargo build -p lifecycle --examples`, or all tests of the package",
        path.display()
    );
    path
}

fn simulate(compat: &str, scenario: &[u8]) -> Output {
    let mut child = Command::new(simulator())
        .args(["--compat", compat])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the simulator starts");
    let mut input = child.stdin.take().expect("piped");
    let scenario = scenario.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&scenario));
    let output = child.wait_with_output().expect("the simulator ends");
    // A simulator that stops at a bad line does not read the rest.
    let _rest_unread = writer.join();
    output
}

fn scenarios() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "in"))
        .map(|path| {
            let name = path
                .file_stem()
                .expect("named")
                .to_string_lossy()
                .into_owned();
            let read = |path: &Path| std::fs::read(path).expect("readable");
            (name, read(&path), read(&path.with_extension("out")))
        })
        .collect();
    found.sort();
    found
}

#[test]
fn qemu_7_2_to_the_byte() {
    let scenarios = scenarios();
    assert!(scenarios.len() >= 25);
    for (name, input, expected) in scenarios {
        let output = simulate("qemu-7.2", &input);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&expected),
            "{name}"
        );
        let aborted = expected.ends_with(b"abort\n");
        let status = if aborted { 2 } else { 0 };
        assert_eq!(output.status.code(), Some(status), "{name}");
    }
}

#[test]
fn current_aborts_in_none() {
    for (name, input, _) in scenarios() {
        let output = simulate("current", &input);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.contains("abort"), "{name}: {text}");
        assert_eq!(output.status.code(), Some(0), "{name}: {text}");
    }
}

#[test]
fn all_in_one_process_print_what_each_prints_alone() {
    let mut input = Vec::new();
    let mut expected = Vec::new();
    for (_, scenario, output) in scenarios() {
        input.extend_from_slice(&scenario);
        input.extend_from_slice(b"new\n");
        expected.extend_from_slice(&output);
        expected.extend_from_slice(b"new\n");
    }
    let output = simulate("qemu-7.2", &input);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&expected)
    );
}

#[test]
fn a_line_that_cannot_be_read_ends_the_run() {
    for (line, answer) in [
        ("begin", "bad-command\n"),
        ("stop", "bad-argument\n"),
        ("stop nowhere", "bad-argument\n"),
        ("action panic reset", "bad-argument\n"),
        ("handler add 1 high", "bad-argument\n"),
        ("inject nowhere start", "bad-argument\n"),
        ("inject pause begin", "bad-command\n"),
        ("killed -9 1", "bad-argument\n"),
    ] {
        let output = simulate(
            "qemu-7.2",
            format!("# a comment\n\n{line}\nquery\n").as_bytes(),
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), answer, "{line}");
        assert_eq!(output.status.code(), Some(4), "{line}");
    }
}

#[test]
fn a_wrong_option_says_what_would_be_right() {
    let output = simulate("qemu-6.0", b"");
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("qemu-7.2 or current"), "{text}");
}

#[test]
fn injections_nest_as_deep_as_a_scenario_likes() {
    let mut input = String::from("start\n");
    for _ in 0..2_000 {
        input.push_str("inject pause dispatch\ninject pause request reset guest-reset\n");
    }
    input.push_str("request reset guest-reset\ndispatch\nquery\n");
    let output = simulate("qemu-7.2", input.as_bytes());
    assert_eq!(output.status.code(), Some(0));
}
