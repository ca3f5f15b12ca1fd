//! Guest memory: RAM with a hole for MMIO below 4 GiB, and a read-only firmware image at its top.
//!
//! The host gives RAM to the guest page by page, as it is touched; [`Backing`] says where from. A cold
//! reset hands all pages back ([`Memory::clear`]), so that a boot starts from zeroes as the first
//! one did, and a machine that is reset shrinks to what it held at power-on.
//!
//! The rule that must never be broken: guest memory is accessed by volatile means only; no
//! reference into it is ever made.

mod backing;
mod snapshot;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::fw_cfg::GuestMemory;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionCollection,
};

pub(crate) use self::backing::{Backing, Region};

pub(crate) use self::snapshot::Snapshot;

use self::backing::HUGE_PAGE;
use super::error::Error;
use super::kvm::Vm;
use super::layout::{HOLE_END, HOLE_START, MIB, PAGE};
use super::sys;

/// What vm-memory's users work on.
pub(crate) type Regions = GuestRegionCollection<Region>;

/// The least memory: everything below 1 MiB has its place, and a guest wants some of its own.
pub(crate) const LEAST: u64 = 2 * MIB;

/// The guest's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    regions: Regions,
    ram: u64,
    firmware: Option<u64>,
    /// How often it was cleared.
    lives: Arc<AtomicU64>,
}

/// A range of RAM: from and to (exclusive), guest-physical.
pub(crate) type Range = (u64, u64);

impl Memory {
    /// `ram` bytes of RAM, addressable with `address_bits`, and `firmware` bytes that end at
    /// 4 GiB.
    ///
    /// # Errors
    /// When the size is too small, too large or no multiple of a page, or the host refuses.
    pub(crate) fn new(
        ram: u64,
        backing: Backing,
        firmware: Option<u64>,
        address_bits: u32,
    ) -> Result<Self, Error> {
        check(ram, backing, address_bits)?;
        let refused = |error: io::Error| refused(ram, backing, &error);
        let mut regions = ranges(ram)
            .map(|(from, to)| Region::ram(from, to.saturating_sub(from), backing))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        if let Some(size) = firmware {
            let size = size.next_multiple_of(PAGE);
            let rom = Region::rom(HOLE_END.saturating_sub(size), size).map_err(refused)?;
            // RAM begins at 0, so this is the second.
            regions.insert(1, rom);
        }
        let regions =
            Regions::from_regions(regions).map_err(|error| refused(io::Error::other(error)))?;
        Ok(Self {
            regions,
            ram,
            firmware,
            lives: Arc::default(),
        })
    }

    /// Makes the regions slots of the VM; the firmware's is read-only where KVM can do that.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn attach(&self, vm: &Vm) -> Result<(), Error> {
        for (slot, region) in (0_u32..).zip(self.regions.iter()) {
            let read_only = self.is_firmware(region) && vm.has_readonly_memory();
            let flags = if read_only {
                kvm_bindings::KVM_MEM_READONLY
            } else {
                0
            };
            sys::set_memory_slot(vm.fd(), slot, region, flags)
                .map_err(Error::kvm("give the VM its memory"))?;
        }
        Ok(())
    }

    /// Whether `region` is the one that the firmware was put in.
    fn is_firmware(&self, region: &Region) -> bool {
        let start = region.start_addr().0;
        self.firmware.is_some() && (HOLE_START..HOLE_END).contains(&start)
    }

    /// Bytes of RAM.
    pub(crate) fn size(&self) -> u64 {
        self.ram
    }

    /// Where RAM below 4 GiB ends.
    pub(crate) fn low_end(&self) -> u64 {
        self.ram.min(HOLE_START)
    }

    /// The ranges of RAM, ascending.
    pub(crate) fn ram_ranges(&self) -> impl Iterator<Item = Range> + use<> {
        ranges(self.ram)
    }

    /// What vm-memory's users work on.
    pub(crate) fn regions(&self) -> &Regions {
        &self.regions
    }

    /// Writes `bytes` at `address`.
    ///
    /// # Errors
    /// When the range is not memory.
    pub(crate) fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Error> {
        self.regions
            .write_slice(bytes, GuestAddress(address))
            .map_err(|error| Error::MemoryAccess {
                address,
                reason: error.to_string(),
            })
    }

    /// Fills `bytes` from `address` on.
    ///
    /// # Errors
    /// When the range is not memory.
    pub(crate) fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.regions
            .read_slice(bytes, GuestAddress(address))
            .map_err(|error| Error::MemoryAccess {
                address,
                reason: error.to_string(),
            })
    }

    /// The RAM, for a device that reads and writes it. What is read-only to the guest is so to its devices.
    pub(crate) fn for_dma(&self) -> Arc<dyn GuestMemory> {
        Arc::new(Dma(self.regions.clone(), self.firmware.is_some()))
    }

    /// What it holds until it is cleared, if nobody writes to it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::new(self.regions.clone(), Arc::clone(&self.lives))
    }

    /// Makes all of it zero, and gives it back to the host.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        self.lives.fetch_add(1, Ordering::AcqRel);
        for region in self.regions.iter() {
            region.clear().map_err(|error| Error::MemoryAccess {
                address: region.start_addr().0,
                reason: format!("cannot be cleared: {error}"),
            })?;
        }
        Ok(())
    }
}

/// What devices may access; and whether there is firmware below 4 GiB, which they may not write.
struct Dma(Regions, bool);

impl GuestMemory for Dma {
    fn read(&self, address: u64, data: &mut [u8]) -> bool {
        self.0.read_slice(data, GuestAddress(address)).is_ok()
    }

    fn write(&self, address: u64, data: &[u8]) -> bool {
        let end = address.saturating_add(data.len() as u64);
        let is_firmware = self.1 && address < HOLE_END && end > HOLE_START;
        !is_firmware && self.0.write_slice(data, GuestAddress(address)).is_ok()
    }
}

/// The ranges that `ram` bytes take.
fn ranges(ram: u64) -> impl Iterator<Item = Range> {
    let low = (0, ram.min(HOLE_START));
    let above = ram.saturating_sub(HOLE_START);
    let high = (above > 0).then(|| (HOLE_END, HOLE_END.saturating_add(above)));
    std::iter::once(low).chain(high)
}

/// Whether a machine can have `ram` bytes.
fn check(ram: u64, backing: Backing, bits: u32) -> Result<(), Error> {
    if ram < LEAST {
        return Err(Error::MemoryTooSmall {
            asked: ram,
            least: LEAST,
        });
    }
    let page = match backing {
        Backing::Private | Backing::Shared => PAGE,
        Backing::HugePages => HUGE_PAGE,
    };
    if !ram.is_multiple_of(page) {
        return Err(Error::MemoryUnaligned { asked: ram, page });
    }
    let addressable = 1_u64.checked_shl(bits).unwrap_or(u64::MAX);
    let hole = HOLE_END.saturating_sub(HOLE_START);
    let most = match addressable.checked_sub(hole) {
        Some(most) if addressable > HOLE_END => most,
        _ => addressable.min(HOLE_START),
    };
    if ram > most {
        return Err(Error::MemoryTooLarge {
            asked: ram,
            most,
            bits,
        });
    }
    Ok(())
}

/// Why the host did not give `ram` bytes.
fn refused(ram: u64, backing: Backing, error: &io::Error) -> Error {
    const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    if backing != Backing::HugePages {
        let reason = error.to_string();
        return Error::MemoryRefused { asked: ram, reason };
    }
    let free = std::fs::read_to_string(FREE).ok();
    let free = free.and_then(|text| text.trim().parse().ok());
    let needed = ram.div_ceil(HUGE_PAGE);
    match free {
        Some(free) if free < needed => Error::HugePages { needed, free },
        Some(_) => Error::MemoryRefused {
            asked: ram,
            reason: error.to_string(),
        },
        None => Error::NoHugePages,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(ram: u64, backing: Backing) -> Memory {
        Memory::new(ram, backing, Some(0x1_0000), 40).unwrap()
    }

    fn byte(memory: &Memory, address: u64) -> u8 {
        let mut byte = [0];
        memory.read(address, &mut byte).unwrap();
        byte[0]
    }

    #[test]
    fn sizes_are_checked() {
        let message = |ram, bits| {
            let refused = check(ram, Backing::Private, bits);
            refused.unwrap_err().to_string()
        };
        assert!(message(0, 48).contains("least is 2 MiB"));
        assert!(message(LEAST + 1, 48).contains("multiple of 4096"));
        assert!(message(1 << 40, 36).contains("36-bit"));
        assert!(message(u64::MAX - 0xfff, 52).contains("52-bit"));
        check(LEAST, Backing::Private, 32).unwrap();
        check(LEAST + PAGE, Backing::Shared, 32).unwrap();
        let refused = check(LEAST + PAGE, Backing::HugePages, 32);
        assert!(refused.unwrap_err().to_string().contains("2097152"));
        check((1 << 36) - (1 << 30), Backing::Private, 36).unwrap();
    }

    #[test]
    fn ram_leaves_the_hole_free() {
        assert_eq!(ranges(64 * MIB).collect::<Vec<_>>(), [(0, 64 * MIB)]);
        assert_eq!(ranges(HOLE_START).collect::<Vec<_>>(), [(0, HOLE_START)]);
        assert_eq!(
            ranges(HOLE_START + PAGE).collect::<Vec<_>>(),
            [(0, HOLE_START), (HOLE_END, HOLE_END + PAGE)]
        );
    }

    #[test]
    fn nothing_outside_of_it_is_memory() {
        let memory = memory(HOLE_START + MIB, Backing::Private);
        memory.write(HOLE_START - 1, &[1]).unwrap();
        memory.write(HOLE_END - 16, &[0xea; 16]).unwrap();
        memory.write(HOLE_END + MIB - 1, &[1]).unwrap();
        for address in [HOLE_START, HOLE_END - 0x1_0001, HOLE_END + MIB, u64::MAX] {
            assert!(memory.write(address, &[0]).is_err(), "{address:#x}");
        }
        assert!(memory.write(HOLE_START - 1, &[1, 2]).is_err());
        // Firmware and RAM lie next to each other for the guest, and not for the host.
        memory.write(HOLE_END - 1, &[1, 2]).unwrap();
        assert_eq!(byte(&memory, HOLE_END), 2);
    }

    #[test]
    fn clearing_gives_zeroes() {
        for backing in [Backing::Private, Backing::Shared] {
            let memory = memory(8 * MIB, backing);
            let places = [0, 0x1234, 2 * MIB - 1, 2 * MIB, 8 * MIB - 1, HOLE_END - 1];
            for round in 1..=2 {
                for address in places {
                    memory.write(address, &[round]).unwrap();
                }
                memory.clear().unwrap();
                for address in places {
                    assert_eq!(byte(&memory, address), 0, "{backing:?} {address:#x}");
                }
            }
        }
    }

    #[test]
    fn guest_and_host_addresses_are_aligned_alike() {
        let memory = memory(HOLE_START + 4 * MIB, Backing::Private);
        for region in memory.regions().iter().filter(|r| !memory.is_firmware(r)) {
            let host = region.get_host_address(vm_memory::MemoryRegionAddress(0));
            assert_eq!(host.unwrap().addr() as u64 % HUGE_PAGE, 0);
            assert_eq!(region.start_addr().0 % HUGE_PAGE, 0);
        }
    }

    #[test]
    fn too_few_huge_pages_are_counted() {
        // More than any host has set aside, and less than its guests could address.
        match Memory::new(1 << 38, Backing::HugePages, None, 40) {
            Err(Error::HugePages { needed, free }) => assert!(free < needed, "{free} of {needed}"),
            Err(Error::NoHugePages) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn huge_pages_are_cleared_too() {
        let memory = match Memory::new(4 * MIB, Backing::HugePages, None, 40) {
            Ok(memory) => memory,
            Err(error @ (Error::HugePages { .. } | Error::NoHugePages)) => {
                println!("not tested: {error}");
                return;
            }
            Err(error) => panic!("{error}"),
        };
        memory.write(3 * MIB, b"before").unwrap();
        memory.clear().unwrap();
        assert_eq!(byte(&memory, 3 * MIB), 0);
    }
}
