//! The guest's physical address map and its fixed I/O ports and interrupt lines.
//!
//! ```text
//!   0x0000_0000  +---------------------------+
//!   0x0000_0500  | GDT                       |  what the loader leaves for the
//!   0x0000_6000  | PVH start info            |  kernel, all below 640 KiB
//!   0x0000_7000  | zero page (boot_params)   |
//!   0x0000_9000  | page tables, 6 pages      |
//!   0x0002_0000  | command line              |
//!   0x0009_fc00  +---------------------------+  end of conventional memory
//!   0x000e_0000  | RSDP and ACPI tables, or the firmware's low copy
//!   0x0010_0000  +---------------------------+
//!                | RAM, at most to 3 GiB     |  kernel from 1 MiB, initrd at the top
//!   0xc000_0000  +---------------------------+
//!                | hole: MMIO                |
//!   0xfec0_0000  | I/O APIC                  |
//!   0xfee0_0000  | local APICs               |
//!   0xfeff_c000  | KVM's identity map page and TSS (4 pages)
//!                | firmware, ending at 4 GiB |
//! 0x1_0000_0000  +---------------------------+
//!                | the rest of the RAM       |
//!                +---------------------------+
//! ```
//!
//! The rule that must never be broken: nothing that the loader writes for one boot protocol may
//! overlap anything else of the same protocol. The test below checks it.

/// The global descriptor table of the boot state.
pub(crate) const GDT: u64 = 0x500;
/// PVH `hvm_start_info`.
pub(crate) const PVH_START_INFO: u64 = 0x6000;
/// PVH module list, one entry: the initrd.
pub(crate) const PVH_MODULE_LIST: u64 = 0x6100;
/// PVH memory map.
pub(crate) const PVH_MEMORY_MAP: u64 = 0x6200;
/// Linux `boot_params`, one page.
pub(crate) const ZERO_PAGE: u64 = 0x7000;
/// Page map level 4, then one page-directory-pointer table and four page directories.
pub(crate) const PAGE_TABLES: u64 = 0x9000;
/// The kernel command line.
pub(crate) const COMMAND_LINE: u64 = 0x2_0000;
/// Room for the command line and its NUL.
pub(crate) const COMMAND_LINE_ROOM: u64 = 0x1_0000;
/// End of the memory below 640 KiB that a guest may use as it likes.
pub(crate) const CONVENTIONAL_END: u64 = 0x9_fc00;
/// Where firmware tables are looked for and put: RSDP first.
pub(crate) const ACPI: u64 = 0xe_0000;
/// End of the ACPI tables' room.
pub(crate) const ACPI_END: u64 = RESET_VECTOR;
/// Where a processor starts, as real-mode code sees it: 16 bytes below 1 MiB.
pub(crate) const RESET_VECTOR: u64 = HIGH_RAM - 16;
/// RAM above the first MiB.
pub(crate) const HIGH_RAM: u64 = 0x10_0000;
/// Where RAM below 4 GiB ends at the latest, and the MMIO hole begins.
pub(crate) const HOLE_START: u64 = 0xc000_0000;
/// 4 GiB: the end of the hole, and of a firmware image.
pub(crate) const HOLE_END: u64 = 0x1_0000_0000;
/// The I/O APIC's registers.
pub(crate) const IO_APIC: u32 = 0xfec0_0000;
/// The local APIC's registers.
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
/// A page that KVM on Intel needs for real mode without "unrestricted guest".
pub(crate) const KVM_IDENTITY_MAP: u64 = 0xfeff_c000;
/// Three pages that KVM on Intel needs for the same.
pub(crate) const KVM_TSS: u64 = KVM_IDENTITY_MAP + PAGE;
/// What KVM reserves from [`KVM_IDENTITY_MAP`] on.
pub(crate) const KVM_RESERVED_SIZE: u64 = 4 * PAGE;

/// A page.
pub(crate) const PAGE: u64 = 0x1000;
/// A mebibyte.
pub(crate) const MIB: u64 = 0x10_0000;

/// The interval timer's interrupt line.
pub(crate) const TIMER_IRQ: u32 = 0;
/// COM1, 8 ports.
pub(crate) const COM1: u16 = 0x3f8;
/// COM1's interrupt line.
pub(crate) const COM1_IRQ: u32 = 4;
/// The real-time clock's index and data ports.
pub(crate) const RTC: u16 = 0x70;
/// The real-time clock's interrupt line.
pub(crate) const RTC_IRQ: u32 = 8;
/// The ACPI PM1 block: status, enable, control, and the timer 8 bytes on.
pub(crate) const PM_BASE: u16 = 0x600;
/// ACPI's system control interrupt, level-triggered.
pub(crate) const SCI_IRQ: u32 = 9;
/// The reset control register.
pub(crate) const RESET_CONTROL: u16 = 0xcf9;
/// isa-debug-exit.
pub(crate) const DEBUG_EXIT: u16 = 0x501;
/// The ib700 watchdog: two ports that stop it, two that start it.
pub(crate) const IB700: u16 = 0x441;
/// pvpanic.
pub(crate) const PVPANIC: u16 = 0x505;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_writes_does_not_overlap() {
        let map = [
            (GDT, 0x30),
            (PVH_START_INFO, 56),
            (PVH_MODULE_LIST, 32),
            (PVH_MEMORY_MAP, 24 * 16),
            (ZERO_PAGE, PAGE),
            (PAGE_TABLES, 6 * PAGE),
            (COMMAND_LINE, COMMAND_LINE_ROOM),
            (ACPI, ACPI_END - ACPI),
            (HIGH_RAM, HOLE_START - HIGH_RAM),
            (u64::from(IO_APIC), PAGE),
            (u64::from(LOCAL_APIC), PAGE),
            (KVM_IDENTITY_MAP, KVM_RESERVED_SIZE),
        ];
        for pair in map.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        const { assert!(COMMAND_LINE + COMMAND_LINE_ROOM <= CONVENTIONAL_END) };
    }
}
