//! The counterpart of those that fail: it is the edge that makes the difference.

use runstate::{QEMU_7_2, QEMU_10_2, RunState, transition};

fn main() {
    let _ = transition!(QEMU_7_2, RunState::Running => RunState::Suspended);
    let _ = transition!(QEMU_10_2, RunState::Paused => RunState::Suspended);
}
