//! The README's conversation, held again with `socat`: what it says is what happens.

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
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");
const CALL: &str = "$ socat - UNIX-CONNECT:/tmp/qmp.sock\n";

/// The lines between the call of `socat` and the end of the block.
fn transcript() -> Vec<&'static str> {
    let (_, after) = README.split_once(CALL).expect("the README calls socat");
    let (block, _) = after.split_once("```").expect("the block ends");
    block.lines().collect()
}

/// A line without the time of an event.
fn timeless(line: &str) -> String {
    match (
        line.split_once("\"timestamp\": {"),
        line.split_once("}, \"event\""),
    ) {
        (Some((before, _)), Some((_, after))) => format!("{before}TIME, \"event\"{after}"),
        _ => line.to_owned(),
    }
}

#[test]
fn the_readme_shows_what_happens() {
    if Command::new("socat")
        .arg("-V")
        .stdout(Stdio::null())
        .status()
        .is_err()
    {
        println!("skipped: socat is not installed");
        return;
    }
    let soft = Soft::start();
    let mut socat = Command::new("socat")
        // With a limit on how long nothing may happen, so that a hang is a failure.
        .args([
            "-T",
            "20",
            "-",
            &format!("UNIX-CONNECT:{}", soft.path().display()),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("socat starts");
    let mut input = socat.stdin.take().expect("a pipe");
    let mut output = BufReader::new(socat.stdout.take().expect("a pipe")).lines();
    let lines = transcript();
    let mut commands = 0;
    for line in &lines {
        // What the client types has single quotes, what it gets has double ones.
        if line.starts_with("{'") {
            writeln!(input, "{line}").expect("socat reads");
            commands += 1;
        } else {
            let said = output.next().expect("there is more").expect("ASCII");
            assert_eq!(timeless(&said), timeless(line));
        }
    }
    assert!(commands > 5, "only {commands} commands");
    assert!(output.next().is_none(), "the server has said all");
    drop(input);
    assert!(socat.wait().expect("a child").success());
    soft.cause();
}
