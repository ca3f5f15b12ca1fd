//! Images for tests: the smallest files that are a bzImage or an ELF kernel.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may fail by overflowing"
)]

use crate::platform::layout::HIGH_RAM;

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// A bzImage whose kernel is a page of 0x90 and needs 2 MiB at 1 MiB.
pub(super) fn bzimage() -> Vec<u8> {
    let mut bytes = vec![0; 2 * 512 + 4096];
    bytes[0x1f1] = 1;
    put(&mut bytes, 0x1f4, &256_u32.to_le_bytes());
    put(&mut bytes, 0x1fe, &0xaa55_u16.to_le_bytes());
    put(&mut bytes, 0x202, b"HdrS");
    put(&mut bytes, 0x206, &0x20f_u16.to_le_bytes());
    bytes[0x211] = 1;
    put(&mut bytes, 0x214, &0x10_0000_u32.to_le_bytes());
    put(&mut bytes, 0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(&mut bytes, 0x230, &0x10_0000_u32.to_le_bytes());
    bytes[0x234] = 1;
    put(&mut bytes, 0x236, &1_u16.to_le_bytes());
    put(&mut bytes, 0x238, &20_u32.to_le_bytes());
    put(&mut bytes, 0x258, &0x10_0000_u64.to_le_bytes());
    put(&mut bytes, 0x260, &0x20_0000_u32.to_le_bytes());
    bytes[1024..].fill(0x90);
    bytes
}

/// One program header: type, offset, address, size in file, size in memory.
pub(super) type Header = (u32, u64, u64, u64, u64);

/// An ELF file with these program headers, 64 bytes of notes at 0x400 and a page of 0x90 at 0x1000.
pub(super) fn elf(class: u8, machine: u16, notes: &[u8], headers: &[Header]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    put(&mut bytes, 0, b"\x7fELF");
    put(&mut bytes, 4, &[class, 1, 1]);
    put(&mut bytes, 16, &2_u16.to_le_bytes());
    put(&mut bytes, 18, &machine.to_le_bytes());
    let count = u16::try_from(headers.len()).unwrap().to_le_bytes();
    let wide = class == 2;
    let (entry, table, size_at, count_at) = if wide {
        (24, 32, 54, 56)
    } else {
        (24, 28, 42, 44)
    };
    let header_size: u16 = if wide { 56 } else { 32 };
    put(&mut bytes, entry, &0x10_0100_u32.to_le_bytes());
    put(&mut bytes, table, &0x80_u32.to_le_bytes());
    put(&mut bytes, size_at, &header_size.to_le_bytes());
    put(&mut bytes, count_at, &count);
    for (n, &(kind, offset, address, in_file, in_memory)) in headers.iter().enumerate() {
        let at = 0x80 + n * usize::from(header_size);
        put(&mut bytes, at, &kind.to_le_bytes());
        let fields: [usize; 4] = if wide {
            [8, 24, 32, 40]
        } else {
            [4, 12, 16, 20]
        };
        for (field, value) in fields
            .into_iter()
            .zip([offset, address, in_file, in_memory])
        {
            let value = value.to_le_bytes();
            put(
                &mut bytes,
                at + field,
                if wide { &value } else { &value[..4] },
            );
        }
    }
    put(&mut bytes, 0x400, notes);
    bytes.resize(0x2000, 0x90);
    bytes
}

/// A PVH kernel with this code at its entry.
pub(in crate::platform) fn pvh_kernel(code: &[u8]) -> Vec<u8> {
    let mut bytes = elf(2, 62, &pvh_note(), &[NOTE, LOAD]);
    put(&mut bytes, 0x1040, code);
    bytes
}

/// The note that names a PVH entry.
pub(super) fn pvh_note() -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4, 4, 18_u32] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(0x10_0040_u32.to_le_bytes());
    note
}

pub(super) const LOAD: Header = (1, 0x1000, HIGH_RAM, 0x1000, 0x2000);
pub(super) const NOTE: Header = (4, 0x400, 0, 64, 64);
