//! Saved requests are hostile: whatever the bytes are, decoding refuses them or encodes back to
//! the same, and a machine that is given them serves its turns.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lifecycle::RequestsState;

fuzz_target!(|data: &[u8]| {
    if let Ok(state) = RequestsState::decode(data) {
        assert_eq!(state.encode().as_slice(), data);
    }
});
