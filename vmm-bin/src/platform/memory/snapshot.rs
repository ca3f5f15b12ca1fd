//! Guest memory for a reader on another thread, who learns when it was cleared under its hands.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::Regions;
use crate::platform::error::Error;

/// The memory of one life of the guest.
#[derive(Debug)]
pub(crate) struct Snapshot {
    regions: Regions,
    lives: Arc<AtomicU64>,
    life: u64,
}

impl Snapshot {
    pub(super) fn new(regions: Regions, lives: Arc<AtomicU64>) -> Self {
        let life = lives.load(Ordering::Acquire);
        Self {
            regions,
            lives,
            life,
        }
    }

    /// The physical addresses that are memory, ascending; firmware is, too.
    pub(crate) fn ranges(&self) -> Vec<Range<u64>> {
        let ranges = self.regions.iter().map(|region| {
            let start = region.start_addr().0;
            start..start.saturating_add(region.len())
        });
        ranges.collect()
    }

    /// Fills `bytes` from `address` on. It counts only if [`is_current`](Self::is_current) afterwards.
    ///
    /// # Errors
    /// When the range is not memory.
    pub(crate) fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let read = self.regions.read_slice(bytes, GuestAddress(address));
        read.map_err(|error| Error::MemoryAccess {
            address,
            reason: error.to_string(),
        })
    }

    /// Whether what was read until now is of the one life.
    pub(crate) fn is_current(&self) -> bool {
        fence(Ordering::Acquire);
        self.lives.load(Ordering::Acquire) == self.life
    }
}

#[cfg(test)]
mod tests {
    use crate::platform::memory::{Backing, LEAST, Memory};

    #[test]
    fn what_is_read_after_a_reset_does_not_count() {
        let memory = Memory::new(LEAST, Backing::Private, Some(0x1_0000), 40).unwrap();
        memory.write(0x1000, &[7]).unwrap();
        let snapshot = memory.snapshot();
        assert_eq!(snapshot.ranges(), [0..LEAST, 0xffff_0000..0x1_0000_0000]);
        let mut byte = [0];
        snapshot.read(0x1000, &mut byte).unwrap();
        assert_eq!((byte, snapshot.is_current()), ([7], true));
        assert!(snapshot.read(LEAST, &mut byte).is_err());
        memory.clear().unwrap();
        snapshot.read(0x1000, &mut byte).unwrap();
        assert_eq!((byte, snapshot.is_current()), ([0], false));
        assert!(memory.snapshot().is_current());
    }
}
