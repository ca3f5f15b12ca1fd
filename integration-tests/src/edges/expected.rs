//! What the runs need not reach or take, and why. Both lists may only get shorter: an entry that a
//! run has refuted fails the test until it is struck off.

use runstate::RunState::{self, *};

/// States that no run reaches.
pub(super) const UNREACHED: &[(RunState, &str)] = &[
    (InMigrate, "there is no migration"),
    (PostMigrate, "there is no migration"),
    (FinishMigrate, "there is no migration"),
    (RestoreVm, "there are no snapshots"),
    (Colo, "there is no COLO"),
    (IoError, "there are no disks"),
];

/// Edges between reached states that no run takes.
pub(super) const UNTAKEN: &[(RunState, RunState, &str)] = &[
    (
        InternalError,
        Paused,
        "only a migration changes the state of a machine that is stopped",
    ),
    (
        Shutdown,
        Paused,
        "only a migration changes the state of a machine that is stopped",
    ),
    (
        Prelaunch,
        Suspended,
        "a reset forgets that the guest slept: only an incoming one is suspended before it ran",
    ),
    (
        Debug,
        Suspended,
        "a debugger stops what runs: a sleeping machine that it stops is paused",
    ),
];
