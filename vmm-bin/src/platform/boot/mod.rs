//! What the machine boots: a Linux or PVH kernel, a firmware image, or a flat image.
//!
//! ```text
//!   BootSource --open--> Images --load--> Entry --cpu::boot_state--> vCPU registers
//!   (what the user       (opened and      (where and how the
//!    asked for)           checked)         first vCPU starts)
//! ```
//!
//! [`Images::load`] runs at power-on and again at every cold reset, on memory that is all zero.
//!
//! The rule that must never be broken: a file is never trusted. Every offset, size and address in
//! it is checked before it is used, and a broken file is one clear message.

mod bzimage;
mod elf;
mod file;
mod firmware;
mod handover;
mod linux;
mod map;
mod pvh;
mod reset_vector;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use devices::fw_cfg::{Items, item};

use self::file::ImageFile;
use super::acpi::Tables;
use super::error::Error;
use super::layout::PAGE;
use super::memory::Memory;

/// Where the ACPI tables end at the latest if firmware lies behind them: segment F is its own.
const ACPI_TABLES_END: u64 = 0xf_0000;

/// What to boot.
#[derive(Debug, Clone)]
pub(crate) enum BootSource {
    /// A kernel: bzImage, ELF vmlinux or PVH.
    Kernel {
        /// What boots it, if the VMM does not: a flat firmware image.
        firmware: Option<PathBuf>,
        /// The kernel.
        kernel: PathBuf,
        /// Its initial RAM disk.
        initrd: Option<PathBuf>,
        /// Its command line.
        command_line: String,
    },
    /// A flat firmware image, such as SeaBIOS or qboot.
    Firmware(PathBuf),
    /// Bytes that are put in memory and jumped to. They find ACPI tables, as a kernel does.
    Flat(FlatImage),
}

/// A flat image: real-mode code, where it goes and where it is entered.
#[derive(Debug, Clone)]
pub(crate) struct FlatImage {
    /// The image.
    pub(crate) bytes: Cow<'static, [u8]>,
    /// Where its first byte goes, guest-physical, in RAM.
    pub(crate) address: u32,
    /// The first vCPU starts in real mode at `segment:offset`, interrupts off; all its segment
    /// registers hold `segment`.
    pub(crate) segment: u16,
    /// The offset in the segment.
    pub(crate) offset: u16,
}

/// Where and how the first vCPU starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// At the reset vector, as after power-on.
    ResetVector,
    /// In real mode.
    Real {
        /// Of all segment registers.
        segment: u16,
        /// The instruction pointer.
        ip: u16,
    },
    /// In 32-bit protected mode without paging, segments flat.
    Protected {
        /// The instruction pointer.
        ip: u32,
        /// PVH: where the start info is.
        ebx: u32,
    },
    /// In 64-bit mode with the first 4 GiB mapped to themselves.
    Long {
        /// The instruction pointer.
        ip: u64,
        /// Linux: where the zero page is.
        rsi: u64,
    },
}

/// What is booted, opened and checked as far as that is possible without memory.
#[derive(Debug)]
pub(crate) struct Images(Kind);

/// The ways to boot.
#[derive(Debug)]
enum Kind {
    BzImage(Kernel, bzimage::Header),
    Elf(Kernel, elf::Header),
    Firmware(ImageFile, Option<Kernel>),
    Flat(FlatImage),
}

/// A kernel with what goes with it.
#[derive(Debug)]
struct Kernel {
    kernel: ImageFile,
    initrd: Option<ImageFile>,
    command_line: String,
}

/// Where something was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    address: u64,
    size: u64,
}

impl Images {
    /// Opens and checks what `source` names.
    ///
    /// # Errors
    /// When a file cannot be read or is not what it should be.
    pub(crate) fn open(source: &BootSource) -> Result<Self, Error> {
        match source {
            BootSource::Kernel {
                firmware,
                kernel,
                initrd,
                command_line,
            } => {
                let kernel = ImageFile::open("kernel", kernel)?;
                let initrd = initrd
                    .as_deref()
                    .map(|path| ImageFile::open("initrd", path))
                    .transpose()?;
                if let Some(position) = command_line.bytes().position(|byte| byte == 0) {
                    return Err(Error::CommandLineNul { position });
                }
                let command_line = command_line.clone();
                let kernel = Kernel {
                    kernel,
                    initrd,
                    command_line,
                };
                match firmware {
                    None => Self::recognise(kernel),
                    Some(path) => Self::open_firmware(path, Some(kernel)),
                }
            }
            BootSource::Firmware(path) => Self::open_firmware(path, None),
            BootSource::Flat(image) => Ok(Self(Kind::Flat(image.clone()))),
        }
    }

    /// Opens firmware, which is to boot `kernel` if there is one.
    fn open_firmware(path: &Path, kernel: Option<Kernel>) -> Result<Self, Error> {
        let image = ImageFile::open("firmware", path)?;
        firmware::check(&image)?;
        Ok(Self(Kind::Firmware(image, kernel)))
    }

    /// What firmware is told; nothing if there is none.
    ///
    /// # Errors
    /// When its kernel is none that firmware can boot, or has no room.
    pub(crate) fn handover(
        &self,
        memory: &Memory,
        cpus: u32,
        uuid: [u8; 16],
    ) -> Result<Option<Items>, Error> {
        let Kind::Firmware(_, kernel) = &self.0 else {
            return Ok(None);
        };
        let mut items = handover::items(memory, cpus, kernel.as_ref())?;
        items.set(item::UUID, uuid.to_vec());
        Ok(Some(items))
    }

    /// Tells a kernel's kind by its magic numbers.
    fn recognise(parts: Kernel) -> Result<Self, Error> {
        let start = parts.kernel.peek(0, bzimage::HEADER_SIZE)?;
        let kind = if start.starts_with(elf::MAGIC) {
            let header = elf::Header::read(&parts.kernel)?;
            Kind::Elf(parts, header)
        } else if bzimage::is_one(&start) {
            let header = bzimage::Header::read(&parts.kernel, &start)?;
            Kind::BzImage(parts, header)
        } else {
            let path = parts.kernel.path().to_path_buf();
            return Err(Error::NotAKernel {
                path,
                found: describe(&start),
            });
        };
        Ok(Self(kind))
    }

    /// How many bytes of firmware end at 4 GiB.
    pub(crate) fn firmware_size(&self) -> Option<u64> {
        match &self.0 {
            Kind::Firmware(image, _) => Some(image.size()),
            _ => None,
        }
    }

    /// Whether firmware of the guest's own starts the machine, and wakes it from sleep. It brings
    /// the ACPI tables.
    pub(crate) fn is_firmware(&self) -> bool {
        matches!(self.0, Kind::Firmware(..))
    }

    /// Whether the ACPI tables in memory are the VMM's: unless there is firmware of the guest's own. Firmware
    /// that only boots a kernel, and leaves them their place, brings none.
    fn has_our_tables(&self) -> bool {
        match &self.0 {
            Kind::Firmware(image, Some(_)) => firmware::low_copy(image) >= ACPI_TABLES_END,
            kind => !matches!(kind, Kind::Firmware(..)),
        }
    }

    /// Whether a boot loader, and no firmware, starts the machine: then the loader does what
    /// firmware does elsewhere (ACPI tables, memory types, local APIC pins).
    pub(crate) fn is_kernel(&self) -> bool {
        matches!(self.0, Kind::BzImage(..) | Kind::Elf(..))
    }

    /// Puts everything in `memory`, which is all zero, and says where the first vCPU starts.
    ///
    /// # Errors
    /// When something does not fit or a file changed since it was opened.
    pub(crate) fn load(&mut self, memory: &Memory, acpi: &Tables) -> Result<Entry, Error> {
        if self.has_our_tables() {
            acpi.load(memory)?;
        }
        if self.is_kernel() {
            reset_vector::load(memory)?;
        }
        match &mut self.0 {
            Kind::BzImage(parts, header) => {
                parts.check_unchanged()?;
                bzimage::load(parts, header, memory, acpi.rsdp())
            }
            Kind::Elf(parts, header) => {
                parts.check_unchanged()?;
                elf::load(parts, header, memory, acpi.rsdp())
            }
            Kind::Firmware(image, kernel) => {
                image.check_unchanged()?;
                if let Some(kernel) = kernel {
                    kernel.check_unchanged()?;
                }
                firmware::load(image, memory)
            }
            Kind::Flat(image) => image.load(memory),
        }
    }
}

impl Kernel {
    /// Whether both files are still what they were.
    fn check_unchanged(&self) -> Result<(), Error> {
        self.kernel.check_unchanged()?;
        self.initrd
            .as_ref()
            .map_or(Ok(()), ImageFile::check_unchanged)
    }

    /// Puts the initrd as high as it may be: it ends at `limit` or below, and begins after
    /// `kernel_end`.
    fn load_initrd(
        &mut self,
        memory: &Memory,
        kernel_end: u64,
        limit: u64,
    ) -> Result<Option<Placed>, Error> {
        let Some(initrd) = &mut self.initrd else {
            return Ok(None);
        };
        let limit = limit.min(memory.low_end());
        let size = initrd.size();
        let lowest = kernel_end.next_multiple_of(PAGE);
        let address = limit.saturating_sub(size) & !(PAGE.saturating_sub(1));
        if size > limit || address < lowest {
            return Err(Error::InitrdTooLarge {
                path: initrd.path().to_path_buf(),
                size,
                room: limit.saturating_sub(lowest),
                limit,
            });
        }
        initrd.load(0, size, memory, address)?;
        Ok(Some(Placed { address, size }))
    }

    /// Puts the command line, and its NUL, in memory.
    fn load_command_line(&self, memory: &Memory, most: usize) -> Result<Placed, Error> {
        let length = self.command_line.len();
        if length > most {
            return Err(Error::CommandLineTooLong { length, most });
        }
        let address = super::layout::COMMAND_LINE;
        memory.write(address, self.command_line.as_bytes())?;
        Ok(Placed {
            address,
            size: length as u64,
        })
    }
}

impl FlatImage {
    /// Puts the bytes in memory.
    fn load(&self, memory: &Memory) -> Result<Entry, Error> {
        let size = self.bytes.len() as u64;
        let address = u64::from(self.address);
        if address.saturating_add(size) > memory.low_end() {
            return Err(Error::FlatImage { size, address });
        }
        memory.write(address, &self.bytes)?;
        Ok(Entry::Real {
            segment: self.segment,
            ip: self.offset,
        })
    }
}

/// What a file that is no kernel looks like, for a message.
fn describe(start: &[u8]) -> String {
    const KNOWN: [(usize, &[u8], &str); 9] = [
        (0, b"\x1f\x8b", "gzip-compressed data (decompress it first)"),
        (0, b"\xfd7zXZ\0", "xz-compressed data (decompress it first)"),
        (
            0,
            b"\x28\xb5\x2f\xfd",
            "zstd-compressed data (decompress it first)",
        ),
        (0, b"070701", "a cpio archive (an initrd?)"),
        (0, b"#!", "a script"),
        (0, b"!<arch>", "an archive"),
        (0, b"QFI\xfb", "a qcow2 disk image"),
        (56, b"ARM\x64", "a kernel for arm64"),
        (0, b"MZ", "a PE program without a Linux boot header"),
    ];
    let known = KNOWN
        .iter()
        .find(|(at, magic, _)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    match (known, start) {
        (Some((_, _, name)), _) => (*name).to_owned(),
        (None, []) => "an empty file".to_owned(),
        (None, _) => {
            let hex: Vec<_> = start
                .iter()
                .take(4)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("a file that begins with the bytes {}", hex.join(" "))
        }
    }
}

/// `N` bytes at offset `at`, for little-endian fields.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub(super) mod test_images;
#[cfg(test)]
mod tests;
