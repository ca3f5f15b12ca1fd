//! What firmware asks for through fw_cfg: memory, processors, and the kernel that it is to boot.
//!
//! The kernel's parts and the initial RAM disk are read from their files when the firmware asks for
//! them, on the vCPU's thread. Sources: QEMU's docs/specs/fw_cfg; Linux
//! Documentation/arch/x86/boot.rst.

use std::fs::File;
use std::os::unix::fs::FileExt;

use devices::fw_cfg::{Blob, Items, item};

use super::file::ImageFile;
use super::map::{MapEntry, RAM, RESERVED};
use super::{Kernel, bzimage};
use crate::platform::error::Error;
use crate::platform::layout::{COMMAND_LINE, HIGH_RAM, KVM_IDENTITY_MAP, KVM_RESERVED_SIZE, PAGE};
use crate::platform::memory::Memory;

/// Where a kernel's setup code is usually put.
const SETUP: u32 = 0x1_0000;

/// A part of a file.
struct Part {
    file: File,
    start: u64,
    size: u32,
}

impl Blob for Part {
    fn size(&self) -> u32 {
        self.size
    }

    fn read(&self, offset: u32, data: &mut [u8]) {
        let from = self.start.saturating_add(u64::from(offset));
        // The guest can repeat it at will: nothing that everybody sees.
        if let Err(error) = self.file.read_exact_at(data, from) {
            log::debug!("fw_cfg: {error}");
        }
    }
}

/// The items of a machine with this memory and so many processors.
///
/// # Errors
/// When the kernel is none that firmware can boot.
pub(super) fn items(memory: &Memory, cpus: u32, kernel: Option<&Kernel>) -> Result<Items, Error> {
    let mut items = Items::new();
    let processors = u16::try_from(cpus).unwrap_or(u16::MAX);
    items.set(item::RAM_SIZE, memory.size().to_le_bytes().to_vec());
    items.set(item::NB_CPUS, processors.to_le_bytes().to_vec());
    items.set(item::MAX_CPUS, processors.to_le_bytes().to_vec());
    let map = memory_map(memory);
    items.add_file("etc/e820", map).map_err(Error::Board)?;
    if let Some(kernel) = kernel {
        add_kernel(&mut items, memory, kernel)?;
    }
    Ok(items)
}

/// RAM, and what of the addresses is KVM's. Firmware knows best what it keeps for itself below 1 MiB.
fn memory_map(memory: &Memory) -> Vec<u8> {
    let ram = memory.ram_ranges().map(|(from, to)| MapEntry {
        address: from,
        size: to.saturating_sub(from),
        kind: RAM,
    });
    let reserved = MapEntry {
        address: KVM_IDENTITY_MAP,
        size: KVM_RESERVED_SIZE,
        kind: RESERVED,
    };
    let mut bytes = Vec::new();
    for entry in ram.chain([reserved]) {
        bytes.extend(entry.address.to_le_bytes());
        bytes.extend(entry.size.to_le_bytes());
        bytes.extend(entry.kind.to_le_bytes());
    }
    bytes
}

/// The kernel in its two parts, the initial RAM disk and the command line, each with its size and a place.
fn add_kernel(items: &mut Items, memory: &Memory, parts: &Kernel) -> Result<(), Error> {
    let start = parts.kernel.peek(0, bzimage::HEADER_SIZE)?;
    if !bzimage::is_one(&start) {
        return Err(Error::Kernel {
            path: parts.kernel.path().to_path_buf(),
            reason: "is no bzImage, which is what firmware boots: leave --firmware out".to_owned(),
        });
    }
    let header = bzimage::Header::read(&parts.kernel, &start)?;
    let end = header.end(HIGH_RAM, parts.kernel.size());
    if end > memory.low_end() {
        return Err(Error::KernelTooLarge {
            path: parts.kernel.path().to_path_buf(),
            needed: end,
            have: memory.low_end(),
        });
    }
    let setup = header.setup_size();
    let kernel = parts.kernel.size().saturating_sub(setup);
    place(
        items,
        (item::SETUP_ADDR, item::SETUP_SIZE),
        SETUP,
        low(setup)?,
    );
    items.set(item::SETUP_DATA, part(&parts.kernel, 0, setup)?);
    let place_of_kernel = (item::KERNEL_ADDR, item::KERNEL_SIZE);
    place(items, place_of_kernel, low(HIGH_RAM)?, low(kernel)?);
    items.set(item::KERNEL_DATA, part(&parts.kernel, setup, kernel)?);

    if let Some(initrd) = &parts.initrd {
        let size = initrd.size();
        let limit = header.initrd_limit().min(memory.low_end());
        let address = limit.saturating_sub(size) & !(PAGE.saturating_sub(1));
        if address < end.next_multiple_of(PAGE) {
            return Err(Error::InitrdTooLarge {
                path: initrd.path().to_path_buf(),
                size,
                room: limit.saturating_sub(end),
                limit,
            });
        }
        let place_of_initrd = (item::INITRD_ADDR, item::INITRD_SIZE);
        place(items, place_of_initrd, low(address)?, low(size)?);
        items.set(item::INITRD_DATA, part(initrd, 0, size)?);
    }

    let length = parts.command_line.len();
    let most = header.longest_command_line();
    if length > most {
        return Err(Error::CommandLineTooLong { length, most });
    }
    let mut line = parts.command_line.clone().into_bytes();
    line.push(0);
    let place_of_line = (item::CMDLINE_ADDR, item::CMDLINE_SIZE);
    place(
        items,
        place_of_line,
        low(COMMAND_LINE)?,
        low(line.len() as u64)?,
    );
    items.set(item::CMDLINE_DATA, line);
    Ok(())
}

/// Says where something goes, and its size.
fn place(items: &mut Items, (address, size): (u16, u16), at: u32, bytes: u32) {
    items.set(address, at.to_le_bytes().to_vec());
    items.set(size, bytes.to_le_bytes().to_vec());
}

/// `size` bytes of a file, from `start` on.
fn part(image: &ImageFile, start: u64, size: u64) -> Result<Part, Error> {
    Ok(Part {
        file: image.share()?,
        start,
        size: low(size)?,
    })
}

/// A number that firmware reads as 32 bits.
fn low(value: u64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|error| Error::MemoryAccess {
        address: value,
        reason: format!("cannot be named to firmware: {error}"),
    })
}
