//! Every interleaving of one writer and its readers.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p runstate --release --test loom`
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use runstate::{Change, QEMU_10_2, RunState, RunStateCell, transition};

/// State and generation belong together, whenever a reader looks.
#[test]
fn a_snapshot_is_never_torn() {
    loom::model(|| {
        let cell = Arc::new(RunStateCell::new(RunState::Paused));
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || {
                    let first = cell.snapshot();
                    let second = cell.changed_since(first.generation).unwrap_or(first);
                    assert!(second.generation >= first.generation);
                    for seen in [first, second] {
                        let expected = match seen.generation {
                            0 => RunState::Paused,
                            1 => RunState::Running,
                            2 => RunState::Shutdown,
                            other => panic!("generation {other}"),
                        };
                        assert_eq!(seen.state, expected);
                    }
                })
            })
            .collect();
        cell.set(RunState::Running, &QEMU_10_2).unwrap();
        cell.set(RunState::Shutdown, &QEMU_10_2).unwrap();
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
        assert_eq!(cell.snapshot().generation, 2);
    });
}

/// What the writer did before a change is visible to a reader that has seen the change: if the
/// cell did not release and acquire, loom would let the relaxed load read the old value.
#[test]
fn a_seen_change_carries_what_came_before_it() {
    loom::model(|| {
        let shared = Arc::new((RunStateCell::new(RunState::Prelaunch), AtomicU64::new(0)));
        let reader = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                if shared.0.changed_since(0).is_some() {
                    assert_eq!(shared.1.load(Ordering::Relaxed), 42);
                }
            })
        };
        shared.1.store(42, Ordering::Relaxed);
        shared
            .0
            .apply(transition!(QEMU_10_2, RunState::Prelaunch => RunState::Running))
            .unwrap();
        reader.join().unwrap();
    });
}

/// There should be one writer. Two do not lose or double a change all the same.
#[test]
fn two_writers_move_a_machine_once() {
    loom::model(|| {
        let cell = Arc::new(RunStateCell::new(RunState::Running));
        let other = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.set(RunState::Paused, &QEMU_10_2).unwrap())
        };
        let mine = cell.set(RunState::Paused, &QEMU_10_2).unwrap();
        let others = other.join().unwrap();
        assert_eq!(
            [mine, others]
                .iter()
                .filter(|change| **change == Change::Moved)
                .count(),
            1
        );
        assert_eq!(cell.snapshot().generation, 1);
    });
}
