//! The run states of QEMU: what a virtual machine as a whole is doing.

crate::states! {
    /// What a virtual machine is doing, in QEMU's words.
    ///
    /// Members are in the order of QAPI's enum `RunState` (QEMU, `qapi/run-state.json`), and
    /// `Display` and `FromStr` use QAPI's spelling. A machine begins in
    /// [`Prelaunch`](RunState::Prelaunch).
    pub enum RunState {
        /// Stopped by a debugger: breakpoint, watchpoint or single step.
        Debug = "debug",
        /// Waiting for, or receiving, an incoming migration.
        InMigrate = "inmigrate",
        /// The accelerator or a device failed beyond repair. Only a reset helps.
        InternalError = "internal-error",
        /// A request to a disk failed, and the disk is configured to stop the machine.
        IoError = "io-error",
        /// Stopped on request.
        Paused = "paused",
        /// The source of a migration that has finished.
        PostMigrate = "postmigrate",
        /// Not started yet, or reset while it was not running.
        Prelaunch = "prelaunch",
        /// The source of a migration in its last phase.
        FinishMigrate = "finish-migrate",
        /// Stopped while a snapshot is loaded.
        RestoreVm = "restore-vm",
        /// vCPUs may execute guest code.
        Running = "running",
        /// Stopped while a snapshot is saved or guest memory is dumped.
        SaveVm = "save-vm",
        /// The guest has powered off, and the machine is kept. Only a reset helps.
        Shutdown = "shutdown",
        /// The guest sleeps (ACPI S3).
        Suspended = "suspended",
        /// The watchdog has fired, and its action is to pause.
        Watchdog = "watchdog",
        /// The guest has panicked, and the action is to pause.
        GuestPanicked = "guest-panicked",
        /// At a checkpoint of COLO, QEMU's coarse-grained lock stepping.
        Colo = "colo",
    }
}

impl RunState {
    /// vCPUs may execute guest code. A suspended machine is not running.
    #[must_use]
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running)
    }

    /// The machine is in the guest's hands: running, or asleep at the guest's own wish.
    ///
    /// A stop takes a live machine out of the guest's hands; one that is not live is stopped
    /// already. QEMU has had this notion since 9.0.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Suspended)
    }

    /// The machine cannot go on from here without a reset.
    #[must_use]
    pub const fn needs_reset(self) -> bool {
        matches!(self, Self::InternalError | Self::Shutdown)
    }
}

#[cfg(test)]
mod tests {
    use super::RunState;

    #[test]
    fn exactly_one_state_runs_and_two_are_live() {
        let of = |test: fn(RunState) -> bool| {
            RunState::ALL
                .iter()
                .copied()
                .filter(|state| test(*state))
                .collect::<std::vec::Vec<_>>()
        };
        assert_eq!(of(RunState::is_running), [RunState::Running]);
        assert_eq!(
            of(RunState::is_live),
            [RunState::Running, RunState::Suspended]
        );
        assert_eq!(
            of(RunState::needs_reset),
            [RunState::InternalError, RunState::Shutdown]
        );
    }
}
