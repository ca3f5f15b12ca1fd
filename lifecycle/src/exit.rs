//! How a process ends: a total map from the cause to an exit code.
//!
//! | cause | [`code`](ExitStatus::code) | [`cause_code`](ExitStatus::cause_code) |
//! |---|---|---|
//! | guest-shutdown | 0, or the guest's own code | 0, or the guest's own code |
//! | guest-panic | 1 with `panic=exit-failure`, else 0 | 1 with `panic=exit-failure`, else 88 |
//! | host-qmp-quit | 0 | 82 |
//! | host-signal | 0 | 84 |
//! | host-error | 0 | 81 |
//! | host-qmp-system-reset | 0 | 83 |
//! | host-ui | 0 | 85 |
//! | guest-reset | 0 | 87 |
//! | subsystem-reset | 0 | 89 |
//! | snapshot-load | 0 | 90 |
//! | none | 0 | 80 |
//!
//! `code` is what QEMU's process returns, so that a script written for it goes on working;
//! `cause_code` tells the causes apart.

use core::fmt;

use crate::cause::ShutdownCause;
use crate::latch::{ShutdownRequest, Signal};

/// How a process is to end, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ExitStatus {
    /// Why.
    pub cause: ShutdownCause,
    /// The exit code that the guest gave.
    pub guest_code: Option<i32>,
    /// The policy calls it a failure: a panic with the action `exit-failure`.
    pub failure: bool,
    /// The signal that asked for it. It may come with another cause, which was first.
    pub signal: Option<Signal>,
}

impl ExitStatus {
    /// The status for a request that ends the process.
    #[must_use]
    pub const fn new(request: ShutdownRequest, failure: bool, signal: Option<Signal>) -> Self {
        Self {
            cause: request.cause,
            guest_code: request.exit_code,
            failure,
            signal,
        }
    }

    /// The exit code as QEMU's: 0, unless the guest gave one or its panic is a failure.
    /// The system truncates it to 8 bits.
    #[must_use]
    pub const fn code(&self) -> i32 {
        match self.guest_code {
            Some(code) if code != 0 => code,
            _ if self.failure => 1,
            _ => 0,
        }
    }

    /// An exit code that is distinct for each cause. A guest's own code and the failure go first.
    #[must_use]
    pub const fn cause_code(&self) -> i32 {
        match (self.guest_code, self.failure, self.cause) {
            (Some(code), _, _) => code,
            (None, true, _) => 1,
            (None, false, ShutdownCause::GuestShutdown) => 0,
            (None, false, ShutdownCause::None) => 80,
            (None, false, ShutdownCause::HostError) => 81,
            (None, false, ShutdownCause::HostQmpQuit) => 82,
            (None, false, ShutdownCause::HostQmpSystemReset) => 83,
            (None, false, ShutdownCause::HostSignal) => 84,
            (None, false, ShutdownCause::HostUi) => 85,
            (None, false, ShutdownCause::GuestReset) => 87,
            (None, false, ShutdownCause::GuestPanic) => 88,
            (None, false, ShutdownCause::SubsystemReset) => 89,
            (None, false, ShutdownCause::SnapshotLoad) => 90,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(signal) = self.signal {
            write!(f, " (signal {})", signal.number)?;
        }
        if let Some(code) = self.guest_code {
            write!(f, " (the guest's exit code is {code})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_an_exit_code_of_its_own() {
        let status = |cause| ExitStatus::new(ShutdownRequest::new(cause), false, None);
        let codes: std::collections::BTreeSet<i32> = ShutdownCause::ALL
            .iter()
            .map(|cause| status(*cause).cause_code())
            .collect();
        assert_eq!(codes.len(), ShutdownCause::ALL.len());
        assert!(!codes.contains(&1) && !codes.contains(&2));
        assert!(codes.iter().all(|code| (0..126).contains(code)));
        for cause in ShutdownCause::ALL {
            assert_eq!(status(*cause).code(), 0, "{cause}: QEMU's");
        }
    }

    #[test]
    fn a_guests_code_wins_over_a_failure() {
        let mut request = ShutdownRequest::new(ShutdownCause::GuestShutdown);
        request.exit_code = Some(33);
        assert_eq!(ExitStatus::new(request, true, None).code(), 33);
        request.exit_code = Some(0);
        assert_eq!(ExitStatus::new(request, true, None).code(), 1);
        assert_eq!(ExitStatus::new(request, false, None).code(), 0);
    }
}
