//! The notes of a core file: what the vCPUs held.
//!
//! | owner | type | what it is |
//! |---|---|---|
//! | `CORE` | `NT_PRSTATUS` | a thread as Linux describes it: what debuggers read |
//! | `QEMU` | 0 | what that has no place for: segments, tables, control registers |
//!
//! The first ones of all vCPUs come before the second ones, as in QEMU's files.
//!
//! Source: Linux, `struct elf_prstatus` and `user_regs_struct` of x86-64; crash and QEMU for the
//! other's layout.

use kvm_bindings::{kvm_dtable, kvm_segment};

use crate::platform::CoreRegisters;

const NT_PRSTATUS: u32 = 1;
/// Bytes before the registers: signals, then numbers of the process at [`PID_AT`], times.
const BEFORE_REGISTERS: usize = 112;
const PID_AT: usize = 32;
/// Bytes behind them: whether there is a floating-point state, and padding.
const AFTER_REGISTERS: usize = 8;

/// The version of QEMU's note, and its size.
const QEMU_VERSION: u32 = 1;
const QEMU_SIZE: u32 = 440;

/// The notes of all vCPUs, by their numbers.
pub(super) fn notes(cpus: &[(u32, CoreRegisters)]) -> Vec<u8> {
    let status = cpus
        .iter()
        .flat_map(|(index, cpu)| note(*b"CORE", NT_PRSTATUS, &prstatus(*index, cpu)));
    let own = cpus
        .iter()
        .flat_map(|(_, cpu)| note(*b"QEMU", 0, &qemu(cpu)));
    status.chain(own).collect()
}

/// A note. Its name is ended by a NUL and padded, as is what it says.
fn note(name: [u8; 4], kind: u32, says: &[u8]) -> Vec<u8> {
    let length = u32::try_from(says.len()).unwrap_or_default();
    let mut bytes: Vec<u8> = [5, length, kind]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    bytes.extend(name);
    bytes.extend([0; 4]);
    bytes.extend(says);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn prstatus(index: u32, cpu: &CoreRegisters) -> Vec<u8> {
    let (r, s) = (&cpu.regs, &cpu.sregs);
    let selector = |segment: &kvm_segment| u64::from(segment.selector);
    let mut bytes = vec![0; PID_AT];
    // Threads are counted from 1.
    bytes.extend(index.saturating_add(1).to_le_bytes());
    bytes.resize(BEFORE_REGISTERS, 0);
    let registers = [
        r.r15,
        r.r14,
        r.r13,
        r.r12,
        r.rbp,
        r.rbx,
        r.r11,
        r.r10,
        r.r9,
        r.r8,
        r.rax,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        // No system call is in the making.
        0,
        r.rip,
        selector(&s.cs),
        r.rflags,
        r.rsp,
        selector(&s.ss),
        s.fs.base,
        s.gs.base,
        selector(&s.ds),
        selector(&s.es),
        selector(&s.fs),
        selector(&s.gs),
    ];
    bytes.extend(registers.into_iter().flat_map(u64::to_le_bytes));
    bytes.extend([0; AFTER_REGISTERS]);
    bytes
}

fn qemu(cpu: &CoreRegisters) -> Vec<u8> {
    let (r, s) = (&cpu.regs, &cpu.sregs);
    let mut bytes: Vec<u8> = [QEMU_VERSION, QEMU_SIZE]
        .into_iter()
        .flat_map(u32::to_le_bytes)
        .collect();
    let general = [
        r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp, r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12,
        r.r13, r.r14, r.r15, r.rip, r.rflags,
    ];
    bytes.extend(general.into_iter().flat_map(u64::to_le_bytes));
    for held in [&s.cs, &s.ds, &s.es, &s.fs, &s.gs, &s.ss, &s.ldt, &s.tr] {
        bytes.extend(segment(held));
    }
    for table in [&s.gdt, &s.idt] {
        bytes.extend(descriptor_table(table));
    }
    let rest = [s.cr0, 0, s.cr2, s.cr3, s.cr4, cpu.kernel_gs_base];
    bytes.extend(rest.into_iter().flat_map(u64::to_le_bytes));
    bytes
}

fn segment(segment: &kvm_segment) -> Vec<u8> {
    // The attributes are where the second word of a descriptor has them.
    let attributes = [
        (segment.type_, 8),
        (segment.s, 12),
        (segment.dpl, 13),
        (segment.present, 15),
        (segment.avl, 20),
        (segment.l, 21),
        (segment.db, 22),
        (segment.g, 23),
    ];
    let attributes = attributes
        .into_iter()
        .fold(0, |all, (value, shift)| all | (u32::from(value) << shift));
    entry(
        segment.selector.into(),
        segment.limit,
        attributes,
        segment.base,
    )
}

fn descriptor_table(table: &kvm_dtable) -> Vec<u8> {
    entry(0, table.limit.into(), 0, table.base)
}

fn entry(selector: u32, limit: u32, attributes: u32, base: u64) -> Vec<u8> {
    let words = [selector, limit, attributes, 0];
    let words = words.into_iter().flat_map(u32::to_le_bytes);
    words.chain(base.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu() -> CoreRegisters {
        let mut cpu = CoreRegisters::default();
        cpu.regs.rip = 0xfff0;
        cpu.regs.rflags = 2;
        cpu.regs.rax = 0x11;
        cpu.regs.r15 = 0x15;
        cpu.regs.rsp = 0x7000;
        cpu.sregs.cr0 = 0x6000_0010;
        cpu.sregs.cr4 = 0x44;
        cpu.kernel_gs_base = 0x99;
        cpu.sregs.cs = kvm_segment {
            base: 0xffff_0000,
            limit: 0xffff,
            selector: 0xf000,
            type_: 0xb,
            present: 1,
            s: 1,
            ..Default::default()
        };
        cpu.sregs.gs = kvm_segment {
            selector: 0x28,
            base: 0x5000,
            ..Default::default()
        };
        cpu.sregs.idt = kvm_dtable {
            base: 0xabc,
            limit: 0x3ff,
            ..Default::default()
        };
        cpu
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    #[test]
    fn a_thread_of_linux() {
        let status = prstatus(1, &cpu());
        assert_eq!(status.len(), 336);
        assert_eq!(status[32..36], 2_u32.to_le_bytes(), "the thread");
        for (register, value) in [
            (0, 0x15),
            (10, 0x11),
            (16, 0xfff0),
            (17, 0xf000),
            (18, 2),
            (19, 0x7000),
            (22, 0x5000),
            (26, 0x28),
        ] {
            assert_eq!(word(&status, 112 + 8 * register), value, "{register}");
        }
    }

    #[test]
    fn qemus_own() {
        let own = qemu(&cpu());
        assert_eq!(own.len(), 440);
        assert_eq!(own[..8], [1, 0, 0, 0, 0xb8, 1, 0, 0]);
        assert_eq!(word(&own, 8), 0x11);
        assert_eq!(word(&own, 8 + 8 * 16), 0xfff0);
        // CS: as QEMU 7.2 has it of a processor at power-on.
        let cs = [
            0, 0xf0, 0, 0, 0xff, 0xff, 0, 0, 0, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0,
            0,
        ];
        assert_eq!(own[152..176], cs);
        let idt = 152 + 24 * 9;
        assert_eq!(own[idt + 4..idt + 8], [0xff, 3, 0, 0]);
        assert_eq!(word(&own, idt + 16), 0xabc);
        assert_eq!(word(&own, 392), 0x6000_0010);
        assert_eq!(word(&own, 424), 0x44);
        assert_eq!(word(&own, 432), 0x99);
    }

    #[test]
    fn notes_are_where_their_lengths_say() {
        let cpus = [(0, cpu()), (1, cpu())];
        let bytes = notes(&cpus);
        assert_eq!(bytes.len(), 2 * (20 + 336) + 2 * (20 + 440));
        let second = 20 + 336;
        assert_eq!(bytes[..4], [5, 0, 0, 0]);
        assert_eq!(bytes[12..20], *b"CORE\0\0\0\0");
        assert_eq!(bytes[second + 12..second + 16], *b"CORE");
        assert_eq!(bytes[2 * second + 12..2 * second + 17], *b"QEMU\0");
        assert!(notes(&[]).is_empty());
    }
}
