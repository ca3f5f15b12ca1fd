//! What a PVH entry is handed: `hvm_start_info`, its modules and memory map (Xen,
//! docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h).

use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::ByteValued;

use super::map::memory_map;
use super::{Entry, Placed};
use crate::platform::error::Error;
use crate::platform::layout::{PVH_MEMORY_MAP, PVH_MODULE_LIST, PVH_START_INFO};
use crate::platform::memory::Memory;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// With a memory map.
const VERSION: u32 = 1;

/// The entry at `ip`, with the start info in EBX.
pub(super) fn entry(ip: u32) -> Entry {
    Entry::Protected {
        ip,
        ebx: u32::try_from(PVH_START_INFO).unwrap_or(u32::MAX),
    }
}

/// Writes the start info and what it points to.
///
/// # Errors
/// When it does not fit in memory.
pub(super) fn write_start_info(
    memory: &Memory,
    command_line: Placed,
    initrd: Option<Placed>,
    rsdp: u64,
) -> Result<(), Error> {
    if let Some(initrd) = initrd {
        let module = hvm_modlist_entry {
            paddr: initrd.address,
            size: initrd.size,
            ..Default::default()
        };
        memory.write(PVH_MODULE_LIST, module.as_slice())?;
    }
    let mut address = PVH_MEMORY_MAP;
    let mut memmap_entries: u32 = 0;
    for entry in memory_map(memory) {
        let entry = hvm_memmap_table_entry {
            addr: entry.address,
            size: entry.size,
            type_: entry.kind,
            reserved: 0,
        };
        memory.write(address, entry.as_slice())?;
        address = address.saturating_add(entry.as_slice().len() as u64);
        memmap_entries = memmap_entries.saturating_add(1);
    }
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: if initrd.is_some() { PVH_MODULE_LIST } else { 0 },
        cmdline_paddr: command_line.address,
        rsdp_paddr: rsdp,
        memmap_paddr: PVH_MEMORY_MAP,
        memmap_entries,
        ..Default::default()
    };
    memory.write(PVH_START_INFO, info.as_slice())
}
