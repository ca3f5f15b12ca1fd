//! A guest that is nothing but registers and memory, for tests.

use std::cell::RefCell;
use std::ops::Range;

use super::cpus::{Arming, CpuRegisters, Cpus, Exception, Unavailable};

/// vCPUs that do not run, and 64 KiB of memory.
#[derive(Debug)]
pub(super) struct FakeCpus {
    pub(super) registers: RefCell<Vec<CpuRegisters>>,
    pub(super) armed: RefCell<Vec<(Arming, Option<Exception>)>>,
    memory: RefCell<Vec<u8>>,
}

impl FakeCpus {
    /// How much memory there is, from 0 on.
    pub(super) const MEMORY: u64 = 0x1_0000;

    pub(super) fn new(count: usize) -> Self {
        let mut registers = CpuRegisters::default();
        registers.sregs.cs.limit = u32::MAX;
        registers.fpu.mxcsr = 0x1f80;
        Self {
            registers: RefCell::new(vec![registers; count]),
            armed: RefCell::new(vec![(Arming::default(), None); count]),
            memory: RefCell::new(vec![0; 0x1_0000]),
        }
    }
}

/// Where `length` bytes from `physical` up are in the memory.
fn range(physical: u64, length: usize) -> Option<Range<usize>> {
    let start = usize::try_from(physical).ok()?;
    Some(start..start.checked_add(length)?)
}

impl Cpus for FakeCpus {
    fn count(&self) -> u32 {
        u32::try_from(self.registers.borrow().len()).unwrap()
    }

    fn registers(&self, cpu: u32) -> Result<CpuRegisters, Unavailable> {
        let registers = self.registers.borrow();
        registers.get(cpu as usize).copied().ok_or(Unavailable)
    }

    fn set_registers(&self, cpu: u32, registers: &CpuRegisters) -> Result<(), Unavailable> {
        let mut all = self.registers.borrow_mut();
        *all.get_mut(cpu as usize).ok_or(Unavailable)? = *registers;
        Ok(())
    }

    /// The second half of the lower 4 GiB is the first again; elsewhere is nothing.
    fn translate(&self, _cpu: u32, linear: u64) -> Option<u64> {
        (linear <= u32::MAX.into()).then_some(linear & 0x7fff_ffff)
    }

    fn activity(&self, _cpu: u32) -> &'static str {
        "running"
    }

    fn read(&self, physical: u64, bytes: &mut [u8]) -> bool {
        let memory = self.memory.borrow();
        let from = range(physical, bytes.len()).and_then(|range| memory.get(range));
        from.map(|from| bytes.copy_from_slice(from)).is_some()
    }

    fn write(&self, physical: u64, bytes: &[u8]) -> bool {
        let mut memory = self.memory.borrow_mut();
        let to = range(physical, bytes.len()).and_then(|range| memory.get_mut(range));
        to.map(|to| to.copy_from_slice(bytes)).is_some()
    }

    fn arm(
        &self,
        cpu: u32,
        arming: &Arming,
        exception: Option<Exception>,
    ) -> Result<(), Unavailable> {
        let mut armed = self.armed.borrow_mut();
        *armed.get_mut(cpu as usize).ok_or(Unavailable)? = (*arming, exception);
        Ok(())
    }
}
