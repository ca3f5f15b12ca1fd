//! The reset-control register (0xCF9), which is also a good ACPI reset register.
//!
//! A write with bit 2 set resets the machine and stores nothing. Any other write stores the bits
//! that the chipset has. "Full" and "system" resets are not told apart, as in QEMU.
//!
//! On a machine with PCI, map it as an [overlay](crate::BusBuilder::overlay): it lies inside the
//! PCI address port. In the FADT, give [`FADT_RESET_VALUE`] at port 0xCF9.
//!
//! Behaviour: QEMU's PIIX3 and ICH9; Intel 82801IB (ICH9) datasheet, RST_CNT; ACPI 6.5, 4.8.3.6.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{
    BusDevice, Error, Mapping, Pausable, PowerRequest, PowerSink, ResetType, Resettable,
    SaveRestore,
};

/// Where the register is on a PC.
pub const PORTS: [Mapping; 1] = [Mapping::new(0xcf9, 1)];

/// What the FADT's RESET_VALUE says: full reset, with the reset bit set.
pub const FADT_RESET_VALUE: u8 = 0x0f;

/// Writing this bit as 1 resets the machine.
const RESET_CPU: u8 = 0x04;

/// Whose register it is: the chipsets store different bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chipset {
    /// QEMU's machine `pc`: stores bit 1.
    Piix3,
    /// QEMU's machine `q35`: stores bits 1 and 3.
    Ich9,
}

impl Chipset {
    /// The bits that can be read back.
    const fn stored(self) -> u8 {
        match self {
            Self::Piix3 => 0x02,
            Self::Ich9 => 0x0a,
        }
    }
}

/// The register.
pub struct ResetControl {
    chipset: Chipset,
    value: Guarded<u8>,
    power: Arc<dyn PowerSink>,
}

/// The state of a [`ResetControl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What reads back.
    pub value: u8,
}

impl ResetControl {
    /// A register of `chipset` that posts its resets to `power`.
    pub fn new(chipset: Chipset, power: Arc<dyn PowerSink>) -> Self {
        Self {
            chipset,
            value: Guarded::new(0),
            power,
        }
    }

    fn write_byte(&self, offset: u64, value: u8) {
        if offset != 0 {
            return;
        }
        if value & RESET_CPU != 0 {
            self.power.power(PowerRequest::Reset);
        } else {
            *self.value.lock() = value & self.chipset.stored();
        }
    }
}

impl BusDevice for ResetControl {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| {
            if at == 0 { *self.value.lock() } else { 0xff }
        });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for ResetControl {
    fn hold(&self, _kind: ResetType) {
        *self.value.lock() = 0;
    }
}

impl SaveRestore for ResetControl {
    type State = State;

    fn save(&self) -> State {
        State {
            value: *self.value.lock(),
        }
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if state.value & !self.chipset.stored() != 0 {
            return Err(Error::BadState {
                device: "reset-control",
                field: "value",
                found: u64::from(state.value),
                expected: "made of the bits that the chipset stores",
            });
        }
        *self.value.lock() = state.value;
        Ok(())
    }
}

impl Pausable for ResetControl {}

impl fmt::Debug for ResetControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetControl")
            .field("chipset", &self.chipset)
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}
