//! The guest, as gdbstub asks about it: each of gdb's requests, and its answer.
//!
//! gdb's threads are the vCPUs, counted from 1. What cannot be done gets an error number of Linux.
//!
//! The rule that must never be broken: no request ends the session, and none runs the guest.

use std::convert::Infallible;

use gdbstub::arch::Registers as _;
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{
    SingleRegisterAccess, SingleRegisterAccessOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps,
    SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};

use super::arch::{RegisterNumber, Registers, X86};
use super::cpus::{CpuRegisters, Cpus, Unavailable};
use super::debugger::{Action, Debugger};
use super::hardware::Purpose;
use super::software::Refusal;

/// Errors, by Linux's numbers: gdb shows them as `E0e` and so on.
const EIO: u8 = 5;
const EFAULT: u8 = 14;
const EINVAL: u8 = 22;
const ENOSPC: u8 = 28;

impl From<Unavailable> for TargetError<Infallible> {
    fn from(_: Unavailable) -> Self {
        Self::Errno(EIO)
    }
}

impl From<Refusal> for TargetError<Infallible> {
    fn from(refusal: Refusal) -> Self {
        Self::Errno(match refusal {
            Refusal::NoMemory => EFAULT,
            Refusal::Full => ENOSPC,
        })
    }
}

/// The vCPU that gdb calls by this name.
pub(super) fn cpu(tid: Tid) -> u32 {
    u32::try_from(tid.get())
        .ok()
        .and_then(|tid| tid.checked_sub(1))
        .unwrap_or(u32::MAX)
}

/// What gdb calls a vCPU.
pub(super) fn tid(cpu: u32) -> Tid {
    let next = usize::try_from(cpu).unwrap_or(usize::MAX).saturating_add(1);
    Tid::new(next).unwrap_or(Tid::MIN)
}

/// The vCPU of a thread that gdb named, if there is one.
fn named<C: Cpus>(debugger: &Debugger<C>, tid: Tid) -> TargetResult<u32, Debugger<C>> {
    let cpu = cpu(tid);
    if cpu < debugger.cpus.count() {
        Ok(cpu)
    } else {
        Err(TargetError::Errno(EINVAL))
    }
}

impl<C: Cpus> Debugger<C> {
    fn change_registers(
        &mut self,
        tid: Tid,
        change: impl FnOnce(&mut CpuRegisters) -> bool,
    ) -> TargetResult<(), Self> {
        let cpu = named(self, tid)?;
        let mut registers = self.cpus.registers(cpu)?;
        if !change(&mut registers) {
            return Err(TargetError::Errno(EINVAL));
        }
        Ok(self.cpus.set_registers(cpu, &registers)?)
    }

    fn act(&mut self, tid: Tid, action: Action) {
        // A thread that does not exist does nothing.
        let index = usize::try_from(cpu(tid)).unwrap_or(usize::MAX);
        if let Some(does) = self.actions.get_mut(index) {
            *does = action;
        }
    }
}

/// A register set as it goes over the wire.
fn serialised(registers: &Registers) -> Vec<u8> {
    let mut bytes = Vec::new();
    registers.gdb_serialize(|byte| bytes.push(byte.unwrap_or(0)));
    bytes
}

impl<C: Cpus> Target for Debugger<C> {
    type Arch = X86;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, X86, Infallible> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl<C: Cpus> MultiThreadBase for Debugger<C> {
    fn read_registers(&mut self, registers: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        let cpu = named(self, tid)?;
        *registers = Registers::of(&self.cpus.registers(cpu)?, self.description);
        Ok(())
    }

    fn write_registers(&mut self, registers: &Registers, tid: Tid) -> TargetResult<(), Self> {
        self.change_registers(tid, |cpu| registers.apply(cpu))
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let cpu = named(self, tid)?;
        match self.read(cpu, start, data) {
            0 if !data.is_empty() => Err(TargetError::Errno(EFAULT)),
            read => Ok(read),
        }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let cpu = named(self, tid)?;
        if self.write(cpu, start, data) {
            Ok(())
        } else {
            Err(TargetError::Errno(EFAULT))
        }
    }

    fn list_active_threads(&mut self, thread: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        (0..self.cpus.count()).map(tid).for_each(thread);
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl<C: Cpus> SingleRegisterAccess<Tid> for Debugger<C> {
    fn read_register(
        &mut self,
        tid: Tid,
        number: RegisterNumber,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let cpu = named(self, tid)?;
        let bytes = serialised(&Registers::of(&self.cpus.registers(cpu)?, self.description));
        let place = self.description.place(number.0);
        let register = place.and_then(|place| bytes.get(place));
        let register = register.ok_or(TargetError::Errno(EINVAL))?;
        let room = buf.get_mut(..register.len());
        room.ok_or(TargetError::Errno(EINVAL))?
            .copy_from_slice(register);
        Ok(register.len())
    }

    fn write_register(
        &mut self,
        tid: Tid,
        number: RegisterNumber,
        value: &[u8],
    ) -> TargetResult<(), Self> {
        let description = self.description;
        self.change_registers(tid, |cpu| {
            let mut bytes = serialised(&Registers::of(cpu, description));
            let place = description.place(number.0);
            let register = place.and_then(|place| bytes.get_mut(place));
            let Some(register) = register.filter(|register| register.len() == value.len()) else {
                return false;
            };
            register.copy_from_slice(value);
            let mut registers = Registers::default();
            registers.gdb_deserialize(&bytes).is_ok() && registers.apply(cpu)
        })
    }
}

impl<C: Cpus> ThreadExtraInfo for Debugger<C> {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Infallible> {
        let cpu = cpu(tid);
        let text = match named(self, tid) {
            Ok(_) => format!("vCPU {cpu} [{}]", self.cpus.activity(cpu)),
            Err(_) => String::new(),
        };
        let length = text.len().min(buf.len());
        for (place, byte) in buf.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(length)
    }
}

impl<C: Cpus> MultiThreadResume for Debugger<C> {
    /// That the machine is to start, the state machine of gdbstub says.
    fn resume(&mut self) -> Result<(), Infallible> {
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        self.all_do(Action::Continue);
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), Infallible> {
        // Named, so that it goes on even if the others do not.
        self.act(tid, Action::ContinueNamed);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl<C: Cpus> MultiThreadSingleStep for Debugger<C> {
    fn set_resume_action_step(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), Infallible> {
        self.act(tid, Action::Step);
        Ok(())
    }
}

impl<C: Cpus> MultiThreadSchedulerLocking for Debugger<C> {
    /// Threads that were not named stay where they are.
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        for action in &mut self.actions {
            if *action == Action::Continue {
                *action = Action::Stay;
            }
        }
        Ok(())
    }
}

impl<C: Cpus> Breakpoints for Debugger<C> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl<C: Cpus> SwBreakpoint for Debugger<C> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        let physical = self.physical(self.focus, address);
        let physical = physical.ok_or(TargetError::Errno(EFAULT))?;
        self.software.add(&self.cpus, address, physical)?;
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.software.remove(&self.cpus, address))
    }
}

impl<C: Cpus> HwBreakpoint for Debugger<C> {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        self.hardware.add(Purpose::Execute(address))?;
        Ok(true)
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: usize) -> TargetResult<bool, Self> {
        Ok(self.hardware.remove(Purpose::Execute(address)))
    }
}

impl<C: Cpus> HwWatchpoint for Debugger<C> {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        if kind == WatchKind::Read {
            // x86 has none that a write does not set off.
            return Ok(false);
        }
        self.hardware.add(Purpose::Watch {
            address,
            length,
            kind,
        })?;
        Ok(true)
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        Ok(self.hardware.remove(Purpose::Watch {
            address,
            length,
            kind,
        }))
    }
}

impl<C: Cpus> TargetDescriptionXmlOverride for Debugger<C> {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        if annex != b"target.xml" {
            return Err(TargetError::Errno(EINVAL));
        }
        let text = self.description.xml().as_bytes();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let text = text.get(offset..).unwrap_or_default();
        let count = text.len().min(length).min(buf.len());
        for (place, byte) in buf.iter_mut().zip(text.iter().take(count)) {
            *place = *byte;
        }
        Ok(count)
    }
}
