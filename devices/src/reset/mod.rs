//! Three-phase reset over a tree of devices.
//!
//! ```text
//!              assert                          release
//!   running ───────────▶ enter ─▶ hold ─ ─ ─ ─ ─▶ exit ───▶ running
//!                          │        │              │
//!            stop, forget  ┘        │              └ start again
//!                 touch the outside ┘ (drive lines low)
//! ```
//!
//! | phase | may a device touch others? | what it does |
//! |---|---|---|
//! | enter | no | forgets its own state and stops its own work |
//! | hold  | yes | drives its lines to their reset levels; everybody's state is already clean |
//! | exit  | yes | starts again |
//!
//! Each phase runs over the whole subtree before the next begins, and a device's children always
//! come before the device itself. Resets nest: a device counts how often it and its ancestors were
//! asserted; `enter` and `hold` run when the count leaves zero, `exit` when it comes back. What is
//! called when is one pure function of tree and counts (in `plan.rs`); the [`ResetTree`] only
//! carries its steps out.
//!
//! The rule that must never be broken: **a phase is never re-entered**. A device that wants a reset
//! while it is being reset posts a [`PowerRequest`](crate::PowerRequest) and gets it later; asking
//! the tree from within a phase is an error.

mod plan;
mod tree;

use std::fmt;

pub use tree::{NodeId, ResetTree, Unreset};

/// How deep resets nest: as many as QEMU allows.
pub const MAX_RESETS: u32 = 50;

/// Why a reset happens. A device passes it on and may keep state over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResetType {
    /// As at power-on.
    Cold,
    /// On the way out of S3: what tells firmware to resume, instead of booting, stays.
    Wakeup,
    /// A saved state is about to be loaded.
    SnapshotLoad,
}

/// One of the three phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The first: forget and stop.
    Enter,
    /// The second: tell the others.
    Hold,
    /// The third: start again.
    Exit,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Enter => "enter",
            Self::Hold => "hold",
            Self::Exit => "exit",
        })
    }
}

/// A device that can be reset. A phase in which it has nothing to do is left out.
///
/// Called on the thread that resets, with no lock of this crate held. Must not block on another
/// device or on a vCPU: the VMM has stopped the vCPUs before.
pub trait Resettable: Send + Sync {
    /// Forget the own state and stop the own work, and touch nobody else.
    fn enter(&self, kind: ResetType) {
        let _ = kind;
    }

    /// Drive the lines to others to their reset levels. A device with nothing but registers may do
    /// all of its reset here.
    fn hold(&self, kind: ResetType) {
        let _ = kind;
    }

    /// Start again.
    fn exit(&self, kind: ResetType) {
        let _ = kind;
    }

    /// All three phases, for a device that is on no tree.
    fn reset(&self, kind: ResetType) {
        self.enter(kind);
        self.hold(kind);
        self.exit(kind);
    }
}

#[cfg(test)]
mod tests;
