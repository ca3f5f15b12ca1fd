//! What a virtual machine must be able to do for its lifecycle.

use crate::cause::ShutdownCause;
use crate::error::{Error, MachineError};

/// A virtual machine, as its lifecycle sees it. Every method is called on the main-loop thread,
/// and may call the lifecycle.
///
/// A VMM that lacks a thing leaves the method out. Four are needed: pause, resume, reset, and
/// drain where there is storage.
pub trait Machine {
    /// Parks every vCPU: on return, no guest code runs and none will before the next
    /// [`resume_vcpus`](Self::resume_vcpus). Legal when they are parked already.
    ///
    /// # Errors
    ///
    /// When some vCPU did not stop in time. All of them must have been released then: the
    /// lifecycle takes back what it had begun.
    fn pause_vcpus(&self) -> Result<(), MachineError>;

    /// Lets every vCPU run, also those that hold themselves. Legal when they run already.
    fn resume_vcpus(&self);

    /// Stands where [`resume_vcpus`](Self::resume_vcpus) would, when the machine is not running:
    /// the vCPUs stay parked.
    fn keep_paused(&self) {}

    /// The accelerator gets ready for running. Called first in a start.
    fn prepare_resume(&self) {}

    /// Freezes the guest's clock. The vCPUs are about to be paused.
    fn stop_clock(&self) {}

    /// Lets the guest's clock go on. The vCPUs are about to be resumed.
    fn start_clock(&self) {}

    /// Fetches the registers of every vCPU, before a reset.
    fn synchronize_state(&self) {}

    /// Writes the registers of every vCPU back, after a reset.
    fn synchronize_post_reset(&self) {}

    /// Resets the machine. Unless a machine has more to do, its devices are what there is.
    ///
    /// # Errors
    ///
    /// When the machine cannot be used any more. It is stopped with an internal error.
    fn reset(&self, cause: ShutdownCause) -> Result<(), MachineError> {
        self.reset_devices(cause)
    }

    /// Resets every device, and the vCPUs.
    ///
    /// # Errors
    ///
    /// As [`reset`](Self::reset).
    fn reset_devices(&self, cause: ShutdownCause) -> Result<(), MachineError>;

    /// The machine's own part of a wakeup from S3.
    fn wakeup(&self) {}

    /// Waits for what the storage is doing, and flushes it.
    ///
    /// # Errors
    ///
    /// When data may not have reached the disk.
    fn drain_and_flush(&self) -> Result<(), MachineError> {
        Ok(())
    }

    /// Injects a non-maskable interrupt into the guest.
    ///
    /// # Errors
    ///
    /// [`Error::NmiNotSupported`] unless a machine says otherwise.
    fn inject_nmi(&self) -> Result<(), Error> {
        Err(Error::NmiNotSupported)
    }
}
