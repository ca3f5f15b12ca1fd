//! What guest memory is made of on the host: pages of the process's own, a file in memory that others
//! can map too, or huge pages that the host has set aside.
//!
//! | backing | mapping | how it is cleared |
//! |---|---|---|
//! | [`Private`](Backing::Private) | anonymous | `MADV_DONTNEED` |
//! | [`Shared`](Backing::Shared) | memfd | `MADV_REMOVE`: a hole in the file |
//! | [`HugePages`](Backing::HugePages) | memfd of huge pages, all reserved at start-up | the same |
//!
//! A translation of guest addresses by the processor ends in a huge page only where guest and host
//! addresses are aligned alike. So the host address of guest address 0 is a multiple of 2 MiB, and
//! the kernel is asked for transparent huge pages (`MADV_HUGEPAGE`) from [`SMALL_PAGES`] on. Below,
//! where every boot leaves a few tables, a huge page would be cleared and resident for nothing.

use std::io;

use rustix::fs::{MemfdFlags, memfd_create};
use vm_memory::mmap::{MmapRegion, MmapRegionError};
use vm_memory::volatile_memory::VolatileMemory;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    MemoryRegionAddress, VolatileSlice,
};

use crate::platform::layout::MIB;
use crate::platform::sys::{self, Advice};

/// The size and the alignment of a huge page.
pub(crate) const HUGE_PAGE: u64 = 2 * MIB;
/// What of each region stays in small pages.
const SMALL_PAGES: u64 = 2 * MIB;

/// Where RAM comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Backing {
    /// From the process's own memory, page by page as it is touched.
    #[default]
    Private,
    /// From a file in memory, which another process that is handed its descriptor can map.
    Shared,
    /// The same, of huge pages (2 MiB) that the host has set aside.
    HugePages,
}

/// One range of guest memory.
#[derive(Debug)]
pub(crate) struct Region {
    mapping: MmapRegion,
    /// Bytes of the mapping before the guest's first, for the sake of alignment.
    skipped: u64,
    start: GuestAddress,
    size: u64,
    backing: Backing,
}

impl Region {
    /// `size` bytes of RAM from guest address `start` on, which must be a multiple of 2 MiB.
    ///
    /// # Errors
    /// What the host says; `ENOMEM` also when it has too few huge pages.
    pub(super) fn ram(start: u64, size: u64, backing: Backing) -> io::Result<Self> {
        let (mapping, skipped) = match backing {
            Backing::Private => aligned(size)?,
            // Files of huge pages are mapped aligned, and files in memory where they can have them.
            Backing::Shared => (in_file(size, MemfdFlags::CLOEXEC)?, 0),
            Backing::HugePages => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
                (in_file(size, flags)?, 0)
            }
        };
        let region = Self {
            mapping,
            skipped,
            start: GuestAddress(start),
            size,
            backing,
        };
        if backing != Backing::HugePages && size > SMALL_PAGES {
            let length = size.saturating_sub(SMALL_PAGES);
            // A kernel without transparent huge pages gives small ones, and all the rest is the same.
            sys::advise(&region, SMALL_PAGES, length, Advice::HugePage)
                .unwrap_or_else(|error| log::debug!("no transparent huge pages: {error}"));
        }
        Ok(region)
    }

    /// `size` bytes from guest address `start` on, for a firmware image.
    ///
    /// # Errors
    /// What the host says.
    pub(super) fn rom(start: u64, size: u64) -> io::Result<Self> {
        Ok(Self {
            mapping: MmapRegion::new(length(size)?).map_err(plain)?,
            skipped: 0,
            start: GuestAddress(start),
            size,
            backing: Backing::Private,
        })
    }

    /// Gives all pages back to the host: they read as zeroes from now on.
    ///
    /// # Errors
    /// What the host says.
    pub(super) fn clear(&self) -> io::Result<()> {
        let advice = match self.backing {
            Backing::Private => Advice::DontNeed,
            Backing::Shared | Backing::HugePages => Advice::Remove,
        };
        sys::advise(self, 0, self.size, advice)
    }
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> u64 {
        self.size
    }

    fn start_addr(&self) -> GuestAddress {
        self.start
    }

    fn bitmap(&self) {}

    fn get_host_address(&self, address: MemoryRegionAddress) -> Result<*mut u8, GuestMemoryError> {
        let slice = self.get_slice(address, 1)?;
        Ok(slice.ptr_guard_mut().as_ptr())
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        self.mapping.file_offset()
    }

    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        let end = offset.0.checked_add(count as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(GuestMemoryError::InvalidBackendAddress);
        }
        let offset = usize::try_from(self.skipped.saturating_add(offset.0))
            .map_err(|_| GuestMemoryError::InvalidBackendAddress)?;
        Ok(self.mapping.get_slice(offset, count)?)
    }

    fn is_hugetlbfs(&self) -> Option<bool> {
        Some(self.backing == Backing::HugePages)
    }
}

impl GuestMemoryRegionBytes for Region {}

/// Anonymous memory with `size` bytes from a multiple of 2 MiB on, and how many bytes come before
/// those. What is too much is address space alone.
fn aligned(size: u64) -> io::Result<(MmapRegion, u64)> {
    let room = size
        .checked_add(HUGE_PAGE)
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let mapping = MmapRegion::new(length(room)?).map_err(plain)?;
    let host = mapping.as_ptr().addr() as u64;
    let skipped = host.next_multiple_of(HUGE_PAGE).saturating_sub(host);
    Ok((mapping, skipped))
}

/// A file in memory of `size` bytes, mapped. Huge pages are reserved by that, all or none.
fn in_file(size: u64, flags: MemfdFlags) -> io::Result<MmapRegion> {
    let file = std::fs::File::from(memfd_create("guest-ram", flags)?);
    file.set_len(size)?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let file = Some(FileOffset::new(file, 0));
    MmapRegion::build(file, length(size)?, access, libc::MAP_SHARED).map_err(plain)
}

/// A size as the host counts.
fn length(size: u64) -> io::Result<usize> {
    usize::try_from(size).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

/// The system's error, without what vm-memory says around it.
fn plain(error: MmapRegionError) -> io::Error {
    match error {
        MmapRegionError::Mmap(error) => error,
        error => io::Error::other(error),
    }
}
