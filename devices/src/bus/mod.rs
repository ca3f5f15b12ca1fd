//! Port and memory-mapped I/O dispatch, without a lock.
//!
//! ```text
//!   vCPU 0 ──┐                        ┌─▶ device (own lock)
//!   vCPU 1 ──┼─▶ Bus: sorted ranges ──┼─▶ device (own lock)
//!   vCPU n ──┘   (immutable, shared)  └─▶ nobody: all ones, counted
//! ```
//!
//! A [`Bus`] is built once by a [`BusBuilder`] and never changes; threads share it through an `Arc`
//! and look devices up without synchronising. To map or unmap at run time, build a new bus from the
//! old one ([`Bus::to_builder`]) and swap the `Arc` that the vCPUs use.
//!
//! How an access finds its device:
//!
//! 1. The address of the **first byte** decides; where an overlay covers it, the overlay wins. If
//!    nobody claims that address, the whole access is unclaimed: it reads as all ones, writes go
//!    nowhere, and it is counted, not logged.
//! 2. A device of [`Granularity::Whole`] gets the access as the guest made it, even where it
//!    reaches past the device's range.
//! 3. A device of [`Granularity::Byte`] gets one byte at a time, in ascending order; bytes past the
//!    end of its range are decoded as an access of their own.
//!
//! So a dword write to PCI's 0xCF8 reaches the PCI host as a whole, or nobody, although a byte of
//! it lies over the reset-control register at 0xCF9.
//!
//! The rule that must never be broken: **an access takes no lock but its device's own**, so a vCPU
//! inside one device never waits for another.

mod builder;
mod range;

use std::fmt;
use std::sync::Arc;

pub use builder::BusBuilder;
pub use range::Mapping;

use crate::counter::Counter;
use range::Entry;

/// How a device wants multi-byte accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Granularity {
    /// Split into bytes: what an 8-bit ISA device sees.
    Byte,
    /// As the guest made it.
    Whole,
}

/// A device with registers.
///
/// Thread safety: several vCPUs may be inside `read` and `write` at once; the device locks for
/// itself.
///
/// The guest is hostile. `offset` is where the access starts in the device's window, as it was
/// mapped, and the access may reach past the window. No offset, length (0 included) or data may
/// make a device panic, block, or grow without bound. [`conformance!`](crate::conformance!) tests
/// that.
pub trait BusDevice: Send + Sync {
    /// Fills all of `data` with what the guest reads at `offset`, the lowest address first.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes what the guest writes at `offset`, the lowest address first.
    fn write(&self, offset: u64, data: &[u8]);

    /// How the bus is to hand over multi-byte accesses.
    fn granularity(&self) -> Granularity {
        Granularity::Byte
    }
}

/// How often nobody was there.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Unclaimed {
    /// Reads that nobody answered; each returned all ones.
    pub reads: u64,
    /// Writes that nobody took.
    pub writes: u64,
}

/// A port or memory-mapped address space with its devices. See the [module](self) for the rules.
pub struct Bus {
    ranges: Vec<Entry>,
    overlays: Vec<Entry>,
    last: u64,
    unclaimed_reads: Counter,
    unclaimed_writes: Counter,
}

impl Bus {
    /// Reads `data.len()` bytes at `address`. An empty access does nothing.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        let mut address = address;
        let mut rest = data;
        while !rest.is_empty() {
            let Some(entry) = self.find(address) else {
                rest.fill(0xff);
                self.unclaimed_reads.count();
                return;
            };
            let Some((offset, room)) = entry.locate(address) else {
                return;
            };
            if entry.whole {
                entry.device.read(offset, rest);
                return;
            }
            let (mine, others) = rest.split_at_mut(room.min(rest.len()));
            for (index, byte) in (0_u64..).zip(mine.chunks_mut(1)) {
                entry.device.read(offset.wrapping_add(index), byte);
            }
            address = self.following(address, mine.len());
            rest = others;
        }
    }

    /// Writes `data` at `address`. An empty access does nothing.
    pub fn write(&self, address: u64, data: &[u8]) {
        let mut address = address;
        let mut rest = data;
        while !rest.is_empty() {
            let Some(entry) = self.find(address) else {
                self.unclaimed_writes.count();
                return;
            };
            let Some((offset, room)) = entry.locate(address) else {
                return;
            };
            if entry.whole {
                entry.device.write(offset, rest);
                return;
            }
            let (mine, others) = rest.split_at(room.min(rest.len()));
            for (index, byte) in (0_u64..).zip(mine.chunks(1)) {
                entry.device.write(offset.wrapping_add(index), byte);
            }
            address = self.following(address, mine.len());
            rest = others;
        }
    }

    /// How many accesses nobody claimed, since the bus was built.
    pub fn unclaimed(&self) -> Unclaimed {
        Unclaimed {
            reads: self.unclaimed_reads.get(),
            writes: self.unclaimed_writes.get(),
        }
    }

    /// What is mapped where, in ascending order, overlays last.
    pub fn mappings(&self) -> impl Iterator<Item = (&str, Mapping)> {
        self.ranges
            .iter()
            .chain(&self.overlays)
            .map(|entry| (entry.name.as_str(), entry.mapping))
    }

    /// A builder that holds what this bus holds. The counters of the new bus start at zero.
    pub fn to_builder(&self) -> BusBuilder {
        BusBuilder::from_parts(self.ranges.clone(), self.overlays.clone(), self.last)
    }

    fn from_parts(ranges: Vec<Entry>, overlays: Vec<Entry>, last: u64) -> Self {
        Self {
            ranges,
            overlays,
            last,
            unclaimed_reads: Counter::new(),
            unclaimed_writes: Counter::new(),
        }
    }

    fn find(&self, address: u64) -> Option<&Entry> {
        range::find(&self.overlays, address).or_else(|| range::find(&self.ranges, address))
    }

    /// The address `len` bytes on. An address space ends in its last address: what passes it starts
    /// at zero, as on the processor's own bus.
    fn following(&self, address: u64, len: usize) -> u64 {
        address.wrapping_add(u64::try_from(len).unwrap_or(u64::MAX)) & self.last
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("ranges", &self.ranges)
            .field("overlays", &self.overlays)
            .field("unclaimed", &self.unclaimed())
            .finish_non_exhaustive()
    }
}

/// Answers an access of any length through a device's one-byte read. For devices of
/// [`Granularity::Byte`], which may still be called with any length by somebody other than a
/// [`Bus`].
pub fn read_bytes(offset: u64, data: &mut [u8], mut read: impl FnMut(u64) -> u8) {
    for (index, slot) in (0_u64..).zip(data.iter_mut()) {
        *slot = read(offset.wrapping_add(index));
    }
}

/// Takes an access of any length through a device's one-byte write. See [`read_bytes`].
pub fn write_bytes(offset: u64, data: &[u8], mut write: impl FnMut(u64, u8)) {
    for (index, byte) in (0_u64..).zip(data) {
        write(offset.wrapping_add(index), *byte);
    }
}

impl<D: BusDevice + ?Sized> BusDevice for Arc<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        (**self).read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) {
        (**self).write(offset, data);
    }

    fn granularity(&self) -> Granularity {
        (**self).granularity()
    }
}

#[cfg(test)]
mod tests;
