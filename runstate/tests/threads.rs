//! One writer and several readers, for real.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use runstate::{QEMU_10_2, RunState, RunStateCell};

const CHANGES: u64 = 200_000;

#[test]
fn readers_see_every_generation_with_the_state_that_belongs_to_it() {
    let cell = RunStateCell::new(RunState::Paused);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut seen = cell.snapshot();
                loop {
                    // Before the look, so that the last look is after the last change.
                    let last_look = done.load(Ordering::Acquire);
                    if let Some(now) = cell.changed_since(seen.generation) {
                        assert!(now.generation > seen.generation);
                        let running = now.generation % 2 == 1;
                        assert_eq!(now.state == RunState::Running, running);
                        seen = now;
                    }
                    if last_look {
                        assert_eq!(seen.generation, CHANGES);
                        break;
                    }
                }
            });
        }
        for generation in 1..=CHANGES {
            let to = if generation % 2 == 1 {
                RunState::Running
            } else {
                RunState::Paused
            };
            cell.set(to, &QEMU_10_2).unwrap();
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn two_writers_that_should_not_be_lose_no_change() {
    let cell = RunStateCell::new(RunState::Paused);
    let moved: u64 = thread::scope(|scope| {
        let writers: Vec<_> = [RunState::Running, RunState::Paused]
            .into_iter()
            .map(|to| {
                let cell = &cell;
                scope.spawn(move || {
                    let changes = (0..CHANGES)
                        .filter(|_| cell.set(to, &QEMU_10_2).unwrap() == runstate::Change::Moved);
                    changes.count() as u64
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .sum()
    });
    assert_eq!(cell.snapshot().generation, moved);
}
