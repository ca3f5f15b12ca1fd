//! A vCPU's registers as people read them: the text of QEMU's `info registers`.
//!
//! Source: QEMU 7.2 as its user sees it; Intel SDM volume 3, sections 3.4.5 (segment descriptors) and 3.5
//! (system descriptors), for what the attributes mean.

use std::fmt::{self, Display, Formatter};

use kvm_bindings::{
    KVM_MP_STATE_HALTED, kvm_debugregs, kvm_dtable, kvm_fpu, kvm_regs, kvm_segment, kvm_sregs,
};
use kvm_ioctls::VcpuFd;

/// Protected mode (CR0), long mode (EFER).
const CR0_PE: u64 = 1;
const EFER_LMA: u64 = 1 << 10;

/// Bits of the attributes as a descriptor has them (its second word).
const TYPE_SHIFT: u32 = 8;
const ACCESSED: u32 = 1 << 8;
const READABLE_OR_WRITABLE: u32 = 1 << 9;
const CONFORMING_OR_DOWN: u32 = 1 << 10;
const CODE: u32 = 1 << 11;
const NOT_SYSTEM: u32 = 1 << 12;
const DPL_SHIFT: u32 = 13;
const PRESENT: u32 = 1 << 15;
const AVAILABLE: u32 = 1 << 20;
const LONG: u32 = 1 << 21;
const BIG: u32 = 1 << 22;
const GRANULAR: u32 = 1 << 23;

/// The flags that are shown by letters, in their order: direction, overflow, sign, zero, adjust, parity,
/// carry.
const FLAGS: [(u64, char); 7] = [
    (1 << 10, 'D'),
    (1 << 11, 'O'),
    (1 << 7, 'S'),
    (1 << 6, 'Z'),
    (1 << 4, 'A'),
    (1 << 2, 'P'),
    (1, 'C'),
];

/// What system descriptors are, by their type; in long mode, where that differs.
const SYSTEM: [&str; 16] = [
    "Reserved",
    "TSS16-avl",
    "LDT",
    "TSS16-busy",
    "CallGate16",
    "TaskGate",
    "IntGate16",
    "TrapGate16",
    "Reserved",
    "TSS32-avl",
    "Reserved",
    "TSS32-busy",
    "CallGate32",
    "Reserved",
    "IntGate32",
    "TrapGate32",
];
const SYSTEM_LONG: [&str; 16] = [
    "<hiword>",
    "Reserved",
    "LDT",
    "Reserved",
    "Reserved",
    "Reserved",
    "Reserved",
    "Reserved",
    "Reserved",
    "TSS64-avl",
    "Reserved",
    "TSS64-busy",
    "CallGate64",
    "Reserved",
    "IntGate64",
    "TrapGate64",
];

/// The registers of a vCPU.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
    debug: kvm_debugregs,
    interrupts_inhibited: bool,
    smm: bool,
    halted: bool,
}

impl Dump {
    /// Reads the registers. On the vCPU's thread, or while it stands.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn read(vcpu: &VcpuFd) -> Result<Self, kvm_ioctls::Error> {
        let events = vcpu.get_vcpu_events()?;
        Ok(Self {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            fpu: vcpu.get_fpu()?,
            debug: vcpu.get_debug_regs()?,
            interrupts_inhibited: events.interrupt.shadow != 0,
            smm: events.smi.smm != 0,
            halted: vcpu.get_mp_state()?.mp_state == KVM_MP_STATE_HALTED,
        })
    }

    fn is_long(&self) -> bool {
        self.sregs.efer & EFER_LMA != 0
    }

    /// Whether the code is of 64 bits: then all is shown in full width.
    fn is_wide(&self) -> bool {
        self.is_long() && self.sregs.cs.l != 0
    }

    fn general(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let r = &self.regs;
        if self.is_wide() {
            let rows = [
                [
                    ("RAX", r.rax),
                    ("RBX", r.rbx),
                    ("RCX", r.rcx),
                    ("RDX", r.rdx),
                ],
                [
                    ("RSI", r.rsi),
                    ("RDI", r.rdi),
                    ("RBP", r.rbp),
                    ("RSP", r.rsp),
                ],
                [("R8 ", r.r8), ("R9 ", r.r9), ("R10", r.r10), ("R11", r.r11)],
                [
                    ("R12", r.r12),
                    ("R13", r.r13),
                    ("R14", r.r14),
                    ("R15", r.r15),
                ],
            ];
            for [a, b, c, d] in rows {
                writeln!(
                    f,
                    "{}={:016x} {}={:016x} {}={:016x} {}={:016x}",
                    a.0, a.1, b.0, b.1, c.0, c.1, d.0, d.1
                )?;
            }
            write!(f, "RIP={:016x} RFL={:08x}", r.rip, low(r.rflags))?;
        } else {
            let rows = [
                [
                    ("EAX", r.rax),
                    ("EBX", r.rbx),
                    ("ECX", r.rcx),
                    ("EDX", r.rdx),
                ],
                [
                    ("ESI", r.rsi),
                    ("EDI", r.rdi),
                    ("EBP", r.rbp),
                    ("ESP", r.rsp),
                ],
            ];
            for [a, b, c, d] in rows {
                writeln!(
                    f,
                    "{}={:08x} {}={:08x} {}={:08x} {}={:08x}",
                    a.0,
                    low(a.1),
                    b.0,
                    low(b.1),
                    c.0,
                    low(c.1),
                    d.0,
                    low(d.1)
                )?;
            }
            write!(f, "EIP={:08x} EFL={:08x}", low(r.rip), low(r.rflags))?;
        }
        let flag = |(bit, letter): (u64, char)| if r.rflags & bit == 0 { '-' } else { letter };
        let flags: String = FLAGS.map(flag).into_iter().collect();
        let number = u8::from;
        writeln!(
            f,
            " [{flags}] CPL={} II={} A20=1 SMM={} HLT={}",
            self.sregs.ss.dpl & 3,
            number(self.interrupts_inhibited),
            number(self.smm),
            number(self.halted)
        )
    }

    fn segment(&self, f: &mut Formatter<'_>, name: &str, segment: &kvm_segment) -> fmt::Result {
        let flags = attributes(segment);
        write!(f, "{name}={:04x} ", segment.selector)?;
        self.address(f, segment.base)?;
        write!(f, " {:08x} {flags:08x}", segment.limit)?;
        if self.sregs.cr0 & CR0_PE == 0 || flags & PRESENT == 0 {
            return writeln!(f);
        }
        write!(f, " DPL={} ", segment.dpl & 3)?;
        let letter = |bit: u32, letter: char| if flags & bit == 0 { '-' } else { letter };
        if flags & NOT_SYSTEM == 0 {
            let names = if self.is_long() { SYSTEM_LONG } else { SYSTEM };
            let name = names.get(usize::from(segment.type_ & 15));
            return writeln!(f, "{}", name.copied().unwrap_or_default());
        }
        let (what, first, second) = if flags & CODE != 0 {
            let width = match (flags & LONG != 0, flags & BIG != 0) {
                (true, _) => "CS64",
                (false, true) => "CS32",
                (false, false) => "CS16",
            };
            (
                width,
                letter(CONFORMING_OR_DOWN, 'C'),
                letter(READABLE_OR_WRITABLE, 'R'),
            )
        } else {
            let wide = flags & BIG != 0 || self.is_long();
            let width = if wide { "DS  " } else { "DS16" };
            (
                width,
                letter(CONFORMING_OR_DOWN, 'E'),
                letter(READABLE_OR_WRITABLE, 'W'),
            )
        };
        writeln!(f, "{what} [{first}{second}{}]", letter(ACCESSED, 'A'))
    }

    fn table(&self, f: &mut Formatter<'_>, name: &str, table: &kvm_dtable) -> fmt::Result {
        write!(f, "{name}=     ")?;
        self.address(f, table.base)?;
        writeln!(f, " {:08x}", table.limit)
    }

    fn address(&self, f: &mut Formatter<'_>, address: u64) -> fmt::Result {
        if self.is_wide() {
            write!(f, "{address:016x}")
        } else {
            write!(f, "{:08x}", low(address))
        }
    }

    fn control(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let s = &self.sregs;
        write!(f, "CR0={:08x} CR2=", low(s.cr0))?;
        self.address(f, s.cr2)?;
        write!(f, " CR3=")?;
        self.address(f, s.cr3)?;
        writeln!(f, " CR4={:08x}", low(s.cr4))?;
        for (number, value) in self.debug.db.iter().enumerate() {
            write!(f, "DR{number}={value:016x} ")?;
        }
        writeln!(
            f,
            "\nDR6={:016x} DR7={:016x}",
            self.debug.dr6, self.debug.dr7
        )?;
        writeln!(f, "EFER={:016x}", s.efer)
    }

    fn floating(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let fpu = &self.fpu;
        writeln!(
            f,
            "FCW={:04x} FSW={:04x} [ST={}] FTW={:02x} MXCSR={:08x}",
            fpu.fcw,
            fpu.fsw,
            fpu.fsw >> 11 & 7,
            fpu.ftwx,
            fpu.mxcsr
        )?;
        for (number, register) in fpu.fpr.iter().enumerate() {
            let value = u128::from_le_bytes(*register);
            let (mantissa, rest) = halves(value);
            let end = if number % 2 == 0 { ' ' } else { '\n' };
            write!(f, "FPR{number}={mantissa:016x} {:04x}{end}", rest & 0xffff)?;
        }
        let shown = if self.is_wide() { 16 } else { 8 };
        for (number, register) in fpu.xmm.iter().take(shown).enumerate() {
            let (lower, upper) = halves(u128::from_le_bytes(*register));
            let end = if number % 2 == 0 { ' ' } else { '\n' };
            write!(f, "XMM{number:02}={upper:016x} {lower:016x}{end}")?;
        }
        Ok(())
    }
}

impl Display for Dump {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.general(f)?;
        let s = &self.sregs;
        for (name, segment) in [
            ("ES ", &s.es),
            ("CS ", &s.cs),
            ("SS ", &s.ss),
            ("DS ", &s.ds),
            ("FS ", &s.fs),
            ("GS ", &s.gs),
            ("LDT", &s.ldt),
            ("TR ", &s.tr),
        ] {
            self.segment(f, name, segment)?;
        }
        self.table(f, "GDT", &s.gdt)?;
        self.table(f, "IDT", &s.idt)?;
        self.control(f)?;
        self.floating(f)
    }
}

/// The attributes of a segment as its descriptor has them.
fn attributes(segment: &kvm_segment) -> u32 {
    let bit = |set: u8, bit: u32| if set == 0 { 0 } else { bit };
    let present = if segment.unusable == 0 {
        segment.present
    } else {
        0
    };
    u32::from(segment.type_ & 15) << TYPE_SHIFT
        | bit(segment.s, NOT_SYSTEM)
        | u32::from(segment.dpl & 3) << DPL_SHIFT
        | bit(present, PRESENT)
        | bit(segment.avl, AVAILABLE)
        | bit(segment.l, LONG)
        | bit(segment.db, BIG)
        | bit(segment.g, GRANULAR)
}

/// The lower 32 bits.
fn low(value: u64) -> u64 {
    value & u64::from(u32::MAX)
}

/// The lower and the upper 64 bits.
fn halves(value: u128) -> (u64, u64) {
    let bytes = value.to_le_bytes();
    let (lower, upper) = bytes.split_at(8);
    let half = |half: &[u8]| half.try_into().map(u64::from_le_bytes).unwrap_or_default();
    (half(lower), half(upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(l: u8) -> kvm_segment {
        kvm_segment {
            selector: 0x10,
            limit: 0xffff_ffff,
            type_: 11,
            present: 1,
            s: 1,
            l,
            db: u8::from(l == 0),
            g: 1,
            ..kvm_segment::default()
        }
    }

    fn line<'a>(text: &'a str, start: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(start)).unwrap()
    }

    #[test]
    fn real_mode_is_shown_in_32_bits_and_without_rights() {
        let mut dump = Dump::default();
        dump.regs.rip = 0xfff0;
        dump.regs.rflags = 0x2 | 1 << 6 | 1;
        dump.sregs.cr0 = 0x6000_0010;
        dump.sregs.cs = kvm_segment {
            base: 0xffff_0000,
            selector: 0xf000,
            ..code(0)
        };
        dump.halted = true;
        let text = dump.to_string();
        assert_eq!(
            line(&text, "EIP"),
            "EIP=0000fff0 EFL=00000043 [---Z--C] CPL=0 II=0 A20=1 SMM=0 HLT=1"
        );
        assert_eq!(line(&text, "CS "), "CS =f000 ffff0000 ffffffff 00c09b00");
        assert!(line(&text, "CR0").starts_with("CR0=60000010 CR2=00000000 "));
        assert_eq!(text.lines().count(), 26);
    }

    #[test]
    fn long_mode_is_shown_in_64_bits_with_rights() {
        let mut dump = Dump::default();
        dump.sregs.cr0 = 0x8000_0001;
        dump.sregs.efer = EFER_LMA | 1 << 8;
        dump.sregs.cs = code(1);
        dump.sregs.ss = kvm_segment {
            type_: 3,
            dpl: 3,
            ..code(0)
        };
        dump.sregs.tr = kvm_segment {
            type_: 11,
            present: 1,
            ..kvm_segment::default()
        };
        dump.sregs.ldt.unusable = 1;
        dump.fpu.fsw = 3 << 11;
        dump.fpu.xmm[15] = 1_u128.to_le_bytes();
        let text = dump.to_string();
        assert!(line(&text, "R8 ").starts_with("R8 =0000000000000000 R9 ="));
        assert!(line(&text, "RIP").ends_with("CPL=3 II=0 A20=1 SMM=0 HLT=0"));
        assert_eq!(
            line(&text, "CS "),
            "CS =0010 0000000000000000 ffffffff 00a09b00 DPL=0 CS64 [-RA]"
        );
        assert!(line(&text, "SS ").ends_with(" DPL=3 DS   [-WA]"));
        assert!(line(&text, "TR ").ends_with(" DPL=0 TSS64-busy"));
        assert!(line(&text, "LDT").ends_with(" 00000000 00000000"));
        assert!(line(&text, "FCW").contains("FSW=1800 [ST=3]"));
        assert!(line(&text, "XMM14").ends_with("XMM15=0000000000000000 0000000000000001"));
    }
}
