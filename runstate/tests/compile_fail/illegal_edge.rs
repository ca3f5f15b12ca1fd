use runstate::{QEMU_7_2, RunState, transition};

fn main() {
    // The newest table has this edge, that of 7.2 has not.
    let _ = transition!(QEMU_7_2, RunState::Paused => RunState::Suspended);
}
