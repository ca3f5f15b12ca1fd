//! A trace file may come from anywhere: whatever the bytes are, a line is refused, or what it says
//! writes and reads back as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lifecycle::TraceLine;

fuzz_target!(|text: &str| {
    if let Ok(line) = text.parse::<TraceLine>() {
        assert_eq!(line.to_string().parse(), Ok(line));
    }
});
