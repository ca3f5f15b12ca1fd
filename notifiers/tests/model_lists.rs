//! Random programs, in which notifiers add, remove and notify, against the naive reference.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic: that is how it fails"
)]

mod model;

use model::{Act, Kind, Program, agree};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_and_the_naive_reference_see_the_same(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        agree(&Program::from_bytes(&bytes));
    }
}

/// What the fuzzer found worth keeping, an input a line in hexadecimal; and every bug it finds.
#[test]
fn the_fuzzers_corpus_replays() {
    let mut inputs = 0;
    for line in include_str!("corpus/lists.txt").lines() {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(digits).collect();
        agree(&Program::from_bytes(&bytes));
        inputs += 1;
    }
    assert!(inputs > 50, "{inputs}");
}

/// The comparison is worth something only if the programs do something.
#[test]
fn the_programs_reach_every_kind_of_outcome() {
    let nested = Program {
        kind: Kind::WithReturn,
        max_nesting: 2,
        owner: vec![Act::Add(0), Act::Add(0), Act::Notify(true), Act::Clear],
        scripts: vec![vec![Act::Notify(true)], vec![Act::Add(1), Act::Fail]],
    };
    // Two adds, a failed round (the newest fails, so the older is never called), a clear.
    assert_eq!(agree(&nested), 6);
    let deep = Program {
        scripts: vec![vec![Act::Notify(true)]],
        ..nested
    };
    // Four lengths; one outer call to each notifier, each of which calls both again and is refused
    // by them: 2 + 4 calls, 4 refusals.
    assert_eq!(agree(&deep), 4 + 6 + 4);
}
