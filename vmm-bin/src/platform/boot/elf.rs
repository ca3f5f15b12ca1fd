//! ELF kernels: a vmlinux by its 64-bit entry, or any kernel with a PVH note by its 32-bit one.
//!
//! Both ELF classes are read. `linux-loader` reads the 64-bit class only, and forgets a PVH note
//! when another note segment follows it, hence the reader here.

use linux_loader::bootparam::setup_header;

use super::file::ImageFile;
use super::{Entry, Kernel, field, linux, pvh};
use crate::platform::error::Error;
use crate::platform::layout::HIGH_RAM;
use crate::platform::memory::Memory;

/// What an ELF file begins with.
pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// x86's limit (`COMMAND_LINE_SIZE`), without the NUL.
const COMMAND_LINE_MOST: usize = 2047;
/// Where an initrd must end without a setup header that says otherwise.
const INITRD_LIMIT: u64 = 0x8000_0000;
/// More note bytes than any kernel has.
const NOTES_MOST: u64 = 0x1_0000;
/// `XEN_ELFNOTE_PHYS32_ENTRY`.
const PHYS32_ENTRY: u32 = 18;
/// Program header types.
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Machines.
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;

/// A checked ELF header, with what its program headers say.
#[derive(Debug)]
pub(super) struct Header {
    start: Start,
    segments: Vec<Segment>,
}

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Pvh(u32),
    Linux64(u64),
}

impl Start {
    fn address(self) -> u64 {
        match self {
            Self::Pvh(ip) => ip.into(),
            Self::Linux64(ip) => ip,
        }
    }
}

/// One program header.
#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

impl Segment {
    /// Whether this address is in it once it is loaded.
    fn holds(&self, address: u64) -> bool {
        address
            .checked_sub(self.address)
            .is_some_and(|offset| offset < self.memory_size)
    }
}

/// Where the fields are in each class.
struct Layout {
    wide: bool,
    program_headers: usize,
    entry_size: usize,
    entry_count: usize,
    /// In a program header: offset, physical address, size in file, size in memory.
    segment: [usize; 4],
    segment_size: u16,
}

const ELF32: Layout = Layout {
    wide: false,
    program_headers: 28,
    entry_size: 42,
    entry_count: 44,
    segment: [4, 12, 16, 20],
    segment_size: 32,
};

const ELF64: Layout = Layout {
    wide: true,
    program_headers: 32,
    entry_size: 54,
    entry_count: 56,
    segment: [8, 24, 32, 40],
    segment_size: 56,
};

impl Layout {
    /// An address or offset of this class.
    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.wide {
            field(bytes, at).map(u64::from_le_bytes)
        } else {
            field(bytes, at).map(u32::from_le_bytes).map(u64::from)
        }
    }
}

impl Header {
    /// Reads and checks the headers.
    ///
    /// # Errors
    /// When the file is truncated, for another machine, or offers no entry that we know.
    pub(super) fn read(kernel: &ImageFile) -> Result<Self, Error> {
        let broken = |reason: &str| Error::Kernel {
            path: kernel.path().to_path_buf(),
            reason: reason.to_owned(),
        };
        let truncated = || broken("truncated: it ends in its ELF header");
        let head = kernel.peek(0, 64)?;
        let byte = |at| {
            field::<1>(&head, at)
                .map(|[byte]| byte)
                .ok_or_else(truncated)
        };
        let layout = match byte(4)? {
            1 => ELF32,
            2 => ELF64,
            _ => return Err(broken("an ELF file of unknown class")),
        };
        if byte(5)? != 1 {
            return Err(broken("an ELF file for a big-endian machine, expected x86"));
        }
        let half = |at| {
            field(&head, at)
                .map(u16::from_le_bytes)
                .ok_or_else(truncated)
        };
        let machine = half(18)?;
        if machine != EM_386 && machine != EM_X86_64 {
            return Err(broken(&format!(
                "an ELF file for machine {machine}, expected x86"
            )));
        }
        let entry = layout.word(&head, 24).ok_or_else(truncated)?;
        let table = layout
            .word(&head, layout.program_headers)
            .ok_or_else(truncated)?;
        if half(layout.entry_size)? != layout.segment_size {
            return Err(broken(
                "has no program headers of the size that ELF prescribes",
            ));
        }
        let count = usize::from(half(layout.entry_count)?);
        let size = usize::from(layout.segment_size);
        let bytes = kernel.peek(table, count.saturating_mul(size))?;
        let segments = bytes.chunks_exact(size).filter_map(|bytes| {
            let [offset, address, file_size, memory_size] =
                layout.segment.map(|at| layout.word(bytes, at));
            Some(Segment {
                kind: field(bytes, 0).map(u32::from_le_bytes)?,
                offset: offset?,
                address: address?,
                file_size: file_size?,
                memory_size: memory_size?,
            })
        });
        let segments: Vec<_> = segments.collect();
        if segments.len() < count {
            return Err(broken("truncated: it ends in its program headers"));
        }
        check(&segments, kernel.size()).map_err(|reason| broken(&reason))?;
        let start = match pvh_entry(kernel, &segments)? {
            Some(entry) => Start::Pvh(entry),
            None if machine == EM_X86_64 && layout.wide => Start::Linux64(entry),
            None => {
                return Err(broken(
                    "a 32-bit ELF file without a PVH note (XEN_ELFNOTE_PHYS32_ENTRY)",
                ));
            }
        };
        Ok(Self { start, segments })
    }

    /// The segments that are loaded.
    fn loaded(&self) -> impl Iterator<Item = Segment> + use<> {
        let loaded: Vec<_> = self
            .segments
            .iter()
            .copied()
            .filter(|segment| segment.kind == PT_LOAD)
            .collect();
        loaded.into_iter()
    }
}

/// Whether all segments are in the file and in a place where a kernel may be.
fn check(segments: &[Segment], size: u64) -> Result<(), String> {
    let wanted = |segment: &&Segment| matches!(segment.kind, PT_LOAD | PT_NOTE);
    for segment in segments.iter().filter(wanted) {
        let end = segment.offset.checked_add(segment.file_size);
        if end.is_none_or(|end| end > size) {
            return Err(format!(
                "truncated: a segment of {} bytes at {:#x} reaches beyond its {size} bytes",
                segment.file_size, segment.offset
            ));
        }
    }
    let mut any = false;
    for segment in segments.iter().filter(|segment| segment.kind == PT_LOAD) {
        any = true;
        if segment.memory_size < segment.file_size {
            return Err("a segment is larger in the file than in memory".to_owned());
        }
        if segment.memory_size > 0 && segment.address < HIGH_RAM {
            return Err(format!(
                "a segment is to be loaded at {:#x}, below 1 MiB, where there is no room for it",
                segment.address
            ));
        }
    }
    if any {
        Ok(())
    } else {
        Err("has no segment to load".to_owned())
    }
}

/// The entry that a PVH note names, if there is one.
fn pvh_entry(kernel: &ImageFile, segments: &[Segment]) -> Result<Option<u32>, Error> {
    for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
        let size = usize::try_from(segment.file_size.min(NOTES_MOST)).unwrap_or(usize::MAX);
        let notes = kernel.peek(segment.offset, size)?;
        if let Some(entry) = find_pvh_note(&notes) {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// Walks a note segment: sizes of name and descriptor, type, then both, padded to 4 bytes.
fn find_pvh_note(mut notes: &[u8]) -> Option<u32> {
    loop {
        let word = |at| field(notes, at).map(u32::from_le_bytes);
        let name_size = usize::try_from(word(0)?).ok()?;
        let desc_size = usize::try_from(word(4)?).ok()?;
        let kind = word(8)?;
        let rest = notes.get(12..)?;
        let name = rest.get(..name_size)?;
        let rest = rest.get(name_size.checked_next_multiple_of(4)?..)?;
        if kind == PHYS32_ENTRY && name == b"Xen\0" && desc_size >= 4 {
            return field(rest, 0).map(u32::from_le_bytes);
        }
        notes = rest.get(desc_size.checked_next_multiple_of(4)?..)?;
    }
}

/// Loads kernel, initrd, command line and what the entry is handed.
///
/// # Errors
/// When one of them does not fit, or the entry is not in what is loaded.
pub(super) fn load(
    parts: &mut Kernel,
    header: &Header,
    memory: &Memory,
    rsdp: u64,
) -> Result<Entry, Error> {
    let end = header
        .loaded()
        .map(|segment| segment.address.saturating_add(segment.memory_size))
        .fold(HIGH_RAM, u64::max);
    if end > memory.low_end() {
        let path = parts.kernel.path().to_path_buf();
        return Err(Error::KernelTooLarge {
            path,
            needed: end,
            have: memory.low_end(),
        });
    }
    let ip = header.start.address();
    if !header.loaded().any(|segment| segment.holds(ip)) {
        return Err(Error::Kernel {
            path: parts.kernel.path().to_path_buf(),
            reason: format!("its entry {ip:#x} is in none of the segments that are loaded"),
        });
    }
    for segment in header.loaded() {
        parts
            .kernel
            .load(segment.offset, segment.file_size, memory, segment.address)?;
    }
    let command_line = parts.load_command_line(memory, COMMAND_LINE_MOST)?;
    let initrd = parts.load_initrd(memory, end, INITRD_LIMIT)?;
    match header.start {
        Start::Pvh(ip) => {
            pvh::write_start_info(memory, command_line, initrd, rsdp)?;
            Ok(pvh::entry(ip))
        }
        Start::Linux64(ip) => {
            linux::write_zero_page(memory, elf_setup_header(), command_line, initrd, rsdp)?;
            Ok(linux::entry(ip))
        }
    }
}

/// The setup header that a bzImage would have had.
fn elf_setup_header() -> setup_header {
    setup_header {
        boot_flag: 0xaa55,
        header: u32::from_le_bytes(*b"HdrS"),
        version: super::bzimage::VERSION_2_14,
        kernel_alignment: 0x100_0000,
        cmdline_size: 2047,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A note as it is in the file.
    fn note(name: &[u8], kind: u32, desc: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name.len(), desc.len(), kind as usize] {
            bytes.extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        for part in [name, desc] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_pvh_note_is_found_among_others() {
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        notes.extend(note(b"Xen\0", 6, b"linux\0"));
        notes.extend(note(b"Xen\0", PHYS32_ENTRY, &0x100_0000_u64.to_le_bytes()));
        assert_eq!(find_pvh_note(&notes), Some(0x100_0000));
        for size in 0..notes.len() - 8 {
            // A truncated note is not found, and nothing worse happens.
            assert!(find_pvh_note(&notes[..size]).is_none());
        }
        assert_eq!(find_pvh_note(&note(b"Xen\0", PHYS32_ENTRY, &[1])), None);
        assert_eq!(find_pvh_note(&[0xff; 64]), None);
    }
}
