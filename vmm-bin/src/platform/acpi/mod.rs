//! The ACPI tables of the machine: RSDP, XSDT, FADT, FACS, MADT and DSDT; and WDAT, if it has that
//! watchdog.
//!
//! The machine is one of ACPI's fixed hardware: a PM1 block with power button and timer, the
//! system control interrupt (SCI) on line 9, a reset register, and ACPI mode that is always on
//! (no SMI command port). It has no PCI, no HPET and no VGA. The DSDT names COM1, the real-time
//! clock, pvpanic, the processors and the sleep states S3, S4 and S5. A guest that suspends to RAM
//! leaves its waking vector in the FACS, which is RAM like every other table.
//!
//! Sources: ACPI specification 6.5, sections 4.8 (fixed hardware), 5.2 (tables), 7.4 (sleep
//! states); Microsoft, Hardware Watchdog Timers Design Specification, version 1.01 (WDAT); QEMU's
//! docs/specs/pvpanic.txt.

mod dsdt;
mod fadt;
mod madt;

use acpi_tables::{Aml, facs::FACS, rsdp::Rsdp, sdt::Sdt, xsdt::XSDT};

use devices::acpi_pm::SleepTypes;

use super::error::Error;
use super::layout::{ACPI, ACPI_END};
use super::memory::Memory;

const OEM: [u8; 6] = *b"VMMBIN";
const OEM_TABLE: [u8; 8] = *b"VMMBINPC";
const REVISION: u32 = 1;

/// The sleep states: what the DSDT says and the PM1 block does.
pub(crate) const SLEEP_TYPES: SleepTypes = SleepTypes::QEMU;

/// Where the FACS has the waking vector, 4 bytes (ACPI 6.5, section 5.2.10).
const WAKING_VECTOR: u64 = 12;

/// Tables begin on such a boundary; FACS needs it.
const ALIGNMENT: u64 = 64;

/// The tables, laid out for their place in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    image: Vec<u8>,
    facs: u64,
}

impl Tables {
    /// The tables of a machine with this many vCPUs, whose local APIC ids count from 0, and with the
    /// registers of a WDAT watchdog from port `wdat` on.
    ///
    /// # Errors
    /// When there are more than ACPI's 8-bit ids can name or the tables find no room.
    pub(crate) fn new(cpus: u32, wdat: Option<u16>) -> Result<Self, Error> {
        let cpus = u8::try_from(cpus).map_err(|_| Error::Acpi {
            reason: format!("{cpus} processors are too many"),
        })?;
        let mut layout = Layout::default();
        // The RSDP is first and fixed in size: room for it now, its content at the end.
        layout.place(&[0; 36])?;
        let facs = layout.place(&bytes(&FACS::new()))?;
        let dsdt = layout.place(dsdt::dsdt(cpus).as_slice())?;
        let fadt = layout.place(&fadt::fadt(dsdt, facs)?)?;
        let madt = layout.place(&madt::madt(cpus))?;
        let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
        xsdt.add_entry(fadt);
        xsdt.add_entry(madt);
        if let Some(base) = wdat {
            xsdt.add_entry(layout.place(watchdog(base).as_slice())?);
        }
        let xsdt = layout.place(&bytes(&xsdt))?;
        let rsdp = bytes(&Rsdp::new(OEM, xsdt));
        for (place, byte) in layout.image.iter_mut().zip(rsdp) {
            *place = byte;
        }
        Ok(Self {
            image: layout.image,
            facs,
        })
    }

    /// Where the RSDP is.
    pub(crate) fn rsdp(&self) -> u64 {
        ACPI
    }

    /// Where a guest that sleeps says that it wants to be woken: guest-physical, as it left it.
    ///
    /// # Errors
    /// When the memory is not there.
    pub(crate) fn waking_vector(&self, memory: &Memory) -> Result<u32, Error> {
        let mut vector = [0; 4];
        memory.read(self.waking_vector_at(), &mut vector)?;
        Ok(u32::from_le_bytes(vector))
    }

    /// Where it says so.
    pub(crate) fn waking_vector_at(&self) -> u64 {
        self.facs.saturating_add(WAKING_VECTOR)
    }

    /// Puts the tables in memory.
    ///
    /// # Errors
    /// When the memory is not there.
    pub(crate) fn load(&self, memory: &Memory) -> Result<(), Error> {
        memory.write(ACPI, &self.image)
    }
}

/// Tables one after the other from [`ACPI`] on.
#[derive(Default)]
struct Layout {
    image: Vec<u8>,
}

impl Layout {
    /// Appends a table and returns its guest-physical address.
    fn place(&mut self, table: &[u8]) -> Result<u64, Error> {
        let used = self.image.len() as u64;
        let address = ACPI.saturating_add(used).next_multiple_of(ALIGNMENT);
        let end = address.saturating_add(table.len() as u64);
        let offset = usize::try_from(address.saturating_sub(ACPI)).unwrap_or(usize::MAX);
        if end > ACPI_END {
            return Err(Error::Acpi {
                reason: "no room for them below 1 MiB".to_owned(),
            });
        }
        self.image.resize(offset, 0);
        self.image.extend_from_slice(table);
        Ok(address)
    }
}

/// How to use the watchdog whose registers begin at port `base`.
fn watchdog(base: u16) -> Sdt {
    let mut wdat = Sdt::new(*b"WDAT", 36, 1, OEM, OEM_TABLE, REVISION);
    wdat.append_slice(&devices::wdat::table::body(base));
    wdat
}

/// A table as bytes.
fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
