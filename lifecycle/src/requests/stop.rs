//! Stops that are latched: for the debugger, for a device that found an error, from a vCPU thread.

use runstate::RunState;

use super::Requests;
use crate::compat::Compat;
use crate::posting::Posted;

impl Requests {
    /// Asks for a stop in this state, from any thread.
    pub fn vmstop(&self, state: RunState) {
        self.vmstop_prepare().request(state);
    }

    /// Announces a stop: the caller emits the event that explains it, and then requests it.
    /// Nobody sees the stop before.
    pub fn vmstop_prepare(&self) -> PreparedStop<'_> {
        PreparedStop { requests: self }
    }

    /// A stop asked for on a vCPU thread: latched, and the vCPU holds itself.
    pub fn stop_from_vcpu(&self, state: RunState) -> Posted {
        self.vmstop(state);
        self.wake.stop_current_vcpu();
        Posted::Hold
    }

    pub(crate) fn latch_vmstop(&self, state: RunState) {
        match self.compat {
            Compat::Qemu7_2 => self.vmstop.replace(state),
            // The first stands; but one that nothing but a reset ends is never lost.
            Compat::Current => self.vmstop.merge(state, RunState::needs_reset),
        }
    }
}

/// A stop that is about to be requested. Dropping it requests nothing.
#[must_use = "a prepared stop is requested by `request`"]
#[derive(Debug)]
pub struct PreparedStop<'a> {
    requests: &'a Requests,
}

impl PreparedStop<'_> {
    /// Requests the stop.
    pub fn request(self, state: RunState) {
        self.requests.latch_vmstop(state);
        self.requests.kick();
    }
}
