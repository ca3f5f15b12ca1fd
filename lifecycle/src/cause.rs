//! Why a machine is reset, shut down or woken.
//!
//! The rule that must never be broken: the order of the members is QAPI's. Who caused a shutdown
//! is read from it, and it travels in saved requests.

use crate::names::qapi_enum;

qapi_enum! {
    /// Why a machine is shut down or reset (QEMU, `qapi/run-state.json`, `ShutdownCause`).
    "cause"
    pub enum ShutdownCause {
        /// No cause: nothing is requested, or the reset at power-on, which nobody is told of.
        None = "none",
        /// The host failed.
        HostError = "host-error",
        /// The monitor's command `quit`.
        HostQmpQuit = "host-qmp-quit",
        /// The monitor's command `system_reset`.
        HostQmpSystemReset = "host-qmp-system-reset",
        /// A terminating signal: SIGINT, SIGTERM, SIGHUP.
        HostSignal = "host-signal",
        /// A person closed the window.
        HostUi = "host-ui",
        /// The guest powered off.
        GuestShutdown = "guest-shutdown",
        /// The guest asked for a reset, or caused one by a triple fault.
        GuestReset = "guest-reset",
        /// The guest panicked.
        GuestPanic = "guest-panic",
        /// A part of the guest is reset (s390). Nobody is told, and `reboot=shutdown` does not
        /// apply.
        SubsystemReset = "subsystem-reset",
        /// The reset before a snapshot is loaded. Nobody is told.
        SnapshotLoad = "snapshot-load",
    }
}

impl ShutdownCause {
    /// The guest is the cause. The event's member `guest`.
    #[must_use]
    pub const fn is_guest(self) -> bool {
        self.index() >= Self::GuestShutdown.index()
    }

    /// A reset with this cause is announced by a RESET event.
    #[must_use]
    pub const fn announces_reset(self) -> bool {
        !matches!(self, Self::None | Self::SubsystemReset | Self::SnapshotLoad)
    }
}

qapi_enum! {
    /// What wakes a suspended machine (QEMU, `WakeupReason`).
    "wakeup reason"
    pub enum WakeupReason {
        /// Nothing.
        None = "none",
        /// The real-time clock's alarm.
        Rtc = "rtc",
        /// The ACPI power management timer.
        PmTimer = "pmtimer",
        /// Anything else: the monitor's `system_wakeup`, a key.
        Other = "other",
    }
}
