//! The layout of a core file: an ELF header, program headers, notes, and then memory.
//!
//! ```text
//!   0        64              64 + 56 * (1 + loads)      next page              next page
//!   | header | NOTE, LOAD... | notes                    | 1st range of memory | 2nd ... |
//! ```
//!
//! Each range of the guest's physical addresses is one LOAD. Its virtual addresses are its physical ones, as in QEMU's: so
//! gdb reads physical memory.
//!
//! The rule that must never be broken: nothing here does I/O, and the same input has the same layout.
//!
//! Source: System V ABI, "Object Files" and "Program Loading"; its AMD64 supplement.

use std::ops::Range;

const HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
/// Where ranges of memory begin in the file, so that what is all zero can be a hole.
const PAGE: u64 = 4096;

/// ELF64, little endian, version 1, no special system.
const IDENT: [u8; 16] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// Readable, writable, executable: memory is all of it.
const PF_RWX: u32 = 7;

/// A range of the guest's memory, and where it is in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    /// Physical addresses.
    pub(super) range: Range<u64>,
    /// The first byte in the file.
    pub(super) offset: u64,
}

/// What a core file consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// What comes first.
    pub(super) front: Vec<u8>,
    /// The memory behind it.
    pub(super) loads: Vec<Load>,
    /// Bytes of memory.
    pub(super) total: u64,
    /// Bytes of the file.
    pub(super) length: u64,
}

impl Layout {
    /// A core file with these notes and these ranges of memory. `None`: there are more ranges than a
    /// header can count.
    pub(super) fn new(notes: &[u8], ranges: &[Range<u64>]) -> Option<Self> {
        let count = u16::try_from(ranges.len()).ok()?.checked_add(1)?;
        let headers = u64::from(count).saturating_mul(PROGRAM_HEADER.into());
        let notes_at = u64::from(HEADER).saturating_add(headers);
        let notes_length = u64::try_from(notes.len()).ok()?;

        let mut at = notes_at.saturating_add(notes_length);
        let mut total: u64 = 0;
        let mut loads = Vec::with_capacity(ranges.len());
        for range in ranges {
            let offset = at.checked_next_multiple_of(PAGE)?;
            let length = range.end.saturating_sub(range.start);
            at = offset.checked_add(length)?;
            total = total.saturating_add(length);
            let range = range.clone();
            loads.push(Load { range, offset });
        }

        let mut front = header(count);
        let note = [PT_NOTE, 0];
        front.extend(program_header(note, [notes_at, 0, notes_length]));
        for Load { range, offset } in &loads {
            let length = range.end.saturating_sub(range.start);
            let load = [PT_LOAD, PF_RWX];
            front.extend(program_header(load, [*offset, range.start, length]));
        }
        front.extend(notes);
        Some(Self {
            front,
            loads,
            total,
            length: at,
        })
    }
}

fn header(program_headers: u16) -> Vec<u8> {
    let mut bytes = IDENT.to_vec();
    bytes.extend(ET_CORE.to_le_bytes());
    bytes.extend(EM_X86_64.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    // No entry; the program headers follow; no section headers.
    for word in [0, u64::from(HEADER), 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [HEADER, PROGRAM_HEADER, program_headers, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

fn program_header(
    [kind, flags]: [u32; 2],
    [offset, address, length]: [u64; 3],
) -> impl Iterator<Item = u8> {
    let words = [offset, address, address, length, length, 0];
    let words = words.into_iter().flat_map(u64::to_le_bytes);
    let halves = [kind, flags].into_iter().flat_map(u32::to_le_bytes);
    halves.chain(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    #[test]
    fn headers_say_where_everything_is() {
        let notes = [7; 100];
        let low = 0..0x2800;
        let high = 0x1_0000_0000..0x1_0000_1000;
        let layout = Layout::new(&notes, &[low.clone(), high.clone()]).unwrap();
        assert_eq!(layout.front.len(), 64 + 3 * 56 + 100);
        assert_eq!(layout.front[..4], *b"\x7fELF");
        assert_eq!(layout.front[56], 3, "e_phnum");
        assert_eq!(layout.front[64 + 3 * 56..], notes);
        // The notes.
        assert_eq!(layout.front[64], 4);
        assert_eq!(word(&layout.front, 64 + 8), 64 + 3 * 56);
        assert_eq!(word(&layout.front, 64 + 32), 100);
        // The memory.
        for (index, (load, range)) in layout.loads.iter().zip([low, high]).enumerate() {
            let at = 64 + 56 * (1 + index);
            assert_eq!(load.range, range);
            assert_eq!(layout.front[at], 1);
            assert_eq!(word(&layout.front, at + 8), load.offset);
            assert_eq!(word(&layout.front, at + 16), range.start);
            assert_eq!(word(&layout.front, at + 24), range.start);
            assert_eq!(word(&layout.front, at + 32), range.end - range.start);
            assert_eq!(load.offset % PAGE, 0);
        }
        assert_eq!(layout.loads[0].offset, 0x1000);
        assert_eq!(layout.loads[1].offset, 0x4000);
        assert_eq!((layout.total, layout.length), (0x3800, 0x5000));
    }

    #[test]
    fn no_memory_is_a_file_of_notes() {
        let layout = Layout::new(&[], &[]).unwrap();
        assert_eq!((layout.total, layout.length), (0, 64 + 56));
        assert_eq!(layout.front.len(), 64 + 56);
    }

    #[test]
    fn what_no_file_can_hold_is_no_layout() {
        assert_eq!(Layout::new(&[], &[0..u64::MAX, 0..u64::MAX]), None);
        assert_eq!(Layout::new(&[], &vec![0..1; 0xffff]), None);
    }
}
