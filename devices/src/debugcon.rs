//! The debug console (port 0x402): firmware writes its log, a byte a write.
//!
//! A read gives 0xE9, which is how firmware finds out that somebody listens. There is no state.
//!
//! Behaviour: QEMU's `isa-debugcon` with `iobase=0x402`, as SeaBIOS and OVMF use it; Bochs' port
//! 0xE9.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::counter::Counter;
use crate::{BusDevice, Error, Mapping, Output, Pausable, Resettable, SaveRestore};

/// Where firmware looks for the console.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x402, 1)];

/// What a read gives.
pub const READBACK: u8 = 0xe9;

/// The console.
pub struct DebugCon {
    output: Arc<dyn Output>,
    lost: Counter,
}

/// The state of a [`DebugCon`]: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State;

impl DebugCon {
    /// A console that writes to `output`.
    pub fn new(output: Arc<dyn Output>) -> Self {
        Self {
            output,
            lost: Counter::new(),
        }
    }

    /// How many bytes the output did not take.
    pub fn lost(&self) -> u64 {
        self.lost.get()
    }

    fn write_byte(&self, offset: u64, value: u8) {
        if offset == 0 && self.output.write(&[value]) == 0 {
            self.lost.count();
        }
    }
}

impl BusDevice for DebugCon {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| if at == 0 { READBACK } else { 0xff });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for DebugCon {}

impl SaveRestore for DebugCon {
    type State = State;

    fn save(&self) -> State {
        State
    }

    fn restore(&self, _state: &State) -> Result<(), Error> {
        Ok(())
    }
}

impl Pausable for DebugCon {}

impl fmt::Debug for DebugCon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugCon")
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
