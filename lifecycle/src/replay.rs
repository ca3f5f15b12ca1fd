//! Record and replay: where a deterministic replay holds the main loop back.
//!
//! A recording passes every checkpoint and notes it. A replay passes one only when the log says
//! that it is next; otherwise the request stays latched and is tried again in the next turn.
//! QEMU, `replay/replay.c`.

use crate::cause::ShutdownCause;

/// A point in a turn that a replay may hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checkpoint {
    /// A latched suspend is about to be served.
    SuspendRequested,
    /// A latched reset is about to be served.
    ResetRequested,
}

/// What a record and replay engine tells the lifecycle, and is told by it.
///
/// A machine without one uses [`NoReplay`].
pub trait ReplayGate: Send + Sync {
    /// Whether the request may be served now. Called on the main-loop thread, only when the
    /// request is latched.
    fn checkpoint(&self, checkpoint: Checkpoint) -> bool {
        let _ = checkpoint;
        true
    }

    /// A shutdown is being requested. Called before it is latched, on the thread that requests
    /// it: must neither block nor allocate. A signal, and a reset that becomes a shutdown, do not
    /// come here.
    fn shutdown_requested(&self, cause: ShutdownCause) {
        let _ = cause;
    }
}

/// Neither recording nor replaying: everything passes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReplay;

impl ReplayGate for NoReplay {}
