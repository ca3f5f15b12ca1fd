//! One mapped range, and the search among them.

use std::fmt;
use std::sync::Arc;

use super::BusDevice;

/// A stretch of a bus's addresses, and which part of a device's window it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The first address on the bus.
    pub base: u64,
    /// The length in bytes.
    pub len: u64,
    /// The device's offset at `base`. Not 0 where a device has several ranges, as the i8042 at
    /// 0x60 and 0x64.
    pub offset: u64,
}

impl Mapping {
    /// `len` bytes at `base`, the start of the device's window.
    pub const fn new(base: u64, len: u64) -> Self {
        Self {
            base,
            len,
            offset: 0,
        }
    }

    /// The same addresses, showing the device's window from `offset` on.
    #[must_use]
    pub const fn at_offset(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The last address, or `None` for an empty range or one that passes 2^64.
    pub(super) fn last(&self) -> Option<u64> {
        self.base.checked_add(self.len.checked_sub(1)?)
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:#x}-{:#x}",
            self.base,
            self.last().unwrap_or(self.base)
        )
    }
}

/// A mapping with its device. `last` and `whole` are worked out once, not on every access.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) mapping: Mapping,
    pub(super) last: u64,
    pub(super) whole: bool,
    pub(super) device: Arc<dyn BusDevice>,
}

impl Entry {
    /// The device's offset for `address`, and how many bytes from there on belong to the range.
    /// `None` if the address is outside.
    pub(super) fn locate(&self, address: u64) -> Option<(u64, usize)> {
        let into = address.checked_sub(self.mapping.base)?;
        let beyond = self.last.checked_sub(address)?;
        let room = usize::try_from(beyond)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        Some((self.mapping.offset.wrapping_add(into), room))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.mapping)
    }
}

/// The entry that covers `address`, among entries in ascending order that do not overlap.
pub(super) fn find(entries: &[Entry], address: u64) -> Option<&Entry> {
    let after = entries.partition_point(|entry| entry.mapping.base <= address);
    let entry = entries.get(after.checked_sub(1)?)?;
    (address <= entry.last).then_some(entry)
}
