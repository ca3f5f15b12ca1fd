//! The DSDT: devices that cannot be found otherwise, processors, and the sleep states.
//!
//! Sources: ACPI 6.5, sections 6.4 (resources), 7.4.2 (sleep states), 8.4 (processors); QEMU's
//! docs/specs/pvpanic.txt.

use acpi_tables::Aml;
use acpi_tables::aml::{self, Device, EISAName, IO, Name, Package, Path, ResourceTemplate, Scope};
use acpi_tables::sdt::Sdt;

use super::{OEM, OEM_TABLE, REVISION, SLEEP_TYPES, bytes};
use crate::platform::layout::{COM1, COM1_IRQ, PVPANIC, RTC, RTC_IRQ};

/// Devices, processors and sleep states.
pub(super) fn dsdt(cpus: u8) -> Sdt {
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
    let states = [
        ("_S3_", SLEEP_TYPES.s3),
        ("_S4_", SLEEP_TYPES.s4),
        ("_S5_", Some(SLEEP_TYPES.s5)),
    ];
    let states = states
        .into_iter()
        .filter_map(|(name, kind)| Some((name, kind?)));
    let states = Raw(states
        .flat_map(|(name, kind)| sleep_state(name, kind))
        .collect());
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, REVISION);
    for part in [&devices as &dyn Aml, &processors, &states] {
        dsdt.append_slice(&bytes(part));
    }
    dsdt
}

/// What to write to PM1a and PM1b control for a sleep state (ACPI 6.5, section 7.4.2).
fn sleep_state(name: &str, kind: u8) -> Vec<u8> {
    let values = Package::new(vec![&kind, &kind, &aml::ZERO, &aml::ZERO]);
    bytes(&Name::new(name.into(), &values))
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
