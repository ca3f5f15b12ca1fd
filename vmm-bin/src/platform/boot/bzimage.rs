//! bzImage: the 64-bit entry of Linux's x86 boot protocol (Documentation/arch/x86/boot.rst).

use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::GuestAddress;

use super::file::ImageFile;
use super::{Entry, Kernel, field, linux};
use crate::platform::error::Error;
use crate::platform::layout::{COMMAND_LINE_ROOM, HIGH_RAM};
use crate::platform::memory::Memory;

/// How much of a file [`Header::read`] looks at: the boot sector and the setup header after it.
pub(super) const HEADER_SIZE: usize = 0x268;
/// The first protocol with `xloadflags`, and so with a 64-bit entry to rely on.
const VERSION_2_12: u16 = 0x20c;
/// The first protocol that hands over the RSDP's address.
pub(super) const VERSION_2_14: u16 = 0x20e;
/// `loadflags`: the kernel is to be loaded at 1 MiB.
const LOADED_HIGH: u8 = 1;
/// `xloadflags`: there is a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// The 64-bit entry's place in the kernel.
const ENTRY_64: u64 = 0x200;
/// A sector of the setup code.
const SECTOR: u64 = 512;

/// What loading needs to know of the setup header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// Size of boot sector and setup code, in bytes.
    setup_size: u64,
    /// Bytes from the kernel's run-time start that it needs.
    init_size: u64,
    /// Where it runs if it is not loaded higher.
    preferred: u64,
    /// Alignment of its run-time start.
    alignment: u64,
    /// Whether it can run elsewhere than where it prefers.
    relocatable: bool,
    /// The command line's limit, without its NUL.
    command_line: usize,
    /// The last byte an initrd may take.
    initrd_max: u64,
}

/// Whether a file that begins so has Linux's setup header.
pub(super) fn is_one(start: &[u8]) -> bool {
    field(start, 0x202) == Some(*b"HdrS")
}

impl Header {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// When the kernel is truncated, older than protocol 2.12 or without a 64-bit entry.
    pub(super) fn read(kernel: &ImageFile, start: &[u8]) -> Result<Self, Error> {
        let broken = |reason: String| Error::Kernel {
            path: kernel.path().to_path_buf(),
            reason,
        };
        let truncated = || broken("truncated: it ends in its setup header".to_owned());
        let u8_at = |at| {
            field::<1>(start, at)
                .map(|[byte]| byte)
                .ok_or_else(truncated)
        };
        let u16_at = |at| {
            field(start, at)
                .map(u16::from_le_bytes)
                .ok_or_else(truncated)
        };
        let u32_at = |at| {
            field(start, at)
                .map(u32::from_le_bytes)
                .ok_or_else(truncated)
        };

        let version = u16_at(0x206)?;
        if version < VERSION_2_12 {
            let [minor, major] = version.to_le_bytes();
            return Err(broken(format!(
                "speaks boot protocol {major}.{minor}, 2.12 or newer is needed (Linux 3.8)"
            )));
        }
        if u8_at(0x211)? & LOADED_HIGH == 0 {
            return Err(broken("a zImage, expected a bzImage".to_owned()));
        }
        if u16_at(0x236)? & XLF_KERNEL_64 == 0 {
            return Err(broken(
                "has no 64-bit entry: a 64-bit kernel is needed".to_owned(),
            ));
        }
        let sectors = match u8_at(0x1f1)? {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let setup_size = sectors.saturating_add(1).saturating_mul(SECTOR);
        let expected = setup_size.saturating_add(u64::from(u32_at(0x1f4)?).saturating_mul(16));
        if kernel.size() < expected {
            let size = kernel.size();
            return Err(broken(format!(
                "truncated: {size} bytes of at least {expected}"
            )));
        }
        let preferred = field(start, 0x258)
            .map(u64::from_le_bytes)
            .ok_or_else(truncated)?;
        let alignment = u64::from(u32_at(0x230)?).max(1);
        if !alignment.is_power_of_two() {
            return Err(broken(format!(
                "its alignment {alignment:#x} is no power of two"
            )));
        }
        Ok(Self {
            setup_size,
            init_size: u64::from(u32_at(0x260)?),
            preferred,
            alignment,
            relocatable: u8_at(0x234)? != 0,
            command_line: usize::try_from(u32_at(0x238)?).unwrap_or(usize::MAX),
            initrd_max: u64::from(u32_at(0x22c)?),
        })
    }

    /// Bytes of boot sector and setup code.
    pub(super) fn setup_size(&self) -> u64 {
        self.setup_size
    }

    /// What an initrd must end at, or below.
    pub(super) fn initrd_limit(&self) -> u64 {
        self.initrd_max.saturating_add(1)
    }

    /// The longest command line, without its NUL.
    pub(super) fn longest_command_line(&self) -> usize {
        let room = usize::try_from(COMMAND_LINE_ROOM).unwrap_or(usize::MAX);
        self.command_line.min(room.saturating_sub(1))
    }

    /// The end of what the kernel takes when it is loaded at `load`: what was loaded, and what it
    /// unpacks itself to.
    pub(super) fn end(&self, load: u64, file_size: u64) -> u64 {
        let loaded = load.saturating_add(file_size.saturating_sub(self.setup_size));
        let runtime = if self.relocatable {
            let mask = self.alignment.saturating_sub(1);
            (load.saturating_add(mask) & !mask).max(self.preferred)
        } else {
            self.preferred
        };
        loaded.max(runtime.saturating_add(self.init_size))
    }
}

/// Loads kernel, initrd, command line and zero page.
///
/// # Errors
/// When one of them does not fit.
pub(super) fn load(
    parts: &mut Kernel,
    header: &Header,
    memory: &Memory,
    rsdp: u64,
) -> Result<Entry, Error> {
    let path = parts.kernel.path().to_path_buf();
    let end = header.end(HIGH_RAM, parts.kernel.size());
    if end > memory.low_end() {
        return Err(Error::KernelTooLarge {
            path,
            needed: end,
            have: memory.low_end(),
        });
    }
    let address = Some(GuestAddress(HIGH_RAM));
    let loaded = BzImage::load(memory.regions(), address, parts.kernel.file_mut(), None).map_err(
        |error| Error::Kernel {
            path: path.clone(),
            reason: error.to_string(),
        },
    )?;
    let Some(setup_header) = loaded.setup_header else {
        return Err(Error::Kernel {
            path,
            reason: "has no setup header".to_owned(),
        });
    };
    let command_line = parts.load_command_line(memory, header.longest_command_line())?;
    let initrd = parts.load_initrd(memory, end, header.initrd_limit())?;
    linux::write_zero_page(memory, setup_header, command_line, initrd, rsdp)?;
    Ok(linux::entry(loaded.kernel_load.0.saturating_add(ENTRY_64)))
}
