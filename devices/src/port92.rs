//! System control port A (0x92): the fast A20 gate and the fast reset.
//!
//! Bit 0 resets the machine on its rising edge only: a guest that writes 1 twice resets once. Bit 1
//! is the A20 gate, which is stored for the guest to read back; KVM guests have A20 always open. A
//! reset clears bit 0 and nothing else.
//!
//! Behaviour: QEMU's `port92`.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{
    BusDevice, Error, Mapping, Pausable, PowerRequest, PowerSink, ResetType, Resettable,
    SaveRestore,
};

/// Where the port is on a PC.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x92, 1)];

/// Writing this bit as 1 where it was 0 resets the machine.
const FAST_RESET: u8 = 0x01;

/// The port.
pub struct Port92 {
    value: Guarded<u8>,
    power: Arc<dyn PowerSink>,
}

/// The state of a [`Port92`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What was written last.
    pub value: u8,
}

impl Port92 {
    /// A port that posts its resets to `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self {
            value: Guarded::new(0),
            power,
        }
    }

    fn write_byte(&self, offset: u64, value: u8) {
        if offset != 0 {
            return;
        }
        let before = std::mem::replace(&mut *self.value.lock(), value);
        if value & !before & FAST_RESET != 0 {
            self.power.power(PowerRequest::Reset);
        }
    }
}

impl BusDevice for Port92 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| {
            if at == 0 { *self.value.lock() } else { 0xff }
        });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for Port92 {
    fn hold(&self, _kind: ResetType) {
        *self.value.lock() &= !FAST_RESET;
    }
}

impl SaveRestore for Port92 {
    type State = State;

    fn save(&self) -> State {
        State {
            value: *self.value.lock(),
        }
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        *self.value.lock() = state.value;
        Ok(())
    }
}

impl Pausable for Port92 {}

impl fmt::Debug for Port92 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port92")
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}
