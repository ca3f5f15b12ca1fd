//! What every 64-bit entry of Linux is handed: the zero page (`boot_params`).

use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::ByteValued;

use super::map::memory_map;
use super::{Entry, Placed, bzimage};
use crate::platform::error::Error;
use crate::platform::layout::ZERO_PAGE;
use crate::platform::memory::Memory;

/// "A boot loader without a number of its own".
const LOADER_UNDEFINED: u8 = 0xff;

/// The entry at `ip`, with the zero page in RSI.
pub(super) fn entry(ip: u64) -> Entry {
    Entry::Long { ip, rsi: ZERO_PAGE }
}

/// Writes the zero page: the kernel's own setup header, completed by what the loader knows.
///
/// # Errors
/// When the memory map has more entries than the page has room for.
pub(super) fn write_zero_page(
    memory: &Memory,
    header: setup_header,
    command_line: Placed,
    initrd: Option<Placed>,
    rsdp: u64,
) -> Result<(), Error> {
    // Everything that is placed lies below 3 GiB.
    let low = |value: u64| {
        u32::try_from(value).map_err(|error| Error::MemoryAccess {
            address: value,
            reason: format!("cannot be named in the zero page: {error}"),
        })
    };
    let mut params = boot_params {
        hdr: header,
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = low(command_line.address)?;
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = low(initrd.address)?;
        params.hdr.ramdisk_size = low(initrd.size)?;
    }
    if header.version >= bzimage::VERSION_2_14 {
        params.acpi_rsdp_addr = rsdp;
    }
    let mut table = params.e820_table;
    let mut entries: u8 = 0;
    for (slot, entry) in table.iter_mut().zip(memory_map(memory)) {
        *slot = boot_e820_entry {
            addr: entry.address,
            size: entry.size,
            r#type: entry.kind,
        };
        entries = entries.saturating_add(1);
    }
    params.e820_table = table;
    params.e820_entries = entries;
    memory.write(ZERO_PAGE, params.as_slice())
}
