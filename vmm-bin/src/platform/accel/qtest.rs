//! No accelerator: vCPUs that execute nothing, and the chips that KVM has in the kernel.

use std::sync::Arc;

use super::Chips;

/// What there is when a test client plays the guest.
#[derive(Debug)]
pub(crate) struct QtestAccel {
    chips: Arc<Chips>,
}

impl QtestAccel {
    /// The width of a guest-physical address: enough for any memory that a host gives.
    pub(super) const ADDRESS_BITS: u32 = 48;

    pub(super) fn new() -> Self {
        Self {
            chips: Arc::new(Chips::new()),
        }
    }

    pub(super) fn chips(&self) -> &Arc<Chips> {
        &self.chips
    }
}
