//! Software breakpoints: instructions replaced in memory.
//!
//! An instruction is replaced at its physical address, which is looked up when the breakpoint is set.
//! So it is put back where it was even if the guest has changed its page tables since, and only if
//! nobody has written over it. A client of the debugger never sees the replacement; the guest does.
//!
//! A cold reset clears memory and loads the image again, and the replacements are gone. They are made
//! again where the same code is back: its first bytes are kept for that.

use std::collections::BTreeMap;

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
}
