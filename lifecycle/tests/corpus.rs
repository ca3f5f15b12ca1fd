//! What the fuzzers found worth keeping, an input a line in hexadecimal; and every bug that they find.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[expect(dead_code, reason = "other tests need the rest of it")]
mod common;
mod oracle;
mod reference;
mod saved;

#[path = "../examples/simulate/command.rs"]
mod command;
#[path = "../examples/simulate/world.rs"]
mod world;

use proptest::prelude::*;

fn inputs(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines().map(|line| {
        let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
        (0..line.len()).step_by(2).map(byte).collect()
    })
}

#[test]
fn operations() {
    for input in inputs(include_str!("corpus/operations.txt")) {
        let scenario = oracle::scenario(&input);
        assert_eq!(oracle::check(&scenario), Ok(()), "{scenario:#?}");
    }
}

#[test]
fn saved_requests() {
    inputs(include_str!("corpus/saved_requests.txt")).for_each(|input| saved::run(&input));
}

#[test]
fn trace_lines() {
    for input in inputs(include_str!("corpus/trace_line.txt")) {
        let Ok(text) = str::from_utf8(&input) else {
            continue;
        };
        if let Ok(line) = text.parse::<lifecycle::TraceLine>() {
            assert_eq!(line.to_string().parse(), Ok(line));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Few of many zeroes, so that most fields are possible.
    #[test]
    fn any_saved_requests(fields in prop::collection::vec((0..144_usize, 0..20_u8), 0..12)) {
        let mut body = vec![0; 144];
        for (at, byte) in fields {
            body[at] = byte;
        }
        saved::run(&body);
    }
}
