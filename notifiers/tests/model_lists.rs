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

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (-2..=2_i8).prop_map(Act::Add),
        3 => any::<u8>().prop_map(Act::Remove),
        1 => any::<u8>().prop_map(Act::Detach),
        1 => Just(Act::Clear),
        4 => any::<bool>().prop_map(Act::Notify),
        2 => Just(Act::RemoveSelf),
        1 => Just(Act::Fail),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    (
        prop_oneof![
            Just(Kind::Plain),
            Just(Kind::WithReturn),
            Just(Kind::Priority)
        ],
        0..5_u32,
        prop::collection::vec(act(), 0..40),
        prop::collection::vec(prop::collection::vec(act(), 0..4), 0..6),
    )
        .prop_map(|(kind, max_nesting, owner, scripts)| {
            // Some notifiers to begin with, or little would happen.
            let mut acts: Vec<_> = (0..6).map(|n| Act::Add(n % 3 - 1)).collect();
            acts.extend(owner);
            Program {
                kind,
                max_nesting,
                owner: acts,
                scripts,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_and_the_naive_reference_see_the_same(program in program()) {
        agree(&program);
    }
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
