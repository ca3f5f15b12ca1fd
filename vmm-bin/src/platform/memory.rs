//! Guest memory: RAM with a hole for MMIO below 4 GiB, and a read-only firmware image at its top.
//!
//! RAM is private anonymous memory, given to the guest page by page as it touches it. A cold reset
//! hands all pages back to the host ([`Memory::clear`]), so that a boot starts from zeroes as the
//! first one did, and a machine that is reset shrinks to what it held at power-on.
//!
//! The rule that must never be broken: guest memory is accessed by volatile means only; no
//! reference into it is ever made.

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::error::Error;
use super::kvm::Vm;
use super::layout::{HOLE_END, HOLE_START, MIB, PAGE};
use super::sys;

/// The least memory: everything below 1 MiB has its place, and a guest wants some of its own.
pub(crate) const LEAST: u64 = 2 * MIB;

/// The guest's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    regions: GuestMemoryMmap,
    ram: u64,
    firmware: Option<u64>,
}

/// A range of RAM: from and to (exclusive), guest-physical.
pub(crate) type Range = (u64, u64);

impl Memory {
    /// `ram` bytes of RAM, addressable with `address_bits`, and `firmware` bytes that end at
    /// 4 GiB.
    ///
    /// # Errors
    /// When the size is too small, too large or no multiple of a page, or the host refuses.
    pub(crate) fn new(ram: u64, firmware: Option<u64>, address_bits: u32) -> Result<Self, Error> {
        check(ram, address_bits)?;
        let refused = |reason: String| Error::MemoryRefused { asked: ram, reason };
        let mut ranges: Vec<Range> = ranges(ram).collect();
        if let Some(size) = firmware {
            let size = size.next_multiple_of(PAGE);
            ranges.push((HOLE_END.saturating_sub(size), HOLE_END));
        }
        ranges.sort_unstable();
        let sizes = ranges
            .iter()
            .map(|&(from, to)| {
                let size = usize::try_from(to.saturating_sub(from))
                    .map_err(|error| refused(error.to_string()))?;
                Ok((GuestAddress(from), size))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let regions =
            GuestMemoryMmap::from_ranges(&sizes).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            regions,
            ram,
            firmware,
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
    fn is_firmware(&self, region: &vm_memory::GuestRegionMmap) -> bool {
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
    pub(crate) fn regions(&self) -> &GuestMemoryMmap {
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

    /// Makes all of it zero, and gives it back to the host.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        for region in self.regions.iter() {
            sys::discard(region).map_err(|error| Error::MemoryAccess {
                address: region.start_addr().0,
                reason: format!("cannot be cleared: {error}"),
            })?;
        }
        Ok(())
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
fn check(ram: u64, bits: u32) -> Result<(), Error> {
    if ram < LEAST {
        return Err(Error::MemoryTooSmall {
            asked: ram,
            least: LEAST,
        });
    }
    if !ram.is_multiple_of(PAGE) {
        return Err(Error::MemoryUnaligned { asked: ram });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let message = |ram, bits| check(ram, bits).unwrap_err().to_string();
        assert!(message(0, 48).contains("least is 2 MiB"));
        assert!(message(LEAST + 1, 48).contains("multiple of 4096"));
        assert!(message(1 << 40, 36).contains("36-bit"));
        assert!(message(u64::MAX - 0xfff, 52).contains("52-bit"));
        check(LEAST, 32).unwrap();
        check((1 << 36) - (1 << 30), 36).unwrap();
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
    fn clearing_gives_zeroes_and_firmware_ends_at_4_gib() {
        let memory = Memory::new(4 * MIB, Some(0x1_0000), 40).unwrap();
        memory.write(0x1234, b"before").unwrap();
        memory.write(HOLE_END - 16, &[0xea; 16]).unwrap();
        assert!(memory.write(HOLE_END - 15, &[0; 16]).is_err());
        assert!(memory.write(4 * MIB - 1, &[1, 2]).is_err());
        memory.clear().unwrap();
        let mut bytes = [1; 6];
        memory
            .regions()
            .read_slice(&mut bytes, GuestAddress(0x1234))
            .unwrap();
        assert_eq!(bytes, [0; 6]);
    }
}
