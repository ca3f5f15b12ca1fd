//! What is refused, and in what words.

use runstate::{
    BufferTooSmall, InvalidTransition, MAX_STATES, QEMU_7_2, QEMU_10_2, RunState, RunStateCell,
    Snapshot, State, StateCell, TransitionTable, UnknownState, restore, store, store_with_nul,
    transition,
};

#[test]
fn every_pair_that_is_not_in_the_table_is_refused_and_changes_nothing() {
    for (table, refused) in [(&QEMU_7_2, 169), (&QEMU_10_2, 155)] {
        let mut count = 0;
        for from in RunState::ALL {
            for to in RunState::ALL {
                let cell = RunStateCell::new(*from);
                if let Err(error) = cell.set(*to, table) {
                    assert_eq!(
                        error,
                        InvalidTransition {
                            from: *from,
                            to: *to
                        }
                    );
                    assert_eq!(
                        cell.snapshot(),
                        Snapshot {
                            state: *from,
                            generation: 0
                        }
                    );
                    count += 1;
                }
            }
        }
        assert_eq!(count, refused);
    }
}

#[test]
fn the_message_names_both_states() {
    let error = QEMU_10_2
        .check(RunState::SaveVm, RunState::GuestPanicked)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid runstate transition: 'save-vm' -> 'guest-panicked'"
    );
}

#[test]
fn a_literal_transition_does_not_apply_in_another_state() {
    let cell = RunStateCell::new(RunState::Paused);
    let wake = transition!(QEMU_10_2, RunState::Suspended => RunState::Running);
    assert_eq!(
        (wake.from(), wake.to()),
        (RunState::Suspended, RunState::Running)
    );
    let error = cell.apply(wake).unwrap_err();
    // It names the state that the machine is in.
    assert_eq!(
        error,
        InvalidTransition {
            from: RunState::Paused,
            to: RunState::Running
        }
    );
    assert_eq!(cell.load(), RunState::Paused);
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    for name in [
        "", "Running", "running ", "RUNNING", "run", "stopped", "io_error",
    ] {
        let error = name.parse::<RunState>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "no such state: expected one of debug, inmigrate, internal-error, io-error, paused, \
             postmigrate, prelaunch, finish-migrate, restore-vm, running, save-vm, shutdown, \
             suspended, watchdog, guest-panicked, colo"
        );
    }
}

#[test]
fn a_buffer_that_is_too_small_is_left_alone() {
    let mut buffer = *b"xxxxxx";
    let error = store(RunState::Running, &mut buffer).unwrap_err();
    assert_eq!(
        error,
        BufferTooSmall {
            needed: 7,
            capacity: 6
        }
    );
    assert_eq!(
        error.to_string(),
        "the name of the state needs 7 bytes, the buffer has 6"
    );
    assert_eq!(&buffer, b"xxxxxx");

    // The name fits, its NUL does not.
    let mut buffer = *b"xxxxxxx";
    let error = store_with_nul(RunState::Running, &mut buffer).unwrap_err();
    assert_eq!(
        error,
        BufferTooSmall {
            needed: 8,
            capacity: 7
        }
    );
    assert_eq!(&buffer, b"xxxxxxx");
    assert_eq!(store(RunState::Running, &mut buffer), Ok(7));
}

#[test]
fn a_field_that_holds_no_name_is_refused() {
    for field in [
        &b""[..],
        b"\0running",
        b"runnin",
        b"running2",
        b"\xff\xfe",
        b"run\0ning",
    ] {
        assert!(restore::<RunState>(field).is_err(), "{field:?}");
    }
    assert_eq!(restore(b"running\0\xff\xff"), Ok(RunState::Running));
}

#[test]
fn a_table_that_makes_no_sense_is_not_built() {
    for pairs in [[(16, 0)], [(0, 16)], [(3, 3)], [(usize::MAX, usize::MAX)]] {
        assert!(
            TransitionTable::<RunState>::from_indices(&pairs).is_none(),
            "{pairs:?}"
        );
    }
    // There can be 32 states: what would be the 33rd is not the first one.
    for index in 0..RunState::COUNT {
        for beyond in [MAX_STATES, usize::MAX] {
            assert!(!QEMU_10_2.allows_index(index, beyond));
            assert!(!QEMU_10_2.allows_index(beyond, index));
        }
    }
}

#[test]
fn what_a_failed_assertion_prints_tells_states_and_edges() {
    let table = TransitionTable::<RunState>::from_indices(&[(0, 1)]).unwrap();
    assert_eq!(format!("{table:?}"), "[(Debug, InMigrate)]");
    let cell = StateCell::new(RunState::Paused);
    assert_eq!(
        format!("{cell:?}"),
        "StateCell(Snapshot { state: Paused, generation: 0 })"
    );
    let unknown = RunState::from_name("truth").unwrap_err();
    assert_eq!(format!("{unknown:?}"), "UnknownState");
}

/// A set of states that breaks the rule of its trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Liar {
    One,
    Two,
}

impl State for Liar {
    const ALL: &'static [Self] = &[Self::One, Self::Two];

    fn index(self) -> usize {
        usize::MAX
    }

    fn name(self) -> &'static str {
        "liar"
    }
}

#[test]
fn states_that_lie_about_their_index_get_wrong_answers_and_no_panic() {
    let table = TransitionTable::<Liar>::from_indices(&[(0, 1), (1, 0)]).unwrap();
    assert!(!table.allows(Liar::One, Liar::Two));
    let cell = StateCell::new(Liar::Two);
    assert!(cell.set(Liar::One, &table).is_err());
    assert_eq!(cell.load(), Liar::Two);
    assert_eq!(Liar::from_name("truth"), Err(UnknownState::default()));
}
