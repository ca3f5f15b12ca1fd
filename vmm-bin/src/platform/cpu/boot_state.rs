//! The first vCPU's registers at the entry of what it boots, and the tables they point to.
//!
//! Sources: Linux Documentation/arch/x86/boot.rst (64-bit boot protocol); Xen
//! docs/misc/pvh.pandoc; Intel SDM volume 3, sections 3.4 (segments) and 4.5 (4-level paging).

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use crate::platform::boot::Entry;
use crate::platform::error::Error;
use crate::platform::layout::{GDT, HOLE_END, PAGE, PAGE_TABLES};
use crate::platform::memory::Memory;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// The bit of RFLAGS that is always set.
const RFLAGS: u64 = 1 << 1;

/// Linux prescribes these two selectors (`__BOOT_CS`, `__BOOT_DS`).
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TASK: u16 = 0x20;

/// Segment types: execute and read, read and write (both accessed), busy 32-bit task state.
const TYPE_CODE: u8 = 0xb;
const TYPE_DATA: u8 = 0x3;
const TYPE_TASK: u8 = 0xb;

/// Page table entries: present and writable; in a directory: a 2 MiB page.
const PRESENT: u64 = 1 | 1 << 1;
const LARGE: u64 = 1 << 7;
const LARGE_PAGE: u64 = 0x20_0000;

/// Registers that differ from a vCPU's state at power-on.
#[derive(Debug, Clone)]
pub(crate) struct BootState {
    entry: Entry,
    replaces_firmware: bool,
}

impl BootState {
    /// The state for `entry`. With `replaces_firmware`, every vCPU also gets what firmware would
    /// have set up on a PC: memory types and the local APIC's pins.
    pub(crate) fn new(entry: Entry, replaces_firmware: bool) -> Self {
        Self {
            entry,
            replaces_firmware,
        }
    }

    /// Whether no firmware will run before a kernel does.
    pub(crate) fn replaces_firmware(&self) -> bool {
        self.replaces_firmware
    }

    /// Puts it over the state at power-on.
    pub(crate) fn apply(&self, regs: &mut kvm_regs, sregs: &mut kvm_sregs) {
        match self.entry {
            Entry::ResetVector => {}
            Entry::Real { segment, ip } => {
                *regs = kvm_regs {
                    rip: u64::from(ip),
                    rflags: RFLAGS,
                    ..Default::default()
                };
                let base = u64::from(segment).wrapping_shl(4);
                let sregs = [
                    &mut sregs.cs,
                    &mut sregs.ds,
                    &mut sregs.es,
                    &mut sregs.fs,
                    &mut sregs.gs,
                    &mut sregs.ss,
                ];
                for register in sregs {
                    register.base = base;
                    register.selector = segment;
                }
            }
            Entry::Protected { ip, ebx } => {
                *regs = kvm_regs {
                    rip: u64::from(ip),
                    rbx: u64::from(ebx),
                    rflags: RFLAGS,
                    ..Default::default()
                };
                flat_segments(sregs, false);
                sregs.cr0 = CR0_PE | CR0_ET;
                sregs.cr4 = 0;
                sregs.efer = 0;
            }
            Entry::Long { ip, rsi } => {
                *regs = kvm_regs {
                    rip: ip,
                    rsi,
                    rflags: RFLAGS,
                    ..Default::default()
                };
                flat_segments(sregs, true);
                sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
                sregs.cr3 = PAGE_TABLES;
                sregs.cr4 = CR4_PAE;
                sregs.efer = EFER_LME | EFER_LMA;
            }
        }
    }
}

/// A flat segment over 4 GiB.
fn flat(selector: u16, type_: u8, long: bool) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(!long),
        s: 1,
        l: u8::from(long),
        g: 1,
        ..Default::default()
    }
}

/// The task state segment: PVH and Intel's VM entry want one, nobody uses it.
fn task() -> kvm_segment {
    kvm_segment {
        limit: 0x67,
        selector: TASK,
        type_: TYPE_TASK,
        present: 1,
        ..Default::default()
    }
}

/// Loads all segment registers from the table at [`GDT`].
fn flat_segments(sregs: &mut kvm_sregs, long: bool) {
    let data = flat(DATA, TYPE_DATA, false);
    sregs.cs = flat(CODE, TYPE_CODE, long);
    for register in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *register = data;
    }
    sregs.tr = task();
    sregs.gdt.base = GDT;
    sregs.gdt.limit = GDT_LIMIT;
    sregs.idt.base = 0;
    sregs.idt.limit = 0;
}

/// Five descriptors.
const GDT_LIMIT: u16 = 5 * 8 - 1;

/// A descriptor as it is in memory.
fn descriptor(segment: &kvm_segment) -> u64 {
    let base = segment.base;
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let access = u64::from(segment.type_)
        | u64::from(segment.s) << 4
        | u64::from(segment.dpl) << 5
        | u64::from(segment.present) << 7;
    let flags = u64::from(segment.l) << 1 | u64::from(segment.db) << 2 | u64::from(segment.g) << 3;
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | access << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (base >> 24 & 0xff) << 56
}

/// Writes the tables that the registers of `entry` point to.
///
/// # Errors
/// When the memory is not there.
pub(crate) fn write_boot_structures(memory: &Memory, entry: Entry) -> Result<(), Error> {
    let long = match entry {
        Entry::ResetVector | Entry::Real { .. } => return Ok(()),
        Entry::Protected { .. } => false,
        Entry::Long { .. } => true,
    };
    let code = descriptor(&flat(CODE, TYPE_CODE, long));
    let data = descriptor(&flat(DATA, TYPE_DATA, false));
    write_words(memory, GDT, [0, 0, code, data, descriptor(&task())])?;
    if long {
        write_page_tables(memory)
    } else {
        Ok(())
    }
}

/// Maps the first 4 GiB to themselves with 2 MiB pages.
fn write_page_tables(memory: &Memory) -> Result<(), Error> {
    let pointers = PAGE_TABLES.saturating_add(PAGE);
    let directories = pointers.saturating_add(PAGE);
    write_words(memory, PAGE_TABLES, [pointers | PRESENT])?;
    write_words(
        memory,
        pointers,
        (0..4).map(|n: u64| directories.saturating_add(n.saturating_mul(PAGE)) | PRESENT),
    )?;
    let pages = HOLE_END / LARGE_PAGE;
    let entries = (0..pages).map(|n| n.saturating_mul(LARGE_PAGE) | PRESENT | LARGE);
    write_words(memory, directories, entries)
}

/// Writes 64-bit words one after the other.
fn write_words(
    memory: &Memory,
    address: u64,
    words: impl IntoIterator<Item = u64>,
) -> Result<(), Error> {
    let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write(address, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_the_textbook() {
        assert_eq!(
            descriptor(&flat(CODE, TYPE_CODE, true)),
            0x00af_9b00_0000_ffff
        );
        assert_eq!(
            descriptor(&flat(CODE, TYPE_CODE, false)),
            0x00cf_9b00_0000_ffff
        );
        assert_eq!(
            descriptor(&flat(DATA, TYPE_DATA, false)),
            0x00cf_9300_0000_ffff
        );
        assert_eq!(descriptor(&task()), 0x0000_8b00_0000_0067);
    }

    #[test]
    fn a_pvh_entry_is_as_the_protocol_prescribes() {
        let (mut regs, mut sregs) = (
            kvm_regs {
                rax: 1,
                ..Default::default()
            },
            kvm_sregs::default(),
        );
        BootState::new(
            Entry::Protected {
                ip: 0x10_0000,
                ebx: 0x6000,
            },
            true,
        )
        .apply(&mut regs, &mut sregs);
        assert_eq!(
            (regs.rip, regs.rbx, regs.rax, regs.rflags),
            (0x10_0000, 0x6000, 0, 2)
        );
        assert_eq!(sregs.cr0 & (CR0_PE | CR0_PG), CR0_PE);
        assert_eq!((sregs.cr4, sregs.efer), (0, 0));
        assert_eq!((sregs.tr.base, sregs.tr.limit), (0, 0x67));
    }
}
