//! What must not compile, and what the compiler says.

use std::process::Command;

/// The compiler whose words are in `compile_fail/*.stderr`. Others word them otherwise.
const RECORDED_WITH: &str = "rustc 1.95.";

#[test]
fn an_illegal_literal_transition_does_not_compile() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(RECORDED_WITH) {
        println!(
            "skipped: an_illegal_literal_transition_does_not_compile: the messages were recorded \
             with {RECORDED_WITH}x, this is {}; the doctest of `transition!` still checks that it \
             does not compile",
            version.trim()
        );
        return;
    }
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile_fail/legal.rs");
    cases.compile_fail("tests/compile_fail/illegal_*.rs");
}
