//! Putting a bus together.

use std::sync::Arc;

use super::range::Entry;
use super::{Bus, BusDevice, Granularity, Mapping};
use crate::Error;

/// The highest I/O port of x86.
const LAST_PORT: u64 = 0xffff;

/// Collects devices, checks that they do not overlap, and becomes a [`Bus`].
#[derive(Debug)]
pub struct BusBuilder {
    ranges: Vec<Entry>,
    overlays: Vec<Entry>,
    last: u64,
}

impl BusBuilder {
    /// A builder for the 65,536 I/O ports of x86.
    pub fn pio() -> Self {
        Self::from_parts(Vec::new(), Vec::new(), LAST_PORT)
    }

    /// A builder for 64-bit physical addresses.
    pub fn mmio() -> Self {
        Self::from_parts(Vec::new(), Vec::new(), u64::MAX)
    }

    pub(super) fn from_parts(ranges: Vec<Entry>, overlays: Vec<Entry>, last: u64) -> Self {
        Self {
            ranges,
            overlays,
            last,
        }
    }

    /// Maps each of `mappings` to `device`, or none of them.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyRange`], [`Error::RangeTooLong`], or [`Error::Overlap`] with what is mapped
    /// already.
    pub fn map(
        &mut self,
        name: &str,
        mappings: &[Mapping],
        device: Arc<dyn BusDevice>,
    ) -> Result<&mut Self, Error> {
        insert(&mut self.ranges, self.last, name, mappings, &device)?;
        Ok(self)
    }

    /// Maps `device` over whatever else claims the same addresses. For hardware that decodes a few
    /// bytes inside another's range, such as the reset-control register 0xCF9 inside PCI's
    /// 0xCF8 to 0xCFB. Overlays must not overlap each other.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map), among the overlays alone.
    pub fn overlay(
        &mut self,
        name: &str,
        mappings: &[Mapping],
        device: Arc<dyn BusDevice>,
    ) -> Result<&mut Self, Error> {
        insert(&mut self.overlays, self.last, name, mappings, &device)?;
        Ok(self)
    }

    /// Takes away every range of the device that was mapped as `name`. Returns how many there were.
    pub fn unmap(&mut self, name: &str) -> usize {
        let before = self.ranges.len().saturating_add(self.overlays.len());
        self.ranges.retain(|entry| entry.name != name);
        self.overlays.retain(|entry| entry.name != name);
        before.saturating_sub(self.ranges.len().saturating_add(self.overlays.len()))
    }

    /// The finished bus.
    pub fn build(self) -> Bus {
        Bus::from_parts(self.ranges, self.overlays, self.last)
    }
}

fn insert(
    entries: &mut Vec<Entry>,
    last_address: u64,
    name: &str,
    mappings: &[Mapping],
    device: &Arc<dyn BusDevice>,
) -> Result<(), Error> {
    let whole = device.granularity() == Granularity::Whole;
    let mut merged = entries.clone();
    for &mapping in mappings {
        if mapping.len == 0 {
            return Err(Error::EmptyRange {
                device: name.to_owned(),
                base: mapping.base,
            });
        }
        let last = mapping
            .last()
            .filter(|last| *last <= last_address)
            .ok_or_else(|| Error::RangeTooLong {
                device: name.to_owned(),
                base: mapping.base,
                len: mapping.len,
                last: last_address,
            })?;
        if let Some(other) = merged
            .iter()
            .find(|other| mapping.base <= other.last && other.mapping.base <= last)
        {
            return Err(Error::Overlap {
                device: name.to_owned(),
                range: mapping,
                other: other.name.clone(),
                other_range: other.mapping,
            });
        }
        let device = Arc::clone(device);
        merged.push(Entry {
            name: name.to_owned(),
            mapping,
            last,
            whole,
            device,
        });
    }
    merged.sort_by_key(|entry| entry.mapping.base);
    *entries = merged;
    Ok(())
}
