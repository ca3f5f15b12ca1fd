//! The ACPI tables of the machine: RSDP, XSDT, FADT, FACS, MADT and DSDT.
//!
//! The machine is one of ACPI's fixed hardware: a PM1 block with power button and timer, the
//! system control interrupt (SCI) on line 9, a reset register, and ACPI mode that is always on
//! (no SMI command port). It has no PCI, no HPET and no VGA. The DSDT names COM1, the real-time
//! clock, pvpanic, the processors and the sleep state S5.
//!
//! Sources: ACPI specification 6.5, sections 4.8 (fixed hardware), 5.2 (tables), 7.4 (sleep
//! states); QEMU's docs/specs/pvpanic.txt.

use acpi_tables::aml::{self, Device, EISAName, IO, Name, Package, Path, ResourceTemplate, Scope};
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::sdt::Sdt;
use acpi_tables::{Aml, facs::FACS, rsdp::Rsdp, xsdt::XSDT};

use super::error::Error;
use super::layout::{
    ACPI, ACPI_END, COM1, COM1_IRQ, IO_APIC, LOCAL_APIC, PM_BASE, PVPANIC, RESET_CONTROL,
    RESET_VALUE, RTC, RTC_IRQ, SCI_IRQ,
};
use super::memory::Memory;

const OEM: [u8; 6] = *b"VMMBIN";
const OEM_TABLE: [u8; 8] = *b"VMMBINPC";
const REVISION: u32 = 1;

/// Tables begin on such a boundary; FACS needs it.
const ALIGNMENT: u64 = 64;
/// The sleep type of S5 in PM1 control.
const S5_TYPE: u8 = 0;
/// FADT boot flags: there are legacy devices and an i8042, no VGA, no MSI (there is no PCI).
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 1 | 1 << 2 | 1 << 3;

/// The tables, laid out for their place in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tables {
    image: Vec<u8>,
}

impl Tables {
    /// The tables of a machine with this many vCPUs, whose local APIC ids count from 0.
    ///
    /// # Errors
    /// When there are more than ACPI's 8-bit ids can name or the tables find no room.
    pub(crate) fn new(cpus: u32) -> Result<Self, Error> {
        let cpus = u8::try_from(cpus).map_err(|_| Error::Acpi {
            reason: format!("{cpus} processors are too many"),
        })?;
        let mut layout = Layout::default();
        // The RSDP is first and fixed in size: room for it now, its content at the end.
        layout.place(&[0; 36])?;
        let facs = layout.place(&bytes(&FACS::new()))?;
        let dsdt = layout.place(dsdt(cpus).as_slice())?;
        let fadt = layout.place(&fadt(dsdt, facs)?)?;
        let madt = layout.place(&madt(cpus))?;
        let mut xsdt = XSDT::new(OEM, OEM_TABLE, REVISION);
        xsdt.add_entry(fadt);
        xsdt.add_entry(madt);
        let xsdt = layout.place(&bytes(&xsdt))?;
        let rsdp = bytes(&Rsdp::new(OEM, xsdt));
        for (place, byte) in layout.image.iter_mut().zip(rsdp) {
            *place = byte;
        }
        Ok(Self {
            image: layout.image,
        })
    }

    /// Where the RSDP is.
    pub(crate) fn rsdp(&self) -> u64 {
        ACPI
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

/// A table as bytes.
fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// An I/O register of `width` bits.
fn io_register(port: u16, width: u8) -> GAS {
    let access = match width {
        8 => AccessSize::ByteAccess,
        16 => AccessSize::WordAccess,
        _ => AccessSize::DwordAccess,
    };
    GAS::new(AddressSpace::SystemIo, width, 0, access, u64::from(port))
}

/// The fixed hardware.
fn fadt(dsdt: u64, facs: u64) -> Result<Vec<u8>, Error> {
    let low = |address: u64| {
        u32::try_from(address).map_err(|error| Error::Acpi {
            reason: error.to_string(),
        })
    };
    let event = PM_BASE;
    let control = PM_BASE.saturating_add(4);
    let timer = PM_BASE.saturating_add(8);
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .firmware_ctrl_32(low(facs)?)
        .dsdt_64(dsdt)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.dsdt = low(dsdt)?.into();
    fadt.sci_int = u16::try_from(SCI_IRQ).unwrap_or(u16::MAX).into();
    fadt.pm1a_evt_blk = u32::from(event).into();
    fadt.pm1_evt_len = 4;
    fadt.x_pm1a_evt_blk = io_register(event, 32);
    fadt.pm1a_cnt_blk = u32::from(control).into();
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_cnt_blk = io_register(control, 16);
    fadt.pm_tmr_blk = u32::from(timer).into();
    fadt.pm_tmr_len = 4;
    fadt.x_pm_tmr_blk = io_register(timer, 32);
    fadt.reset_reg = io_register(RESET_CONTROL, 8);
    fadt.reset_value = RESET_VALUE;
    // C2 and C3 do not exist: their latencies say so.
    fadt.p_lvl2_lat = 0xfff.into();
    fadt.p_lvl3_lat = 0xfff.into();
    fadt.century = 0x32;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    Ok(bytes(&fadt.finalize()))
}

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
fn madt(cpus: u8) -> Vec<u8> {
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

/// Devices, processors and S5.
fn dsdt(cpus: u8) -> Sdt {
    let ports = |base: u16, length: u8| IO::new(base, base, 1, length);
    let com1_irq = irq(COM1_IRQ);
    let com1_ports = ports(COM1, 8);
    let com1 = Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &aml::ONE),
            &Name::new("_STA".into(), &0xf_u8),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&com1_ports, &com1_irq]),
            ),
        ],
    )
    .to_bytes();
    let rtc_irq = irq(RTC_IRQ);
    let rtc_ports = ports(RTC, 2);
    let rtc = Device::new(
        "RTC_".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0B00")),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&rtc_ports, &rtc_irq]),
            ),
        ],
    )
    .to_bytes();
    let keyboard_data = ports(0x60, 1);
    let keyboard_command = ports(0x64, 1);
    let keyboard_irq = irq(1);
    let keyboard = Device::new(
        "KBD_".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0303")),
            &Name::new("_STA".into(), &0xf_u8),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&keyboard_data, &keyboard_command, &keyboard_irq]),
            ),
        ],
    )
    .to_bytes();
    let pvpanic_port = ports(PVPANIC, 1);
    let pvpanic = Device::new(
        "PEVT".into(),
        vec![
            &Name::new("_HID".into(), &"QEMU0001"),
            &Name::new("_STA".into(), &0xf_u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&pvpanic_port])),
        ],
    )
    .to_bytes();
    let devices = [com1, rtc, keyboard, pvpanic].map(Raw);
    let devices = Scope::new(
        "_SB_".into(),
        devices.iter().map(|device| device as &dyn Aml).collect(),
    );
    let mut processors = Vec::new();
    for cpu in 0..cpus {
        let uid = Name::new("_UID".into(), &cpu);
        let hid = Name::new("_HID".into(), &"ACPI0007");
        let path = Path::new(&format!("C{cpu:03X}"));
        Device::new(path, vec![&hid, &uid]).to_aml_bytes(&mut processors);
    }
    let processors = Raw(processors);
    let processors = Scope::new("_SB_".into(), vec![&processors]);
    let s5 = Package::new(vec![&S5_TYPE, &S5_TYPE, &aml::ZERO, &aml::ZERO]);
    let s5 = Name::new("_S5_".into(), &s5);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    for part in [&devices as &dyn Aml, &processors, &s5] {
        dsdt.append_slice(&bytes(part));
    }
    dsdt
}

/// An ISA line, edge-triggered and not shared, as a resource (ACPI 6.5, section 6.4.2.1).
fn irq(line: u32) -> Raw {
    let mask = 1_u16.checked_shl(line).unwrap_or(0);
    let [low, high] = mask.to_le_bytes();
    Raw(vec![0x22, low, high])
}

/// AML that is bytes already.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// Devices borrow their resources: their bytes do not.
trait ToBytes {
    fn to_bytes(&self) -> Vec<u8>;
}

impl ToBytes for Device<'_> {
    fn to_bytes(&self) -> Vec<u8> {
        bytes(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table with this signature, found the way an operating system finds it.
    fn table<'a>(tables: &'a Tables, signature: &[u8; 4]) -> &'a [u8] {
        let at = |address: u64| &tables.image[usize::try_from(address - ACPI).unwrap()..];
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let long =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let sized = |bytes: &'a [u8]| &bytes[..usize::try_from(word(bytes, 4)).unwrap()];
        let xsdt = sized(at(long(&tables.image, 24)));
        let entries = xsdt[36..].chunks(8).map(|entry| sized(at(long(entry, 0))));
        let fadt = entries
            .clone()
            .find(|table| table.starts_with(b"FACP"))
            .unwrap();
        match signature {
            b"XSDT" => xsdt,
            b"DSDT" => sized(at(long(fadt, 140))),
            b"FACS" => sized(at(u64::from(word(fadt, 36)))),
            _ => entries
                .clone()
                .find(|table| table.starts_with(signature))
                .unwrap(),
        }
    }

    #[test]
    fn tables_are_found_and_their_sums_are_zero() {
        for cpus in [1, 2, 254] {
            let tables = Tables::new(cpus).unwrap();
            let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            assert_eq!(sum(&tables.image[..20]), 0, "RSDP 1.0");
            assert_eq!(sum(&tables.image[..36]), 0, "RSDP 2.0");
            for signature in [b"XSDT", b"FACP", b"APIC", b"DSDT"] {
                let table = table(&tables, signature);
                assert!(table.starts_with(signature));
                assert_eq!(sum(table), 0, "{}", String::from_utf8_lossy(signature));
            }
            assert_eq!(table(&tables, b"FACS").len(), 64);
        }
        assert!(Tables::new(256).is_err());
    }

    #[test]
    fn the_madt_names_each_processor_and_the_overridden_lines() {
        let tables = Tables::new(3).unwrap();
        let mut rest = &table(&tables, b"APIC")[44..];
        let mut structures = Vec::new();
        while !rest.is_empty() {
            let (structure, others) = rest.split_at(usize::from(rest[1]));
            structures.push(structure);
            rest = others;
        }
        let processors = structures.iter().filter(|one| one[0] == 0);
        let ids: Vec<_> = processors.map(|one| (one[2], one[3], one[4])).collect();
        assert_eq!(ids, [(0, 0, 1), (1, 1, 1), (2, 2, 1)]);
        let overrides: Vec<_> = structures.iter().filter(|one| one[0] == 2).collect();
        assert_eq!(overrides[0][..], [2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(overrides[1][..], [2, 10, 0, 9, 9, 0, 0, 0, 13, 0]);
    }

    #[test]
    fn the_fadt_says_what_the_devices_do() {
        use devices::{acpi_pm, reset_control};
        let tables = Tables::new(1).unwrap();
        let fadt = table(&tables, b"FACP");
        let word = |at: usize| u32::from_le_bytes(fadt[at..at + 4].try_into().unwrap());
        let base = u32::try_from(acpi_pm::PORTS[0].base).unwrap();
        assert_eq!(word(56), base, "PM1a_EVT_BLK");
        assert_eq!(
            word(64),
            base + u32::from(acpi_pm::CONTROL_OFFSET),
            "PM1a_CNT_BLK"
        );
        assert_eq!(
            word(76),
            base + u32::from(acpi_pm::TIMER_OFFSET),
            "PM_TMR_BLK"
        );
        assert_eq!(
            (fadt[88], fadt[89]),
            (acpi_pm::EVENT_LEN, acpi_pm::CONTROL_LEN)
        );
        assert_eq!(
            (word(48), fadt[52], fadt[53]),
            (0, 0, 0),
            "ACPI mode is always on"
        );
        let reset = u64::from_le_bytes(fadt[120..128].try_into().unwrap());
        assert_eq!(reset, reset_control::PORTS[0].base);
        assert_eq!(fadt[108], devices::cmos_rtc::CENTURY);
        let flags = word(112);
        assert_eq!(flags & 1 << 4, 0, "the power button is fixed hardware");
        assert_ne!(flags & 1 << 10, 0, "there is a reset register");
    }

    /// ACPI's own compiler takes the tables apart and puts the DSDT together again. Without it
    /// (Debian: acpica-tools) there is nothing to ask.
    #[test]
    fn iasl_understands_every_table() {
        use std::process::Command;
        if Command::new("iasl").arg("-v").output().is_err() {
            eprintln!("skipped: there is no iasl on this machine (package acpica-tools)");
            return;
        }
        let directory = vmm_sys_util::tempdir::TempDir::new().unwrap();
        let tables = Tables::new(4).unwrap();
        for signature in [b"FACP", b"APIC", b"DSDT", b"XSDT", b"FACS"] {
            let name = String::from_utf8_lossy(signature).to_lowercase();
            let path = directory.as_path().join(format!("{name}.aml"));
            std::fs::write(&path, table(&tables, signature)).unwrap();
            let run = |arguments: &[&str]| {
                let mut iasl = Command::new("iasl");
                let output = iasl
                    .args(arguments)
                    .current_dir(directory.as_path())
                    .output()
                    .unwrap();
                let text = String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "iasl {arguments:?}: {text}");
                assert!(
                    !text.contains("Invalid") && !text.contains("incorrect"),
                    "{text}"
                );
                text
            };
            run(&["-d", &format!("{name}.aml")]);
            if signature == b"DSDT" {
                let text = run(&["-p", "again", "dsdt.dsl"]);
                assert!(text.contains("0 Errors, 0 Warnings"), "{text}");
            }
        }
    }
}
