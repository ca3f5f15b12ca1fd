//! Where vCPUs leave word that they have stopped for their debugger.

use std::sync::{Arc, Mutex, PoisonError};

use vcpu::VcpuId;

use crate::doorbell::Doorbell;
use crate::platform::DebugHit;

/// What has been hit and not been looked at. A vCPU holds after each, so there is at most one from each.
#[derive(Debug)]
pub(crate) struct Hits {
    found: Mutex<Vec<(u32, DebugHit)>>,
    bell: Arc<Doorbell>,
}

impl Hits {
    /// None so far. `bell` wakes the main loop.
    pub(crate) fn new(bell: Arc<Doorbell>) -> Self {
        let found = Mutex::default();
        Self { found, bell }
    }

    /// A vCPU's hit, on its thread.
    pub(crate) fn post(&self, VcpuId(cpu): VcpuId, hit: DebugHit) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.push((cpu, hit));
        drop(found);
        self.bell.ring();
    }

    /// All of them, in the order in which they came.
    pub(super) fn take(&self) -> Vec<(u32, DebugHit)> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *found)
    }
}
