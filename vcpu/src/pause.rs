//! Pausing all vCPUs: counted, within a deadline, all or nothing. And one vCPU alone, for a debugger.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{PauseError, VcpuError};
use crate::run::VcpuRun;
use crate::set::SetInner;
use crate::sync::lock;
use crate::thread::VcpuThread;

impl<R: VcpuRun> SetInner<R> {
    /// See [`crate::VcpuSet::pause_all`].
    pub(crate) fn pause(self: &Arc<Self>, deadline: Option<Instant>) -> Result<(), PauseError> {
        // Publish to all, then wait for all. The lock keeps the members and the count of pauses together: a vCPU that is
        // added later is born with all stops in force. It is not held over the wait.
        let vcpus = {
            let mut members = lock(&self.members);
            let pauses = members
                .pauses
                .checked_add(1)
                .filter(|&pauses| pauses <= 4095);
            let pauses = pauses.ok_or(VcpuError::TooManyPauses)?;
            for (stopped, vcpu) in members.vcpus.iter().enumerate() {
                // Pauses of this vCPU alone are in its word too: there may be no room.
                if !vcpu.control.request_stop(|| vcpu.kick()) {
                    for vcpu in members.vcpus.iter().take(stopped) {
                        vcpu.control.cancel_stop();
                    }
                    return Err(VcpuError::TooManyPauses);
                }
            }
            members.pauses = pauses;
            Arc::clone(&members.vcpus)
        };
        let caller = vcpus.iter().find(|vcpu| vcpu.is_current());
        if let Some(caller) = caller {
            caller.control.set_pauser(true);
        }
        let mut stuck = Vec::new();
        for vcpu in vcpus.iter().filter(|vcpu| !vcpu.is_current()) {
            if let Err(word) = vcpu.control.wait_stopped(caller.is_some(), deadline) {
                stuck.push(vcpu.stuck(word));
            }
        }
        if let Some(caller) = caller {
            caller.control.set_pauser(false);
        }
        if stuck.is_empty() {
            return Ok(());
        }
        let mut members = lock(&self.members);
        members.pauses = members.pauses.saturating_sub(1);
        for vcpu in members.vcpus.iter() {
            vcpu.control.cancel_stop();
        }
        Err(VcpuError::Deadline { stuck })
    }

    /// Takes one pause back. Answers at once: the vCPUs run on when the scheduler lets them.
    fn resume(&self) {
        let mut members = lock(&self.members);
        members.pauses = members.pauses.saturating_sub(1);
        for vcpu in members.vcpus.iter() {
            vcpu.control.release_stop();
        }
    }
}

/// One pause of a whole set, as long as it is kept.
///
/// Dropping it resumes, which is [`PauseGuard::resume`] spelt out: at once, without waiting for the vCPUs. With other guards alive the
/// vCPUs stay paused: each takes back only its own pause. It borrows nothing, so a VMM may keep it in its state between the `stop`
/// and the `cont` of its monitor.
#[must_use = "the vCPUs run on as soon as the guard is dropped"]
pub struct PauseGuard<R: VcpuRun> {
    set: Arc<SetInner<R>>,
}

impl<R: VcpuRun> PauseGuard<R> {
    /// For a pause that is in force and counted.
    pub(crate) fn new(set: Arc<SetInner<R>>) -> Self {
        Self { set }
    }

    /// Takes this pause back.
    pub fn resume(self) {
        drop(self);
    }
}

impl<R: VcpuRun> Drop for PauseGuard<R> {
    fn drop(&mut self) {
        self.set.resume();
    }
}

impl<R: VcpuRun> fmt::Debug for PauseGuard<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PauseGuard").finish_non_exhaustive()
    }
}

impl<R: VcpuRun> VcpuThread<R> {
    /// See [`VcpuThread::pause`].
    pub(crate) fn pause_alone(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<VcpuPause<R>, PauseError> {
        if self.is_current() {
            return Err(VcpuError::OwnThread(self.id()));
        }
        if !self.control.request_stop(|| self.kick()) {
            return Err(VcpuError::TooManyPauses);
        }
        self.control
            .wait_stopped(false, deadline)
            .map_err(|word| {
                self.control.cancel_stop();
                VcpuError::Deadline {
                    stuck: vec![self.stuck(word)],
                }
            })
            .map(|_| VcpuPause {
                vcpu: Arc::clone(self),
            })
    }
}

/// The pause of one vCPU, as long as it is kept: what a [`PauseGuard`] is for all of them, and counted together with those.
#[must_use = "the vCPU runs on as soon as this is dropped"]
pub struct VcpuPause<R: VcpuRun> {
    vcpu: Arc<VcpuThread<R>>,
}

impl<R: VcpuRun> Drop for VcpuPause<R> {
    fn drop(&mut self) {
        self.vcpu.control.release_stop();
    }
}

impl<R: VcpuRun> fmt::Debug for VcpuPause<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VcpuPause").field(&self.vcpu.id()).finish()
    }
}
