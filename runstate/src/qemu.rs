//! The transition tables of QEMU, as constants.
//!
//! Two editions: the one that a monitor of the 7.2 time expects, and the newest. Nothing was ever
//! taken out between them, so a machine that is legal under the old table is legal under the new.
//! Source: QEMU, `softmmu/runstate.c` of 7.2 and `system/runstate.c` of 10.2.

use crate::run_state::RunState;
use crate::table::TransitionTable;

/// The transitions of QEMU 7.2: 71 edges.
pub const QEMU_7_2: TransitionTable<RunState> = crate::transitions! { RunState {
    Debug => Prelaunch, FinishMigrate, Running, Suspended;
    InMigrate => InternalError, IoError, Paused, PostMigrate, Prelaunch, FinishMigrate, Running, Shutdown, Suspended, Watchdog, GuestPanicked, Colo;
    InternalError => Paused, Prelaunch, FinishMigrate;
    IoError => Prelaunch, FinishMigrate, Running;
    Paused => PostMigrate, Prelaunch, FinishMigrate, Running, Colo;
    PostMigrate => Prelaunch, FinishMigrate, Running;
    Prelaunch => InMigrate, FinishMigrate, Running;
    FinishMigrate => Paused, PostMigrate, Prelaunch, Running, Colo;
    RestoreVm => Prelaunch, Running;
    Running => Debug, InternalError, IoError, Paused, FinishMigrate, RestoreVm, SaveVm, Shutdown, Suspended, Watchdog, GuestPanicked, Colo;
    SaveVm => Running;
    Shutdown => Paused, Prelaunch, FinishMigrate, Colo;
    Suspended => Prelaunch, FinishMigrate, Running, Colo;
    Watchdog => Prelaunch, FinishMigrate, Running, Colo;
    GuestPanicked => Prelaunch, FinishMigrate, Running;
    Colo => Prelaunch, Running, Shutdown;
} };

/// The transitions of QEMU 10.2: those of 7.2, and 14 that came with failed migrations that
/// restore the state before (8.2) and with suspended machines that can be stopped (9.0).
pub const QEMU_10_2: TransitionTable<RunState> = crate::transitions! { RunState {
    Debug => Prelaunch, FinishMigrate, Running, Suspended;
    InMigrate => InternalError, IoError, Paused, PostMigrate, Prelaunch, FinishMigrate, Running, Shutdown, Suspended, Watchdog, GuestPanicked, Colo;
    InternalError => Paused, Prelaunch, FinishMigrate;
    IoError => Prelaunch, FinishMigrate, Running;
    Paused => PostMigrate, Prelaunch, FinishMigrate, Running, Suspended, Colo;
    PostMigrate => Prelaunch, FinishMigrate, Running;
    Prelaunch => InMigrate, FinishMigrate, Running, Suspended;
    FinishMigrate => InternalError, IoError, Paused, PostMigrate, Prelaunch, Running, Shutdown, Suspended, Watchdog, GuestPanicked, Colo;
    RestoreVm => Prelaunch, Running, Suspended;
    Running => Debug, InternalError, IoError, Paused, FinishMigrate, RestoreVm, SaveVm, Shutdown, Suspended, Watchdog, GuestPanicked, Colo;
    SaveVm => Running, Suspended;
    Shutdown => Paused, Prelaunch, FinishMigrate, Colo;
    Suspended => Paused, Prelaunch, FinishMigrate, RestoreVm, Running, SaveVm, Shutdown, Colo;
    Watchdog => Prelaunch, FinishMigrate, Running, Colo;
    GuestPanicked => Prelaunch, FinishMigrate, Running;
    Colo => Prelaunch, Running, Shutdown;
} };

/// What must hold of a table for a machine to be of use.
const fn is_sound(table: &TransitionTable<RunState>) -> bool {
    // Every state can be entered, a running machine can be had again from every state, and so can
    // a fresh one.
    table.reaches_all(RunState::Prelaunch as usize)
        && table.is_reached_by_all(RunState::Running as usize)
        && table.is_reached_by_all(RunState::Prelaunch as usize)
}

const _: () = assert!(is_sound(&QEMU_7_2));
const _: () = assert!(is_sound(&QEMU_10_2));
const _: () = assert!(QEMU_10_2.contains(&QEMU_7_2));
const _: () = assert!(QEMU_7_2.edge_count() == 71);
const _: () = assert!(QEMU_10_2.edge_count() == 85);
