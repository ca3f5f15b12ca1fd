//! Exclusive sections: a closure that runs while no vCPU executes guest code. One at a time.
//!
//! The rule that must never be broken: whoever began a section ends it, also when its closure panics.

use std::sync::Arc;
use std::time::Instant;

use crate::error::VcpuError;
use crate::run::VcpuRun;
use crate::set::SetInner;
use crate::sync::{AtomicU64, Futex, Ordering, lock, passed};

impl<R: VcpuRun> SetInner<R> {
    /// See [`crate::VcpuSet::exclusive`].
    pub(crate) fn run_exclusive<T>(
        &self,
        deadline: Option<Instant>,
        f: impl FnOnce() -> T,
    ) -> Result<T, VcpuError> {
        let Some(_turn) = self.sections.enter(deadline) else {
            return Err(VcpuError::Deadline { stuck: Vec::new() });
        };
        let vcpus = {
            let mut members = lock(&self.members);
            members.exclusive = true;
            for vcpu in members.vcpus.iter() {
                vcpu.control.request_exclusive(|| vcpu.kick());
            }
            Arc::clone(&members.vcpus)
        };
        let _section = Section(self);
        let mut stuck = Vec::new();
        for vcpu in vcpus.iter() {
            if let Err(word) = vcpu.control.wait_outside(deadline) {
                stuck.push(vcpu.stuck(word));
            }
        }
        if !stuck.is_empty() {
            return Err(VcpuError::Deadline { stuck });
        }
        Ok(f())
    }
}

/// Ends an exclusive section, also when its closure panics.
struct Section<'a, R: VcpuRun>(&'a SetInner<R>);

impl<R: VcpuRun> Drop for Section<'_, R> {
    fn drop(&mut self) {
        let mut members = lock(&self.0.members);
        members.exclusive = false;
        for vcpu in members.vcpus.iter() {
            vcpu.control.release_exclusive();
        }
    }
}

/// Lets one section in at a time. No lock is held inside.
pub(crate) struct Turnstile {
    taken: AtomicU64,
    futex: Futex,
}

impl Turnstile {
    pub(crate) fn new() -> Self {
        Self {
            taken: AtomicU64::new(0),
            futex: Futex::new(),
        }
    }

    fn enter(&self, deadline: Option<Instant>) -> Option<Turn<'_>> {
        while self
            .taken
            .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            if passed(deadline) {
                return None;
            }
            self.futex.wait(&self.taken, 1, deadline);
        }
        Some(Turn(self))
    }
}

struct Turn<'a>(&'a Turnstile);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.taken.store(0, Ordering::Release);
        self.0.futex.wake_all(&self.0.taken);
    }
}
