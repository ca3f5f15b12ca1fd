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
