//! The tables as an operating system reads them.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may fail by overflowing"
)]

use super::*;
use crate::platform::memory::Backing;

/// The table with this signature, found the way an operating system finds it.
fn table<'a>(tables: &'a Tables, signature: &[u8; 4]) -> &'a [u8] {
    let at = |address: u64| &tables.image[usize::try_from(address - ACPI).unwrap()..];
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
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
        let tables = Tables::new(cpus, None).unwrap();
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
    assert!(Tables::new(256, None).is_err());
}

#[test]
fn the_madt_names_each_processor_and_the_overridden_lines() {
    let tables = Tables::new(3, None).unwrap();
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
    let tables = Tables::new(1, None).unwrap();
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

#[test]
fn the_dsdt_names_the_sleep_states_that_the_pm1_block_enters() {
    let tables = Tables::new(1, None).unwrap();
    let dsdt = table(&tables, b"DSDT");
    for (name, kind) in [
        (b"_S3_", SLEEP_TYPES.s3.unwrap()),
        (b"_S4_", SLEEP_TYPES.s4.unwrap()),
        (b"_S5_", SLEEP_TYPES.s5),
    ] {
        let at = dsdt.windows(4).position(|four| four == name).unwrap();
        // A package of four: its first is a byte constant, or one of the opcodes for 0 and 1.
        let values = &dsdt[at + 4..];
        assert_eq!((values[0], values[2]), (0x12, 4));
        let value = if values[3] == 0x0a {
            values[4]
        } else {
            values[3]
        };
        assert_eq!(value, kind, "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn the_waking_vector_is_what_the_guest_left_in_the_facs() {
    let tables = Tables::new(1, None).unwrap();
    assert!(tables.image[usize::try_from(tables.facs - ACPI).unwrap()..].starts_with(b"FACS"));
    let memory = Memory::new(2 << 20, Backing::Private, None, 40).unwrap();
    tables.load(&memory).unwrap();
    assert_eq!(tables.waking_vector(&memory).unwrap(), 0);
    let vector = 0x9_a000_u32.to_le_bytes();
    memory.write(tables.facs + 12, &vector).unwrap();
    assert_eq!(tables.waking_vector(&memory).unwrap(), 0x9_a000);
}

#[test]
fn the_wdat_is_there_when_it_is_wanted_and_says_where_the_registers_are() {
    let tables = Tables::new(1, Some(0x660)).unwrap();
    let wdat = table(&tables, b"WDAT");
    let sum = wdat.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!((wdat[8], sum), (1, 0), "revision and sum");
    let entries = wdat[68..].chunks(24);
    assert_eq!(entries.len(), devices::wdat::table::ENTRIES.len());
    for entry in entries {
        let port = u64::from_le_bytes(entry[8..16].try_into().unwrap());
        assert!((0x660..0x66a).contains(&port), "{port:#x}");
    }
    let without = Tables::new(1, None).unwrap();
    assert!(!without.image.windows(4).any(|four| four == b"WDAT"));
}

/// The embedded guest is above them, in its last page below 1 MiB.
#[test]
fn the_tables_leave_the_embedded_guest_its_page() {
    let tables = Tables::new(254, Some(0x660)).unwrap();
    let end = ACPI + tables.image.len() as u64;
    assert!(end <= u64::from(crate::guest::ADDRESS), "{end:#x}");
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
    let tables = Tables::new(4, Some(0x660)).unwrap();
    for signature in [b"FACP", b"APIC", b"DSDT", b"XSDT", b"FACS", b"WDAT"] {
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
        if [b"DSDT", b"WDAT"].contains(&signature) {
            let text = run(&["-p", "again", &format!("{name}.dsl")]);
            let said = text.to_lowercase();
            assert!(
                !said.contains("error ") && !said.contains("warning "),
                "{text}"
            );
            let again = std::fs::read(directory.as_path().join("again.aml")).unwrap();
            if signature == b"WDAT" {
                assert_eq!(again.get(36..), table(&tables, signature).get(36..));
            }
        }
    }
}
