//! Around a post: how it wakes the main loop, what the poster does then, and what a reset becomes.

use crate::cause::ShutdownCause;
use crate::policy::{Actions, RebootAction};

/// How a post reaches the main loop. In a VMM, a write to an eventfd.
///
/// Every method must be async-signal-safe: posts come from signal handlers.
pub trait Wake: Send + Sync {
    /// Makes the main loop run a turn soon. Called after the request is visible.
    fn wake(&self);

    /// The thread that posts, if it is a vCPU's, should not run on in the guest.
    ///
    /// For a VMM that knows the current vCPU by thread. Others leave this empty and obey
    /// [`Posted::Hold`], which says the same.
    fn stop_current_vcpu(&self) {}
}

/// What a vCPU thread does after it has posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Posted {
    /// It may run on.
    Continue,
    /// It must not enter the guest again before the next resume.
    Hold,
}

/// What becomes of a reset that is asked for: a pure function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResetAdmission {
    /// It is a reset.
    Reset,
    /// It is a shutdown: the reboot action says so.
    Shutdown,
    /// It is a shutdown: the vCPUs cannot be reset. To be reported.
    NotResettable,
}

/// Decides what becomes of a reset with this cause.
#[must_use]
pub const fn admit_reset(
    cause: ShutdownCause,
    actions: Actions,
    cpus_resettable: bool,
) -> ResetAdmission {
    if matches!(actions.reboot, RebootAction::Shutdown)
        && !matches!(cause, ShutdownCause::SubsystemReset)
    {
        ResetAdmission::Shutdown
    } else if cpus_resettable {
        ResetAdmission::Reset
    } else {
        ResetAdmission::NotResettable
    }
}
