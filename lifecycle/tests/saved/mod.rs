//! Saved requests out of any bytes, and what must hold of them: shared by the tests and the fuzzer.

use lifecycle::{Compat, RequestsState, Turn};

use crate::common::{machine, running, suspended};

/// The bytes as they are, and as the body of an encoding that has the right length and version.
pub(crate) fn run(bytes: &[u8]) {
    decode(bytes);
    let mut body = bytes.to_vec();
    body.insert(0, 1);
    body.resize(RequestsState::ENCODED_LEN, 0);
    decode(&body);
}

/// What decodes encodes to the same, and a machine that is given it serves it.
fn decode(bytes: &[u8]) {
    let Ok(saved) = RequestsState::decode(bytes) else {
        return;
    };
    assert_eq!(saved.encode().as_slice(), bytes);
    for begin in [machine, running, suspended] {
        let (vm, notes) = begin(Compat::Current);
        vm.requests().restore(&saved);
        assert_eq!(vm.requests().snapshot(), saved);
        for _ in 0..4 {
            match vm.dispatch() {
                Turn::Continue => {}
                Turn::Exit(_) => break,
                Turn::Abort(transition) => panic!("{transition}: {notes:?}"),
            }
        }
    }
}
