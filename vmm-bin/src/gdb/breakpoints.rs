//! Breakpoints and watchpoints: instructions replaced in memory, and debug registers.
//!
//! An instruction is replaced at its physical address, which is looked up when the breakpoint is set.
//! So it is put back where it was even if the guest has changed its page tables since, and only if
//! nobody has written over it. A client of the debugger never sees the replacement; the guest does.
//!
//! A cold reset clears memory and loads the image again, and the replacements are gone. They are made
//! again where the same code is back: its first bytes are kept for that.
//!
//! Sources: Intel SDM volume 3, section 18.2 (debug registers).

use std::collections::BTreeMap;

use gdbstub::target::ext::breakpoints::WatchKind;

use super::cpus::Cpus;

/// The most software breakpoints.
pub(super) const MOST: usize = 1024;

/// The instruction that traps.
const INT3: u8 = 0xcc;

/// How many bytes of code are compared after a reset.
const CODE: usize = 16;

/// Why a breakpoint cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no memory at its address.
    NoMemory,
    /// There are too many.
    Full,
}

/// A replaced instruction.
#[derive(Debug)]
struct Patch {
    /// What is there without it, as far as it could be read.
    code: Vec<u8>,
    /// How many breakpoints it serves: linear addresses may share a physical one.
    uses: usize,
    /// It is in memory.
    set: bool,
}

/// The software breakpoints.
#[derive(Debug, Default)]
pub(super) struct Software {
    /// By physical address.
    patches: BTreeMap<u64, Patch>,
    /// From linear to physical address.
    addresses: BTreeMap<u64, u64>,
}

impl Software {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// Whether there is one at this physical address.
    pub(super) fn is_at(&self, physical: u64) -> bool {
        self.patches.contains_key(&physical)
    }

    /// Sets one. That there is one already is no error.
    pub(super) fn add(
        &mut self,
        memory: &impl Cpus,
        linear: u64,
        physical: u64,
    ) -> Result<(), Refusal> {
        if self.addresses.contains_key(&linear) {
            return Ok(());
        }
        if self.addresses.len() >= MOST {
            return Err(Refusal::Full);
        }
        if let Some(patch) = self.patches.get_mut(&physical) {
            patch.uses = patch.uses.saturating_add(1);
        } else {
            // Near the end of memory there is less to compare.
            let mut code = vec![0; CODE];
            while !code.is_empty() && !memory.read(physical, &mut code) {
                code.pop();
            }
            self.reveal(physical, &mut code);
            if code.is_empty() || !memory.write(physical, &[INT3]) {
                return Err(Refusal::NoMemory);
            }
            let (uses, set) = (1, true);
            self.patches.insert(physical, Patch { code, uses, set });
        }
        self.addresses.insert(linear, physical);
        Ok(())
    }

    /// Removes one; `false` if there is none.
    pub(super) fn remove(&mut self, memory: &impl Cpus, linear: u64) -> bool {
        let Some(physical) = self.addresses.remove(&linear) else {
            return false;
        };
        if let Some(patch) = self.patches.get_mut(&physical) {
            patch.uses = patch.uses.saturating_sub(1);
            if patch.uses == 0 {
                patch.restore(memory, physical);
                self.patches.remove(&physical);
            }
        }
        true
    }

    /// Removes all.
    pub(super) fn clear(&mut self, memory: &impl Cpus) {
        for (&physical, patch) in &self.patches {
            patch.restore(memory, physical);
        }
        *self = Self::default();
    }

    /// Replaces the instructions again in memory that was loaded anew.
    pub(super) fn after_reset(&mut self, memory: &impl Cpus) {
        // All are compared before the first is replaced: their code may overlap.
        for (&physical, patch) in &mut self.patches {
            let mut now = vec![0; patch.code.len()];
            patch.set = memory.read(physical, &mut now) && now == patch.code;
        }
        for (&physical, _) in self.patches.iter().filter(|(_, patch)| patch.set) {
            memory.write(physical, &[INT3]);
        }
    }

    /// Shows `bytes`, which were read at this physical address, as they are without breakpoints.
    pub(super) fn reveal(&self, physical: u64, bytes: &mut [u8]) {
        for (&address, patch) in self.within(physical, bytes.len()) {
            let byte = place(address, physical).and_then(|index| bytes.get_mut(index));
            if let (Some(byte), Some(&original)) = (byte, patch.code.first())
                && patch.set
                && *byte == INT3
            {
                *byte = original;
            }
        }
    }

    /// Keeps the breakpoints in `bytes`, which are about to be written at this physical address.
    pub(super) fn keep(&mut self, physical: u64, bytes: &mut [u8]) {
        let end = physical.saturating_add(bytes.len() as u64);
        for (&address, patch) in self.patches.range_mut(physical..end) {
            let byte = place(address, physical).and_then(|index| bytes.get_mut(index));
            if let (Some(byte), Some(original)) = (byte, patch.code.first_mut())
                && patch.set
            {
                *original = std::mem::replace(byte, INT3);
            }
        }
    }

    fn within(&self, physical: u64, length: usize) -> impl Iterator<Item = (&u64, &Patch)> {
        let end = physical.saturating_add(length as u64);
        self.patches.range(physical..end)
    }
}

/// The index of `address` in what begins at `start`.
fn place(address: u64, start: u64) -> Option<usize> {
    usize::try_from(address.checked_sub(start)?).ok()
}

impl Patch {
    /// Puts the instruction back, unless something else has been written there.
    fn restore(&self, memory: &impl Cpus, physical: u64) {
        let mut now = [0];
        if self.set
            && memory.read(physical, &mut now)
            && now == [INT3]
            && let Some(original) = self.code.get(..1)
        {
            memory.write(physical, original);
        }
    }
}

/// What a debug register is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An instruction at this linear address.
    Execute(u64),
    /// Accesses to this region; 1 to 8 bytes of it are this register's.
    Watch {
        /// Where it begins, linear.
        address: u64,
        /// Its size in bytes.
        length: u64,
        /// Which accesses.
        kind: WatchKind,
    },
}

/// One debug register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Register {
    purpose: Purpose,
    address: u64,
    /// 1, 2, 4 or 8; 1 for an instruction.
    length: u64,
}

/// The four debug registers.
#[derive(Debug, Default)]
pub(super) struct Hardware([Option<Register>; 4]);

/// DR7: bit 10 is always set; exact breakpoints, as QEMU asks for them.
const DR7: u64 = 0x600;

impl Hardware {
    /// Takes as many registers as `purpose` needs: a region that is not aligned needs several. That it
    /// is there already is no error.
    pub(super) fn add(&mut self, purpose: Purpose) -> Result<(), Refusal> {
        if self.0.iter().flatten().any(|used| used.purpose == purpose) {
            return Ok(());
        }
        let pieces = pieces(purpose).ok_or(Refusal::Full)?;
        let free = self.0.iter().filter(|register| register.is_none()).count();
        if pieces.len() > free {
            return Err(Refusal::Full);
        }
        let mut free = self.0.iter_mut().filter(|register| register.is_none());
        for (address, length) in pieces {
            if let Some(register) = free.next() {
                *register = Some(Register {
                    purpose,
                    address,
                    length,
                });
            }
        }
        Ok(())
    }

    /// Gives the registers back; `false` if there are none for this purpose.
    pub(super) fn remove(&mut self, purpose: Purpose) -> bool {
        let mut found = false;
        for register in &mut self.0 {
            if register.is_some_and(|used| used.purpose == purpose) {
                *register = None;
                found = true;
            }
        }
        found
    }

    /// Whether a register is for this.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.0.iter().flatten().any(|used| used.purpose == purpose)
    }

    /// What the registers that this DR6 names are for, the first of them.
    pub(super) fn hit(&self, dr6: u64) -> Option<Purpose> {
        let named = (0..).zip(&self.0).find_map(|(number, register): (u32, _)| {
            let hit = dr6.checked_shr(number).unwrap_or(0) & 1 == 1;
            register.filter(|_| hit)
        });
        named.map(|register| register.purpose)
    }

    /// DR0 to DR3, and DR7; `None` if none is in use.
    pub(super) fn values(&self) -> Option<([u64; 4], u64)> {
        if self.0.iter().all(Option::is_none) {
            return None;
        }
        let addresses = self.0.map(|used| used.map_or(0, |used| used.address));
        // Two bits for each, the upper one enables it; and from bit 16 on four with its condition.
        let places = (0..8).step_by(2).zip((16..32).step_by(4));
        let control = places
            .zip(self.0)
            .fold(DR7, |dr7, ((enable, condition), register)| {
                register.map_or(dr7, |register| {
                    dr7 | 2 << enable | register.condition() << condition
                })
            });
        Some((addresses, control))
    }
}

impl Register {
    /// Four bits: when to break, and the length.
    fn condition(&self) -> u64 {
        let when = match self.purpose {
            Purpose::Execute(_) => return 0,
            Purpose::Watch {
                kind: WatchKind::Write,
                ..
            } => 1,
            Purpose::Watch { .. } => 3,
        };
        let length = match self.length {
            1 => 0,
            2 => 1,
            4 => 3,
            _ => 2,
        };
        when | length << 2
    }
}

/// Address and length for each register that this needs; `None` if four are not enough.
fn pieces(purpose: Purpose) -> Option<Vec<(u64, u64)>> {
    let (mut address, length) = match purpose {
        Purpose::Execute(address) => return Some(vec![(address, 1)]),
        Purpose::Watch {
            address, length, ..
        } => (address, length),
    };
    if !(1..=32).contains(&length) {
        return None;
    }
    let end = address.checked_add(length)?;
    let mut pieces = Vec::new();
    while address < end {
        let left = end.saturating_sub(address);
        let fits = |size: &u64| *size <= left && address.is_multiple_of(*size);
        let size = [8, 4, 2, 1].into_iter().find(fits)?;
        pieces.push((address, size));
        address = address.saturating_add(size);
    }
    (pieces.len() <= 4).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::super::fake::FakeCpus;
    use super::*;

    /// Memory that counts up.
    fn memory() -> FakeCpus {
        let cpus = FakeCpus::new(1);
        let bytes: Vec<u8> = (0..=255).collect();
        assert!(cpus.write(0x1000, &bytes));
        cpus
    }

    fn bytes(cpus: &FakeCpus, physical: u64) -> [u8; 4] {
        let mut bytes = [0; 4];
        assert!(cpus.read(physical, &mut bytes));
        bytes
    }

    #[test]
    fn an_instruction_is_replaced_and_put_back() {
        let cpus = memory();
        let mut software = Software::default();
        software.add(&cpus, 0x1001, 0x1001).unwrap();
        software.add(&cpus, 0x1001, 0x1001).unwrap();
        // The same place under another address.
        software.add(&cpus, 0xffff_1001, 0x1001).unwrap();
        assert_eq!(bytes(&cpus, 0x1000), [0, INT3, 2, 3]);
        let mut shown = bytes(&cpus, 0x1000);
        software.reveal(0x1000, &mut shown);
        assert_eq!(shown, [0, 1, 2, 3]);
        assert!(software.remove(&cpus, 0x1001));
        assert_eq!(bytes(&cpus, 0x1000), [0, INT3, 2, 3]);
        assert!(!software.remove(&cpus, 0x1001));
        assert!(software.remove(&cpus, 0xffff_1001));
        assert_eq!(bytes(&cpus, 0x1000), [0, 1, 2, 3]);
        assert!(software.is_empty() && !software.is_at(0x1001));
    }

    #[test]
    fn what_the_guest_wrote_over_a_breakpoint_stays() {
        let cpus = memory();
        let mut software = Software::default();
        software.add(&cpus, 0x1001, 0x1001).unwrap();
        assert!(cpus.write(0x1001, &[9]));
        software.clear(&cpus);
        assert_eq!(bytes(&cpus, 0x1000), [0, 9, 2, 3]);
    }

    #[test]
    fn what_gdb_writes_over_a_breakpoint_is_there_without_it() {
        let cpus = memory();
        let mut software = Software::default();
        software.add(&cpus, 0x1001, 0x1001).unwrap();
        let mut written = [8, 9, 10];
        software.keep(0x1000, &mut written);
        assert_eq!(written, [8, INT3, 10]);
        assert!(cpus.write(0x1000, &written));
        software.clear(&cpus);
        assert_eq!(bytes(&cpus, 0x1000), [8, 9, 10, 3]);
    }

    #[test]
    fn a_reset_keeps_breakpoints_where_the_code_is_the_same() {
        let cpus = memory();
        let mut software = Software::default();
        for address in [0x1001, 0x1003, 0x1080] {
            software.add(&cpus, address, address).unwrap();
        }
        // The image is loaded again, and is another one further on.
        let mut image: Vec<u8> = (0..=255).collect();
        image[0x88] = 0;
        assert!(cpus.write(0x1000, &image));
        software.after_reset(&cpus);
        assert_eq!(bytes(&cpus, 0x1000), [0, INT3, 2, INT3]);
        assert_eq!(bytes(&cpus, 0x1080), [0x80, 0x81, 0x82, 0x83]);
        software.clear(&cpus);
        assert_eq!(bytes(&cpus, 0x1000), [0, 1, 2, 3]);
        assert_eq!(bytes(&cpus, 0x1080), [0x80, 0x81, 0x82, 0x83]);
    }

    #[test]
    fn breakpoints_are_bounded_and_need_memory() {
        let cpus = memory();
        let mut software = Software::default();
        for address in 0..MOST as u64 {
            software.add(&cpus, address, 0x1000).unwrap();
        }
        let more = software.add(&cpus, MOST as u64, 0x1000);
        assert_eq!(more, Err(Refusal::Full));
        software.clear(&cpus);
        let nowhere = software.add(&cpus, 0, u64::MAX);
        assert_eq!(nowhere, Err(Refusal::NoMemory));
        // The last byte of memory has no code behind it.
        let last = FakeCpus::MEMORY - 1;
        software.add(&cpus, last, last).unwrap();
    }

    fn watch(address: u64, length: u64, kind: WatchKind) -> Purpose {
        Purpose::Watch {
            address,
            length,
            kind,
        }
    }

    #[test]
    fn debug_registers_are_those_of_the_manual() {
        let mut hardware = Hardware::default();
        assert_eq!(hardware.values(), None);
        hardware.add(Purpose::Execute(0x10)).unwrap();
        hardware.add(watch(0x20, 4, WatchKind::Write)).unwrap();
        hardware.add(watch(0x30, 8, WatchKind::ReadWrite)).unwrap();
        let (addresses, dr7) = hardware.values().unwrap();
        assert_eq!(addresses, [0x10, 0x20, 0x30, 0]);
        assert_eq!(dr7, 0x600 | 0b10_1010 | 0b1101 << 20 | 0b1011 << 24);
        assert_eq!(hardware.hit(0xffff_0ff1), Some(Purpose::Execute(0x10)));
        assert_eq!(hardware.hit(0b1000), None);
    }

    #[test]
    fn a_region_that_is_not_aligned_takes_several_registers() {
        let mut hardware = Hardware::default();
        let region = watch(0x1003, 8, WatchKind::Write);
        assert_eq!(
            pieces(region),
            Some(vec![(0x1003, 1), (0x1004, 4), (0x1008, 2), (0x100a, 1)])
        );
        hardware.add(region).unwrap();
        hardware.add(region).unwrap();
        assert_eq!(hardware.add(Purpose::Execute(0)), Err(Refusal::Full));
        assert_eq!(hardware.hit(0b100), Some(region));
        assert!(hardware.remove(region));
        assert!(!hardware.remove(region));
        assert_eq!(hardware.values(), None);
        for impossible in [
            watch(0, 0, WatchKind::Write),
            watch(0, 33, WatchKind::Write),
            watch(1, 32, WatchKind::Write),
            watch(u64::MAX, 8, WatchKind::Write),
            watch(0, u64::MAX, WatchKind::Write),
        ] {
            assert_eq!(hardware.add(impossible), Err(Refusal::Full));
        }
    }
}
