//! State changes and stored names out of bytes, with an oracle that walks the edges. The fuzz target uses this file too.

use runstate::{Change, QEMU_7_2, QEMU_10_2, RunState, RunStateCell, restore, store};

/// The first byte chooses the table. Then each byte is a request: an even one a state by its number, as a client would choose
/// one; an odd one says how long the name is that follows, as a migration stream would bring it.
pub(crate) fn run(bytes: &[u8]) {
    let Some((newest, mut bytes)) = bytes.split_first() else {
        return;
    };
    let table = if newest % 2 == 1 { QEMU_10_2 } else { QEMU_7_2 };
    let cell = RunStateCell::new(RunState::Prelaunch);
    while let Some((request, rest)) = bytes.split_first() {
        let number = usize::from(request / 2);
        if request % 2 == 0 {
            bytes = rest;
            set(&cell, RunState::ALL[number % RunState::ALL.len()], &table);
        } else {
            let (field, rest) = rest.split_at(number.min(rest.len()));
            bytes = rest;
            if let Some(state) = restored(field) {
                set(&cell, state, &table);
            }
        }
    }
}

/// A field is the name of a state, or an error.
fn restored(field: &[u8]) -> Option<RunState> {
    let state = restore::<RunState>(field).ok()?;
    let mut buffer = [0; 32];
    let length = store(state, &mut buffer).expect("every name fits 32 bytes");
    assert!(field.starts_with(&buffer[..length]));
    Some(state)
}

/// A request moves the cell along an edge, or not at all.
fn set(cell: &RunStateCell, to: RunState, table: &runstate::TransitionTable<RunState>) {
    let before = cell.snapshot();
    let legal = table.edges().any(|edge| edge == (before.state, to));
    let changes = match cell.set(to, table) {
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
