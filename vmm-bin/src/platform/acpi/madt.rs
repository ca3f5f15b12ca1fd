//! The MADT: processors, the I/O APIC, and how interrupt lines reach them (ACPI 6.5, section 5.2.12).

use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_TABLE, REVISION, bytes};
use crate::platform::layout::{IO_APIC, LOCAL_APIC, SCI_IRQ};

/// A MADT structure that `acpi_tables` has no type for (ACPI 6.5, section 5.2.12.5): how an ISA
/// line reaches the I/O APIC when it does not do so pin by pin.
#[derive(Debug, Clone, Copy)]
struct SourceOverride {
    line: u8,
    gsi: u32,
    flags: u16,
}

/// Local APIC NMI (ACPI 6.5, section 5.2.12.7): LINT1 of every processor is the NMI.
const LOCAL_APIC_NMI: [u8; 6] = [4, 6, 0xff, 0, 0, 1];

/// Flags of an interrupt source: as its bus prescribes; active high and level-triggered.
const AS_BUS: u16 = 0;
const HIGH_LEVEL: u16 = 1 | 3 << 2;

impl SourceOverride {
    /// The structure as it is in the table.
    fn bytes(self) -> [u8; 10] {
        let [g0, g1, g2, g3] = self.gsi.to_le_bytes();
        let [f0, f1] = self.flags.to_le_bytes();
        [2, 10, 0, self.line, g0, g1, g2, g3, f0, f1]
    }
}

/// Processors, I/O APIC and how the ISA lines reach it.
pub(super) fn madt(cpus: u8) -> Vec<u8> {
    let mut madt = MADT::new(
        OEM,
        OEM_TABLE,
        REVISION,
        LocalInterruptController::Address(LOCAL_APIC),
    );
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IO_APIC, 0));
    let table = bytes(&madt);
    // `MADT` accepts only structures of zerocopy's kind; `Sdt` takes bytes. Its header is the
    // first 36 bytes, then come the two fields that only a MADT has.
    const HEADER: usize = 36;
    const PCAT_COMPAT: u32 = 1;
    let mut sdt = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, REVISION);
    sdt.append_slice(&LOCAL_APIC.to_le_bytes());
    sdt.append_slice(&PCAT_COMPAT.to_le_bytes());
    sdt.append_slice(table.get(HEADER.saturating_add(8)..).unwrap_or_default());
    let sci = u8::try_from(SCI_IRQ).unwrap_or(u8::MAX);
    let timer = SourceOverride {
        line: 0,
        gsi: 2,
        flags: AS_BUS,
    };
    let sci = SourceOverride {
        line: sci,
        gsi: SCI_IRQ,
        flags: HIGH_LEVEL,
    };
    sdt.append_slice(&timer.bytes());
    sdt.append_slice(&sci.bytes());
    sdt.append_slice(&LOCAL_APIC_NMI);
    sdt.as_slice().to_vec()
}
