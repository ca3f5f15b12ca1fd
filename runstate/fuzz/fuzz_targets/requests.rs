//! State changes and stored names from the fuzzer's bytes, with an oracle that walks the edges.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use runstate::{Change, QEMU_7_2, QEMU_10_2, RunState, RunStateCell, restore, store};

#[derive(Debug, Arbitrary)]
enum Request<'a> {
    /// A state by its number, as a client would choose one.
    Set(u8),
    /// A state by its name, as a migration stream would bring it.
    Restore(&'a [u8]),
}

#[derive(Debug, Arbitrary)]
struct Run<'a> {
    newest: bool,
    requests: Vec<Request<'a>>,
}

fuzz_target!(|run: Run<'_>| {
    let table = if run.newest { QEMU_10_2 } else { QEMU_7_2 };
    let cell = RunStateCell::new(RunState::Prelaunch);
    for request in run.requests {
        let to = match request {
            Request::Set(number) => RunState::ALL[usize::from(number) % RunState::ALL.len()],
            Request::Restore(field) => match restore::<RunState>(field) {
                Ok(state) => {
                    let mut buffer = [0; 32];
                    let length = store(state, &mut buffer).expect("every name fits 32 bytes");
                    assert!(field.starts_with(&buffer[..length]));
                    state
                }
                Err(_) => continue,
            },
        };
        let before = cell.snapshot();
        let legal = table.edges().any(|edge| edge == (before.state, to));
        let changes = match cell.set(to, &table) {
            Ok(Change::Moved) => {
                assert!(legal);
                assert_eq!(cell.load(), to);
                1
            }
            Ok(Change::Unchanged) => {
                assert_eq!(before.state, to);
                0
            }
            Err(error) => {
                assert!(!legal && before.state != to);
                assert_eq!((error.from, error.to), (before.state, to));
                assert_eq!(cell.load(), before.state);
                0
            }
        };
        assert_eq!(cell.snapshot().changes_since(before.generation), changes);
    }
});
