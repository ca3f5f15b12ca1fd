//! No accelerator: vCPUs that execute nothing, and interrupt pins that a test client watches.

use std::sync::Arc;

use super::Pins;

/// What stands for the interrupt controllers when a test client plays the guest.
#[derive(Debug)]
pub(crate) struct QtestAccel {
    pins: Arc<Pins>,
}

impl QtestAccel {
    /// The width of a guest-physical address: enough for any memory that a host gives.
    pub(super) const ADDRESS_BITS: u32 = 48;

    pub(super) fn new() -> Self {
        Self {
            pins: Arc::default(),
        }
    }

    pub(super) fn pins(&self) -> &Arc<Pins> {
        &self.pins
    }
}
