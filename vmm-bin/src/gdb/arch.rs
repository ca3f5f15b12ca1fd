//! x86 as gdb knows it: between KVM's registers and gdb's.
//!
//! gdb's idea of a target's registers is fixed when it connects, and a guest changes its mode. So the
//! user says which one is told ([`Description`]):
//!
//! | description | registers | for |
//! |---|---|---|
//! | x86-64 | 64 bits wide in every mode, as QEMU's | kernels |
//! | i386 | the lower halves | guests that stay in 16- or 32-bit code: gdb disassembles it right |
//!
//! The program counter is a linear address, the base of CS included: breakpoints and memory are about
//! linear addresses, and in real mode gdb would otherwise look for code where there is none.
//!
//! Sources: gdb's features/i386/64bit-core.xml and 32bit-core.xml; Intel SDM volume 1, section 10.5.1
//! (the legacy region of XSAVE, with the abridged tag word).

use gdbstub::arch::{Arch, RegId};
use gdbstub_arch::x86::reg::id::{X86_64CoreRegId, X86CoreRegId};
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};

use super::cpus::CpuRegisters;

/// What gdb is told that the target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Description {
    /// 16- and 32-bit code.
    I386,
    /// 64-bit code.
    X86_64,
}

impl Description {
    /// The target description. It names no register: gdb knows those of the architecture.
    pub(super) const fn xml(self) -> &'static str {
        match self {
            Self::I386 => r#"<target version="1.0"><architecture>i386</architecture></target>"#,
            Self::X86_64 => {
                r#"<target version="1.0"><architecture>i386:x86-64</architecture></target>"#
            }
        }
    }

    /// Where the register with this number is in what [`Registers`] serialise to.
    pub(super) fn place(self, number: usize) -> Option<std::ops::Range<usize>> {
        let size = |number| match self {
            Self::I386 => X86CoreRegId::from_raw_id(number)?.1,
            Self::X86_64 => X86_64CoreRegId::from_raw_id(number)?.1,
        };
        let own = size(number)?.get();
        let start: usize = (0..number)
            .filter_map(size)
            .map(std::num::NonZero::get)
            .sum();
        Some(start..start.checked_add(own)?)
    }
}

/// The architecture, for gdbstub.
#[derive(Debug)]
pub(super) enum X86 {}

impl Arch for X86 {
    type Usize = u64;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = RegisterNumber;
}

/// A register, by the number that it has in the target description.
#[derive(Debug, Clone, Copy)]
pub(super) struct RegisterNumber(pub(super) usize);

impl RegId for RegisterNumber {
    fn from_raw_id(id: usize) -> Option<(Self, Option<std::num::NonZeroUsize>)> {
        Description::X86_64.place(id)?;
        Some((Self(id), None))
    }
}

/// The registers, as one of the two descriptions has them.
#[expect(clippy::large_enum_variant, reason = "one at a time, and not for long")]
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Registers {
    /// [`Description::I386`].
    I386(X86CoreRegs),
    /// [`Description::X86_64`].
    X86_64(X86_64CoreRegs),
}

impl Default for Registers {
    fn default() -> Self {
        Self::X86_64(X86_64CoreRegs::default())
    }
}

impl gdbstub::arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        match self {
            Self::I386(registers) => registers.eip.into(),
            Self::X86_64(registers) => registers.rip,
        }
    }

    fn gdb_serialize(&self, write_byte: impl FnMut(Option<u8>)) {
        match self {
            Self::I386(registers) => registers.gdb_serialize(write_byte),
            Self::X86_64(registers) => registers.gdb_serialize(write_byte),
        }
    }

    /// The larger ones are recognised by their size.
    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let mut wide = X86_64CoreRegs::default();
        if wide.gdb_deserialize(bytes).is_ok() {
            *self = Self::X86_64(wide);
            return Ok(());
        }
        let mut narrow = X86CoreRegs::default();
        narrow.gdb_deserialize(bytes)?;
        *self = Self::I386(narrow);
        Ok(())
    }
}

impl Registers {
    /// A vCPU's registers, for gdb.
    pub(super) fn of(cpu: &CpuRegisters, description: Description) -> Self {
        let wide = wide(cpu);
        match description {
            Description::X86_64 => Self::X86_64(wide),
            Description::I386 => Self::I386(narrow(&wide)),
        }
    }

    /// Puts what gdb wants into a vCPU's registers. `false`, and nothing is changed, if it wants what
    /// it cannot have: other segments, another MXCSR, a program counter outside of the segment.
    #[must_use]
    pub(super) fn apply(&self, cpu: &mut CpuRegisters) -> bool {
        let before = wide(cpu);
        let wanted = match self {
            Self::X86_64(wanted) => wanted.clone(),
            Self::I386(wanted) => widened(wanted, &before),
        };
        if wanted.segments != before.segments || wanted.mxcsr != before.mxcsr {
            return false;
        }
        if wanted.rip != before.rip {
            let Some(ip) = instruction_pointer(&cpu.sregs, wanted.rip) else {
                return false;
            };
            cpu.regs.rip = ip;
        }
        for (register, value) in general(&mut cpu.regs).into_iter().zip(wanted.regs) {
            *register = value;
        }
        if wanted.eflags != before.eflags {
            cpu.regs.rflags = wanted.eflags.into();
        }
        write_fpu(&mut cpu.fpu, &wanted);
        true
    }
}

/// The general purpose registers in gdb's order.
fn general(regs: &mut kvm_regs) -> [&mut u64; 16] {
    [
        &mut regs.rax,
        &mut regs.rbx,
        &mut regs.rcx,
        &mut regs.rdx,
        &mut regs.rsi,
        &mut regs.rdi,
        &mut regs.rbp,
        &mut regs.rsp,
        &mut regs.r8,
        &mut regs.r9,
        &mut regs.r10,
        &mut regs.r11,
        &mut regs.r12,
        &mut regs.r13,
        &mut regs.r14,
        &mut regs.r15,
    ]
}

/// What is added to an instruction pointer: nothing in 64-bit code.
fn code_base(sregs: &kvm_sregs) -> u64 {
    if sregs.cs.l == 1 { 0 } else { sregs.cs.base }
}

/// The linear address of an instruction. Outside of 64-bit code it has 32 bits.
fn linear(sregs: &kvm_sregs, ip: u64) -> u64 {
    let linear = code_base(sregs).wrapping_add(ip);
    if sregs.cs.l == 1 {
        linear
    } else {
        linear & u64::from(u32::MAX)
    }
}

/// The inverse of [`linear`]; `None` where the segment does not reach.
fn instruction_pointer(sregs: &kvm_sregs, linear: u64) -> Option<u64> {
    if sregs.cs.l == 1 {
        return Some(linear);
    }
    let ip = linear.wrapping_sub(code_base(sregs)) & u64::from(u32::MAX);
    let fits = linear <= u32::MAX.into() && ip <= sregs.cs.limit.into();
    fits.then_some(ip)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "gdb's registers are the lower halves"
)]
const fn low(value: u64) -> u32 {
    value as u32
}

fn wide(cpu: &CpuRegisters) -> X86_64CoreRegs {
    let CpuRegisters { regs, sregs, fpu } = cpu;
    let mut copy = *regs;
    X86_64CoreRegs {
        regs: general(&mut copy).map(|register| *register),
        eflags: low(regs.rflags),
        rip: linear(sregs, regs.rip),
        segments: X86SegmentRegs {
            cs: sregs.cs.selector.into(),
            ss: sregs.ss.selector.into(),
            ds: sregs.ds.selector.into(),
            es: sregs.es.selector.into(),
            fs: sregs.fs.selector.into(),
            gs: sregs.gs.selector.into(),
        },
        st: fpu.fpr.map(|register| first(&register)),
        fpu: X87FpuInternalRegs {
            fctrl: fpu.fcw.into(),
            fstat: fpu.fsw.into(),
            ftag: full_tags(fpu.ftwx),
            fiseg: low(fpu.last_ip >> 32),
            fioff: low(fpu.last_ip),
            foseg: low(fpu.last_dp >> 32),
            fooff: low(fpu.last_dp),
            fop: fpu.last_opcode.into(),
        },
        xmm: fpu.xmm.map(u128::from_le_bytes),
        mxcsr: fpu.mxcsr,
    }
}

fn narrow(wide: &X86_64CoreRegs) -> X86CoreRegs {
    let [eax, ebx, ecx, edx, esi, edi, ebp, esp] = first(&wide.regs).map(low);
    X86CoreRegs {
        eax,
        ecx,
        edx,
        ebx,
        esp,
        ebp,
        esi,
        edi,
        eip: low(wide.rip),
        eflags: wide.eflags,
        segments: wide.segments.clone(),
        st: wide.st,
        fpu: wide.fpu.clone(),
        xmm: first(&wide.xmm),
        mxcsr: wide.mxcsr,
    }
}

/// The narrow registers over what the wide ones were. An upper half stays if its lower half does.
fn widened(narrow: &X86CoreRegs, before: &X86_64CoreRegs) -> X86_64CoreRegs {
    let mut wide = before.clone();
    let put = |register: &mut u64, value: u32| {
        if low(*register) != value {
            *register = value.into();
        }
    };
    let values = [
        narrow.eax, narrow.ebx, narrow.ecx, narrow.edx, narrow.esi, narrow.edi, narrow.ebp,
        narrow.esp,
    ];
    for (register, value) in wide.regs.iter_mut().zip(values) {
        put(register, value);
    }
    put(&mut wide.rip, narrow.eip);
    wide.eflags = narrow.eflags;
    wide.segments = narrow.segments.clone();
    wide.st = narrow.st;
    wide.fpu = narrow.fpu.clone();
    for (register, value) in wide.xmm.iter_mut().zip(narrow.xmm) {
        *register = value;
    }
    wide.mxcsr = narrow.mxcsr;
    wide
}

fn write_fpu(fpu: &mut kvm_fpu, wanted: &X86_64CoreRegs) {
    for (register, value) in fpu.fpr.iter_mut().zip(wanted.st) {
        for (byte, value) in register.iter_mut().zip(value) {
            *byte = value;
        }
    }
    let word = |value: u32| u16::try_from(value & 0xffff).unwrap_or_default();
    let joined = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    fpu.fcw = word(wanted.fpu.fctrl);
    fpu.fsw = word(wanted.fpu.fstat);
    fpu.ftwx = abridged_tags(wanted.fpu.ftag);
    fpu.last_ip = joined(wanted.fpu.fiseg, wanted.fpu.fioff);
    fpu.last_dp = joined(wanted.fpu.foseg, wanted.fpu.fooff);
    fpu.last_opcode = word(wanted.fpu.fop);
    fpu.xmm = first(&wanted.xmm).map(u128::to_le_bytes);
}

/// Two bits for each register: 0 for one that is in use, 3 for an empty one.
fn full_tags(abridged: u8) -> u32 {
    (0..8).rev().fold(0, |tags, register| {
        let empty = abridged >> register & 1 == 0;
        tags << 2 | if empty { 3 } else { 0 }
    })
}

fn abridged_tags(full: u32) -> u8 {
    (0..16).step_by(2).rev().fold(0, |tags, bit| {
        let empty = full >> bit & 3 == 3;
        tags << 1 | u8::from(!empty)
    })
}

/// The first elements of an array.
fn first<T: Copy + Default, const N: usize, const M: usize>(of: &[T; N]) -> [T; M] {
    let mut some = [T::default(); M];
    for (place, value) in some.iter_mut().zip(of) {
        *place = *value;
    }
    some
}

#[cfg(test)]
mod tests {
    use gdbstub::arch::Registers as _;

    use super::*;

    /// A vCPU whose registers all differ.
    fn cpu(long: bool) -> CpuRegisters {
        let mut cpu = CpuRegisters::default();
        for (value, register) in (1..).zip(general(&mut cpu.regs)) {
            *register = u64::from_le_bytes([value; 8]);
        }
        cpu.regs.rip = 0xfff0;
        cpu.regs.rflags = 0x202;
        cpu.sregs.cs.selector = 0xf000;
        cpu.sregs.cs.base = 0xffff_0000;
        cpu.sregs.cs.limit = 0xffff;
        cpu.sregs.cs.l = long.into();
        cpu.fpu.fpr[3] = [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0];
        cpu.fpu.ftwx = 0b1000;
        cpu.fpu.xmm[5] = [5; 16];
        cpu.fpu.last_ip = 0x1234_5678_9abc;
        cpu.fpu.mxcsr = 0x1f80;
        cpu
    }

    fn serialised(registers: &Registers) -> Vec<u8> {
        let mut bytes = Vec::new();
        registers.gdb_serialize(|byte| bytes.extend(byte));
        bytes
    }

    #[test]
    fn what_gdb_writes_back_unchanged_changes_nothing() {
        for long in [false, true] {
            for description in [Description::I386, Description::X86_64] {
                let before = cpu(long);
                let bytes = serialised(&Registers::of(&before, description));
                let mut registers = Registers::default();
                registers.gdb_deserialize(&bytes).unwrap();
                let mut after = before;
                assert!(registers.apply(&mut after));
                assert_eq!(after, before, "{description:?}");
            }
        }
    }

    #[test]
    fn the_program_counter_is_linear_but_for_64_bit_code() {
        let pc = |long| Registers::of(&cpu(long), Description::X86_64).pc();
        assert_eq!((pc(false), pc(true)), (0xffff_fff0, 0xfff0));
        let mut real = cpu(false);
        let mut registers = Registers::of(&real, Description::I386);
        let Registers::I386(narrow) = &mut registers else {
            panic!("not narrow");
        };
        narrow.eip = 0xffff_1234;
        assert!(registers.apply(&mut real));
        assert_eq!(real.regs.rip, 0x1234);
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        type Change = fn(&mut X86_64CoreRegs);
        let changes: [Change; 4] = [
            |wanted| wanted.rip = 0x7c00,
            |wanted| wanted.rip = u64::MAX,
            |wanted| wanted.segments.ds = 1,
            |wanted| wanted.mxcsr = u32::MAX,
        ];
        for change in changes {
            let mut cpu = cpu(false);
            let before = cpu;
            let mut wanted = wide(&cpu);
            wanted.regs[0] = 0;
            change(&mut wanted);
            assert!(!Registers::X86_64(wanted).apply(&mut cpu));
            assert_eq!(cpu, before);
        }
    }

    #[test]
    fn each_register_has_its_place() {
        for (description, count) in [(Description::I386, 41), (Description::X86_64, 57)] {
            let size = serialised(&Registers::of(&cpu(true), description)).len();
            let mut end = 0;
            for number in 0..count {
                let place = description.place(number).unwrap();
                assert_eq!(place.start, end);
                end = place.end;
            }
            assert_eq!(end, size);
            assert_eq!(description.place(count), None);
            assert_eq!(description.place(usize::MAX), None);
        }
    }

    #[test]
    fn tags_are_abridged_and_back() {
        for tags in 0..=u8::MAX {
            assert_eq!(abridged_tags(full_tags(tags)), tags);
        }
        assert_eq!(full_tags(0b1000_0001), 0x3ffc);
    }
}
