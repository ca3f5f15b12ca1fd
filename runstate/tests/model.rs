//! Random sequences of requests, against a naive model of the cell and of the table.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

mod requests;

use std::collections::BTreeSet;

use proptest::prelude::*;
use runstate::{
    Change, InvalidTransition, QEMU_7_2, QEMU_10_2, RunState, RunStateCell, Snapshot, State,
    TransitionTable, UnknownState, restore, store, store_with_nul,
};

runstate::states! {
    /// States without a meaning.
    enum Letter { A = "a", B = "b", C = "c", D = "d", E = "e", F = "f" }
}

fn run_state() -> impl Strategy<Value = RunState> {
    prop::sample::select(RunState::ALL)
}

/// All that a naive model needs of reachability.
fn reachable(edges: &BTreeSet<(usize, usize)>, start: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::from([start]);
    loop {
        let next: BTreeSet<usize> = edges
            .iter()
            .filter(|(from, _)| seen.contains(from))
            .map(|(_, to)| *to)
            .collect();
        let before = seen.len();
        seen.extend(next);
        if seen.len() == before {
            return seen;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cell_follows_the_table(
        newest: bool,
        initial in run_state(),
        requests in prop::collection::vec(run_state(), 0..100),
    ) {
        let table = if newest { &QEMU_10_2 } else { &QEMU_7_2 };
        let cell = RunStateCell::new(initial);
        let (mut state, mut generation) = (initial, 0);
        for to in requests {
            let expected = if to == state {
                Ok(Change::Unchanged)
            } else if table.edges().any(|edge| edge == (state, to)) {
                Ok(Change::Moved)
            } else {
                Err(InvalidTransition { from: state, to })
            };
            let before = cell.snapshot();
            prop_assert_eq!(cell.set(to, table), expected);
            if expected == Ok(Change::Moved) {
                (state, generation) = (to, generation + 1);
                prop_assert_eq!(cell.changed_since(before.generation), Some(cell.snapshot()));
            } else {
                prop_assert_eq!(cell.changed_since(before.generation), None);
            }
            prop_assert_eq!(cell.snapshot(), Snapshot { state, generation });
            prop_assert_eq!(cell.load(), state);
        }
        prop_assert_eq!(cell.snapshot().changes_since(0), generation);
    }

    #[test]
    fn a_table_of_any_edges_holds_exactly_those(
        pairs in prop::collection::vec((0..7_usize, 0..7_usize), 0..20),
    ) {
        let edges: BTreeSet<_> = pairs.iter().copied().collect();
        let legal = edges.iter().all(|(from, to)| *from < 6 && *to < 6 && from != to);
        let table = TransitionTable::<Letter>::from_indices(&pairs);
        prop_assert_eq!(table.is_some(), legal);
        if let Some(table) = table {
            let held: BTreeSet<_> =
                table.edges().map(|(from, to)| (from.index(), to.index())).collect();
            prop_assert_eq!(&held, &edges);
            for start in 0..6 {
                let naive = reachable(&edges, start);
                let bits = table.reachable_from(start);
                prop_assert_eq!((0..32).filter(|i| bits & (1 << i) != 0).collect::<BTreeSet<_>>(), naive.clone());
                prop_assert_eq!(table.reaches_all(start), naive.len() == 6);
                let by_all = (0..6).all(|from| reachable(&edges, from).contains(&start));
                prop_assert_eq!(table.is_reached_by_all(start), by_all);
            }
        }
    }

    #[test]
    fn what_is_stored_is_restored(state in run_state(), size in 0..40_usize, fill: u8) {
        let name = state.as_str();
        let mut buffer = vec![fill; size];
        match store(state, &mut buffer) {
            Ok(length) => {
                prop_assert_eq!(&buffer[..length], name.as_bytes());
                prop_assert!(buffer[length..].iter().all(|byte| *byte == fill));
                prop_assert_eq!(restore(&buffer[..length]), Ok(state));
            }
            Err(error) => {
                prop_assert!(size < name.len());
                prop_assert_eq!((error.needed, error.capacity), (name.len(), size));
                prop_assert!(buffer.iter().all(|byte| *byte == fill));
            }
        }
        let mut buffer = vec![fill; size];
        match store_with_nul(state, &mut buffer) {
            Ok(length) => {
                prop_assert_eq!(buffer[length], 0);
                // What follows the NUL does not matter to a reader.
                prop_assert_eq!(restore(&buffer), Ok(state));
            }
            Err(error) => {
                prop_assert!(size <= name.len());
                prop_assert_eq!(error.needed, name.len() + 1);
                prop_assert!(buffer.iter().all(|byte| *byte == fill));
            }
        }
    }

    #[test]
    fn a_hostile_field_is_a_state_or_an_error(field in prop::collection::vec(any::<u8>(), 0..64)) {
        let restored: Result<RunState, UnknownState<RunState>> = restore(&field);
        if let Ok(state) = restored {
            prop_assert!(field.starts_with(state.as_str().as_bytes()));
        }
    }

    #[test]
    fn every_request_moves_the_machine_along_an_edge_or_not_at_all(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        requests::run(&bytes);
    }
}

/// What the fuzzer found worth keeping, an input a line in hexadecimal; and every bug it finds.
#[test]
fn the_fuzzers_corpus_replays() {
    let mut inputs = 0;
    for line in include_str!("corpus/requests.txt").lines() {
        let digits = |at| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
        let bytes: Vec<u8> = (0..line.len()).step_by(2).map(digits).collect();
        requests::run(&bytes);
        inputs += 1;
    }
    assert!(inputs > 20, "{inputs}");
}
