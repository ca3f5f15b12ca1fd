//! Random guests against a model of the devices, and random trees against a model of reset.

#![cfg(all(
    feature = "acpi-pm",
    feature = "cmos-rtc",
    feature = "debug-exit",
    feature = "debugcon",
    feature = "fw-cfg",
    feature = "i8042",
    feature = "ib700",
    feature = "ioapic",
    feature = "pic",
    feature = "pit",
    feature = "port92",
    feature = "pvpanic",
    feature = "reset-control",
    feature = "serial",
    feature = "wdat"
))]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod chips_model;
mod models;
mod reset_model;

use proptest::prelude::*;

/// What the fuzzer found worth keeping, an input a line in hexadecimal; and every bug it finds.
fn corpus(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.lines().map(|line| {
        let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        (0..line.len()).step_by(2).map(byte).collect()
    })
}

#[test]
fn the_fuzzers_corpus_replays() {
    let mut inputs = 0;
    for input in corpus(include_str!("corpus/registers.txt")) {
        models::run(&input);
        inputs += 1;
    }
    for input in corpus(include_str!("corpus/reset_tree.txt")) {
        reset_model::run(&input);
        inputs += 1;
    }
    assert!(inputs > 500, "{inputs}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn devices_do_what_the_model_says(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        models::run(&bytes);
    }

    #[test]
    fn the_timer_and_the_controllers_do_what_their_models_say(
        bytes in prop::collection::vec(any::<u8>(), 0..600)
    ) {
        chips_model::run(&bytes);
    }

    #[test]
    fn resets_do_what_the_model_says(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        reset_model::run(&bytes);
    }
}
