//! `isa-debug-exit`: a test guest ends the VM and picks the exit status.
//!
//! A write of `value`, 1, 2 or 4 bytes wide, asks for a shutdown with the exit code `value << 1 |
//! 1`. It is a request as any other: the VM ends in order, with its disks flushed, when the main
//! loop serves it. Reads give 0. There is no state.
//!
//! Behaviour: QEMU's `isa-debug-exit` of 10.0 and later. (QEMU 7.2 left the process from the vCPU
//! thread.)

use std::fmt;
use std::sync::Arc;

use crate::counter::Counter;
use crate::{
    BusDevice, Error, Granularity, Mapping, Pausable, PowerRequest, PowerSink, Resettable,
    SaveRestore,
};

/// Where QEMU has the device unless told otherwise. Test guests often expect `iobase=0xf4` and 4
/// bytes.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x501, 2)];

/// The device.
pub struct DebugExit {
    power: Arc<dyn PowerSink>,
    ignored: Counter,
}

/// The state of a [`DebugExit`]: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State;

impl DebugExit {
    /// A device that posts its shutdowns to `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self {
            power,
            ignored: Counter::new(),
        }
    }

    /// How many writes were of a width, or at an offset, that means nothing.
    pub fn ignored(&self) -> u64 {
        self.ignored.get()
    }
}

impl BusDevice for DebugExit {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) {
        let value = match *data {
            [a] => u32::from(a),
            [a, b] => u32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
            _ => return self.ignored.count(),
        };
        self.power.power(PowerRequest::Shutdown {
            exit_code: Some(value << 1 | 1),
        });
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for DebugExit {}

impl SaveRestore for DebugExit {
    type State = State;

    fn save(&self) -> State {
        State
    }

    fn restore(&self, _state: &State) -> Result<(), Error> {
        Ok(())
    }
}

impl Pausable for DebugExit {}

impl fmt::Debug for DebugExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugExit")
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}
