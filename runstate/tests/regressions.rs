//! Bugs that other projects had here. One test each, named after what it prevents.

use runstate::{
    Change, QEMU_7_2, QEMU_10_2, RunState, RunStateCell, StatusInfo, TransitionTable, restore,
};

/// Tries the change on a machine of each edition; says what came of it, and checks that a refusal
/// left the machine alone.
fn attempt(from: RunState, to: RunState) -> [bool; 2] {
    [&QEMU_7_2, &QEMU_10_2].map(|table| {
        let cell = RunStateCell::new(from);
        let moved = cell.set(to, table).is_ok();
        assert_eq!(cell.load(), if moved { to } else { from });
        moved
    })
}

/// QEMU up to 8.2 aborts when the guest's S3 request meets a `stop`, which a guest can provoke
/// (fixed in 9.0 by commits b9ae473d80 and 58b105703e, which added the edge).
#[test]
fn suspending_a_stopped_machine_does_not_abort() {
    assert_eq!(
        attempt(RunState::Paused, RunState::Suspended),
        [false, true]
    );
    assert_eq!(
        attempt(RunState::GuestPanicked, RunState::Suspended),
        [false, false]
    );
}

/// QEMU, still in 10.0: `dump-guest-memory` with `detach`, then `system_reset`, aborts.
#[test]
fn a_reset_during_a_memory_dump_does_not_abort() {
    assert_eq!(
        attempt(RunState::SaveVm, RunState::Prelaunch),
        [false, false]
    );
}

/// QEMU aborts when an incoming migration stream says that the source was in the debugger.
#[test]
fn a_migration_stream_cannot_name_a_state_that_aborts() {
    for state in [RunState::Debug, RunState::SaveVm, RunState::RestoreVm] {
        let named = restore(state.as_str().as_bytes());
        assert_eq!(named, Ok(state));
        assert_eq!(attempt(RunState::InMigrate, state), [false, false]);
    }
}

/// QEMU aborts on a migration with background snapshot of a machine that never ran.
#[test]
fn a_background_snapshot_before_the_start_does_not_abort() {
    assert_eq!(
        attempt(RunState::Prelaunch, RunState::Paused),
        [false, false]
    );
}

/// cloud-hypervisor answers a pause of a paused machine with HTTP 500, which cost its clients
/// dear (cocoon issues 52 and 176). QEMU takes it for done.
#[test]
fn being_in_the_state_already_is_no_error() {
    for table in [QEMU_7_2, QEMU_10_2] {
        for state in RunState::ALL {
            let cell = RunStateCell::new(*state);
            assert_eq!(cell.set(*state, &table), Ok(Change::Unchanged));
            assert_eq!(cell.snapshot().generation, 0);
        }
    }
}

/// cloud-hypervisor's debugger writes the state past its own table, so that the machine is where
/// the table says it cannot be. Here the table is the only way in, and each table has its say.
#[test]
fn no_state_is_written_past_the_table() {
    let nothing = TransitionTable::<RunState>::from_indices(&[]).unwrap();
    for from in RunState::ALL {
        let cell = RunStateCell::new(*from);
        for to in RunState::ALL {
            assert_eq!(cell.set(*to, &nothing).is_ok(), from == to);
        }
        assert_eq!(cell.load(), *from);
    }
}

/// StratoVirt's `query-status` knows two states, and reports all others as if there were nothing
/// to report.
#[test]
fn every_state_is_reported_as_itself() {
    for state in RunState::ALL {
        let status = StatusInfo::from(*state);
        assert_eq!(
            (status.status, status.running),
            (*state, *state == RunState::Running)
        );
        assert_eq!(status.singlestep, None);
        let expected = match state {
            RunState::Running => "VM status: running".to_owned(),
            RunState::Paused => "VM status: paused".to_owned(),
            other => format!("VM status: paused ({other})"),
        };
        assert_eq!(status.to_string(), expected);
    }
    let stepping = StatusInfo::new(RunState::Prelaunch).with_singlestep(true);
    assert_eq!(
        stepping.to_string(),
        "VM status: paused (single step mode) (prelaunch)"
    );
    let not_stepping = StatusInfo::new(RunState::Running).with_singlestep(false);
    assert_eq!(not_stepping.to_string(), "VM status: running");
}

/// avocado-vt issue 4312: what happened before the observer came is lost on it. A generation that
/// an observer has not seen is there to be asked for.
#[test]
fn an_observer_that_comes_late_learns_what_it_missed() {
    let cell = RunStateCell::new(RunState::Prelaunch);
    assert_eq!(cell.changed_since(0), None);
    for state in [RunState::Running, RunState::Paused, RunState::Running] {
        assert_eq!(cell.set(state, &QEMU_10_2), Ok(Change::Moved));
    }
    let missed = cell.changed_since(0).unwrap();
    assert_eq!(
        (missed.state, missed.changes_since(0)),
        (RunState::Running, 3)
    );
    // It went away and came back between two looks: the state is the same, and still it is seen.
    let seen = missed.generation;
    cell.set(RunState::Paused, &QEMU_10_2).unwrap();
    cell.set(RunState::Running, &QEMU_10_2).unwrap();
    assert_eq!(
        cell.changed_since(seen).map(|now| now.state),
        Some(RunState::Running)
    );
}
