//! The memory map that a kernel is handed, in the terms that e820 and PVH share.

use crate::platform::layout::{
    ACPI, CONVENTIONAL_END, HIGH_RAM, KVM_IDENTITY_MAP, KVM_RESERVED_SIZE,
};
use crate::platform::memory::Memory;

/// Memory for the guest to use.
pub(crate) const RAM: u32 = 1;
/// Not to be touched.
pub(crate) const RESERVED: u32 = 2;

/// One range of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapEntry {
    /// Where it begins.
    pub(crate) address: u64,
    /// How long it is, in bytes.
    pub(crate) size: u64,
    /// [`RAM`] or [`RESERVED`].
    pub(crate) kind: u32,
}

/// The map of a machine with this memory, ascending and without overlaps.
pub(crate) fn memory_map(memory: &Memory) -> Vec<MapEntry> {
    let entry = |from: u64, to: u64, kind| MapEntry {
        address: from,
        size: to.saturating_sub(from),
        kind,
    };
    let mut map = vec![
        entry(0, CONVENTIONAL_END, RAM),
        entry(CONVENTIONAL_END, 0xa_0000, RESERVED),
        entry(ACPI, HIGH_RAM, RESERVED),
        entry(HIGH_RAM, memory.low_end(), RAM),
        entry(
            KVM_IDENTITY_MAP,
            KVM_IDENTITY_MAP.saturating_add(KVM_RESERVED_SIZE),
            RESERVED,
        ),
    ];
    map.extend(
        memory
            .ram_ranges()
            .skip(1)
            .map(|(from, to)| entry(from, to, RAM)),
    );
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::layout::{HOLE_END, HOLE_START, MIB, PAGE};
    use crate::platform::memory::Backing;

    #[test]
    fn the_map_is_ascending_and_holds_all_ram() {
        for ram in [2 * MIB, 512 * MIB, HOLE_START, HOLE_START + PAGE, HOLE_END] {
            let memory = Memory::new(ram, Backing::Private, None, 40).unwrap();
            let map = memory_map(&memory);
            for pair in map.windows(2) {
                assert!(
                    pair[0].address + pair[0].size <= pair[1].address,
                    "{pair:x?}"
                );
            }
            let usable: u64 = map.iter().filter(|e| e.kind == RAM).map(|e| e.size).sum();
            assert_eq!(usable, ram - (HIGH_RAM - CONVENTIONAL_END));
        }
    }
}
