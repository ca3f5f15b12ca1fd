//! The answer to `query-status` and to the human monitor's `info status`.

use core::fmt;

use crate::run_state::RunState;

/// What `query-status` reports (QEMU, `qapi/run-state.json`, `StatusInfo`).
///
/// `Display` is the line of the human monitor's `info status`, without the end of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusInfo {
    /// Whether vCPUs may execute guest code.
    pub running: bool,
    /// The emulator's mode of one instruction at a time. `None` leaves the member out, as QEMU
    /// does since 9.0; 7.2 always has it, and it is false on KVM.
    pub singlestep: Option<bool>,
    /// The run state.
    pub status: RunState,
}

impl StatusInfo {
    /// The status of a machine in this state, without the member `singlestep`.
    #[must_use]
    pub const fn new(status: RunState) -> Self {
        Self {
            running: status.is_running(),
            singlestep: None,
            status,
        }
    }

    /// The same with the member `singlestep`, as QEMU 7.2 reports it.
    #[must_use]
    pub const fn with_singlestep(self, singlestep: bool) -> Self {
        Self {
            singlestep: Some(singlestep),
            ..self
        }
    }
}

impl From<RunState> for StatusInfo {
    fn from(status: RunState) -> Self {
        Self::new(status)
    }
}

impl fmt::Display for StatusInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.running {
            "VM status: running"
        } else {
            "VM status: paused"
        })?;
        if self.singlestep == Some(true) {
            f.write_str(" (single step mode)")?;
        }
        if !self.running && self.status != RunState::Paused {
            write!(f, " ({})", self.status)?;
        }
        Ok(())
    }
}
