//! The constants against the tables that were extracted from QEMU, bit for bit.
#![expect(clippy::unwrap_used, reason = "a test may panic: that is how it fails")]

use std::collections::BTreeSet;

use runstate::{QEMU_7_2, QEMU_10_2, RunState, TransitionTable};

/// The rows of a table, with what is repeated.
fn rows(csv: &str) -> Vec<(RunState, RunState)> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("from,to"));
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (from, to) = line.split_once(',').unwrap();
            (from.parse().unwrap(), to.parse().unwrap())
        })
        .collect()
}

fn assert_identical(table: &TransitionTable<RunState>, edges: &BTreeSet<(RunState, RunState)>) {
    for from in RunState::ALL {
        for to in RunState::ALL {
            assert_eq!(
                table.allows(*from, *to),
                edges.contains(&(*from, *to)),
                "{from} -> {to}"
            );
            let ok = from == to || edges.contains(&(*from, *to));
            assert_eq!(table.check(*from, *to).is_ok(), ok, "{from} -> {to}");
        }
    }
    assert_eq!(&table.edges().collect::<BTreeSet<_>>(), edges);
    assert_eq!(table.edge_count() as usize, edges.len());
}

#[test]
fn qemu_7_2_is_bit_for_bit_the_extracted_table() {
    let rows = rows(include_str!("data/qemu-7.2.csv"));
    let edges: BTreeSet<_> = rows.iter().copied().collect();
    // QEMU's source has one of them twice, prelaunch to inmigrate; the extract does not.
    assert_eq!((rows.len(), edges.len()), (71, 71));
    assert_identical(&QEMU_7_2, &edges);
}

#[test]
fn qemu_10_2_is_bit_for_bit_the_extracted_table() {
    let rows = rows(include_str!("data/qemu-10.2.csv"));
    let edges: BTreeSet<_> = rows.iter().copied().collect();
    assert_eq!((rows.len(), edges.len()), (85, 85));
    assert_identical(&QEMU_10_2, &edges);
}

#[test]
fn what_came_between_the_editions_is_fourteen_edges() {
    let added: Vec<String> = QEMU_10_2
        .edges()
        .filter(|(from, to)| !QEMU_7_2.allows(*from, *to))
        .map(|(from, to)| format!("{from} {to}"))
        .collect();
    assert_eq!(
        added,
        [
            "paused suspended",
            "prelaunch suspended",
            "finish-migrate internal-error",
            "finish-migrate io-error",
            "finish-migrate shutdown",
            "finish-migrate suspended",
            "finish-migrate watchdog",
            "finish-migrate guest-panicked",
            "restore-vm suspended",
            "save-vm suspended",
            "suspended paused",
            "suspended restore-vm",
            "suspended save-vm",
            "suspended shutdown",
        ]
    );
    assert_eq!(
        QEMU_7_2
            .edges()
            .filter(|(from, to)| !QEMU_10_2.allows(*from, *to))
            .count(),
        0
    );
    assert!(QEMU_10_2.contains(&QEMU_7_2));
    assert!(!QEMU_7_2.contains(&QEMU_10_2));
}

#[test]
fn the_states_are_in_the_order_and_the_spelling_of_qapi() {
    let names: Vec<_> = RunState::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(
        names.join(" "),
        "debug inmigrate internal-error io-error paused postmigrate prelaunch finish-migrate \
         restore-vm running save-vm shutdown suspended watchdog guest-panicked colo"
    );
    for (index, state) in RunState::ALL.iter().enumerate() {
        assert_eq!(*state as usize, index);
        assert_eq!(state.as_str().parse(), Ok(*state));
    }
}
