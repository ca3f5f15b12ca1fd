//! Random sequences of operations against a reference.
#![cfg(feature = "test-utilities")]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "a test may fail so; the fuzzer calls the driver too"
)]

mod operations;

use proptest::prelude::*;

/// What the fuzzer found worth keeping, an input a line in hexadecimal; and every bug it finds.
#[test]
fn the_fuzzers_corpus_replays() {
    let mut inputs = 0;
    for line in include_str!("corpus/operations.txt").lines() {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(digits).collect();
        operations::run(&bytes);
        inputs += 1;
    }
    assert!(inputs > 100, "{inputs}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_ends_as_the_reference_says(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        operations::run(&bytes);
    }

    /// Most of the time there are three vCPUs, and few of them end.
    #[test]
    fn sequences_with_all_vcpus(
        pairs in prop::collection::vec((prop::sample::select(vec![0_u8, 1, 1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15]), any::<u8>()), 0..60)
    ) {
        let mut bytes = vec![8, 0, 8, 1, 8, 2];
        bytes.extend(pairs.into_iter().flat_map(|(operation, argument)| [operation, argument]));
        operations::run(&bytes);
    }
}
