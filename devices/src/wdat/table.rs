//! The registers in the terms of the WDAT table: which accesses make up which action.
//!
//! [`ENTRIES`] is the list as data; [`body`] is the table without its ACPI header (signature
//! `WDAT`, revision 1), ready for any table builder. Where the device is not at its default port,
//! give its own to `body`. The ports must be none of the clock's, 0x70 to 0x73: Linux then ignores
//! the table.
//!
//! The flags say that the watchdog is stopped in sleep states. It is: a reset of type `Wakeup`
//! stops it too, and a driver then programs it again from the start.
//!
//! Source: Microsoft, Hardware Watchdog Timers Design Specification, version 1.01; ACPI 6.5,
//! 5.2.3.2 (generic address structure).

use super::{
    COUNT_OFFSET, CURRENT_OFFSET, PERIOD_MS, REBOOT_OFFSET, RESTART_OFFSET, RUN_OFFSET,
    STATUS_OFFSET,
};

/// The table's revision, for its ACPI header.
pub const REVISION: u8 = 1;
/// The smallest count that is sensible: one period.
pub const MIN_COUNT: u32 = 1;
/// The largest count: more than an hour.
pub const MAX_COUNT: u32 = 0xffff;

/// The watchdog is there and enabled.
const FLAG_ENABLED: u8 = 0x01;
/// It does not run in S1 to S5.
const FLAG_STOPPED_IN_SLEEP: u8 = 0x80;
/// The length of what comes between the ACPI header and the entries.
const HEADER_LEN: u32 = 32;
/// The address space "system I/O".
const SYSTEM_IO: u8 = 1;

/// What a driver may want of a watchdog, with the number that the table has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Action {
    /// Start the countdown over.
    Reset = 0x01,
    /// How much of the countdown is left.
    QueryCurrentCountdown = 0x04,
    /// What the countdown starts from.
    QueryCountdown = 0x05,
    /// Set what the next countdown starts from.
    SetCountdown = 0x06,
    /// Whether the watchdog runs.
    QueryRunning = 0x08,
    /// Start it.
    SetRunning = 0x09,
    /// Whether the watchdog is stopped.
    QueryStopped = 0x0a,
    /// Stop it.
    SetStopped = 0x0b,
    /// Whether an expiry reboots.
    QueryReboot = 0x10,
    /// Let an expiry reboot.
    SetReboot = 0x11,
    /// Whether the watchdog has caused this boot.
    QueryStatus = 0x20,
    /// Forget that.
    SetStatus = 0x21,
}

/// What to do with a register, with the number that the table has for it. None keeps the
/// register's other bits, because no register has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Instruction {
    /// Read, mask, and compare with the entry's value.
    ReadValue = 0,
    /// Read and mask: the result is a count.
    ReadCountdown = 1,
    /// Write the entry's value, masked.
    WriteValue = 2,
    /// Write the driver's count, masked.
    WriteCountdown = 3,
}

/// The width of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
}

impl Width {
    /// In bits, for the generic address structure.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Byte => 8,
            Self::Word => 16,
        }
    }

    /// The generic address structure's code for such an access.
    pub const fn access_size(self) -> u8 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
        }
    }
}

/// One register access of one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The action that the access is for.
    pub action: Action,
    /// What the access does.
    pub instruction: Instruction,
    /// Where the register is in the device's window, in bytes.
    pub offset: u16,
    /// The register's width.
    pub width: Width,
    /// What is written, or compared with what is read.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl Entry {
    const fn byte(action: Action, instruction: Instruction, offset: u64, value: u32) -> Self {
        Self {
            action,
            instruction,
            offset: narrow(offset),
            width: Width::Byte,
            value,
            mask: 0x01,
        }
    }

    const fn count(action: Action, instruction: Instruction, offset: u64) -> Self {
        Self {
            action,
            instruction,
            offset: narrow(offset),
            width: Width::Word,
            value: 0,
            mask: 0xffff,
        }
    }

    /// The entry as it stands in the table, for registers that begin at port `base`.
    pub fn to_bytes(self, base: u16) -> [u8; 24] {
        let mut bytes = [0; 24];
        let address = u64::from(base).saturating_add(u64::from(self.offset));
        let fields = [
            // Action, instruction, and two reserved bytes.
            &[self.action as u8, self.instruction as u8, 0, 0][..],
            // Generic address: space, width, first bit, access size.
            &[SYSTEM_IO, self.width.bits(), 0, self.width.access_size()],
            &address.to_le_bytes(),
            &self.value.to_le_bytes(),
            &self.mask.to_le_bytes(),
        ];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }
}

/// An offset within the window, which is shorter than 256 bytes.
const fn narrow(offset: u64) -> u16 {
    let [low, ..] = offset.to_le_bytes();
    low as u16
}

/// All actions of the watchdog. Each is one access.
pub const ENTRIES: [Entry; 12] = [
    Entry::byte(Action::Reset, Instruction::WriteValue, RESTART_OFFSET, 1),
    Entry::count(
        Action::QueryCurrentCountdown,
        Instruction::ReadCountdown,
        CURRENT_OFFSET,
    ),
    Entry::count(
        Action::QueryCountdown,
        Instruction::ReadCountdown,
        COUNT_OFFSET,
    ),
    Entry::count(
        Action::SetCountdown,
        Instruction::WriteCountdown,
        COUNT_OFFSET,
    ),
    Entry::byte(Action::QueryRunning, Instruction::ReadValue, RUN_OFFSET, 1),
    Entry::byte(Action::SetRunning, Instruction::WriteValue, RUN_OFFSET, 1),
    Entry::byte(Action::QueryStopped, Instruction::ReadValue, RUN_OFFSET, 0),
    Entry::byte(Action::SetStopped, Instruction::WriteValue, RUN_OFFSET, 0),
    Entry::byte(
        Action::QueryReboot,
        Instruction::ReadValue,
        REBOOT_OFFSET,
        1,
    ),
    Entry::byte(Action::SetReboot, Instruction::WriteValue, REBOOT_OFFSET, 1),
    Entry::byte(
        Action::QueryStatus,
        Instruction::ReadValue,
        STATUS_OFFSET,
        1,
    ),
    Entry::byte(Action::SetStatus, Instruction::WriteValue, STATUS_OFFSET, 1),
];

/// What follows the table's 36-byte ACPI header, for registers that begin at port `base`.
pub fn body(base: u16) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(HEADER_LEN.to_le_bytes());
    // Not a PCI device: segment, bus, device, function; and three reserved bytes.
    body.extend([0xff, 0x00, 0xff, 0xff, 0xff, 0, 0, 0]);
    for field in [u32::from(PERIOD_MS), MAX_COUNT, MIN_COUNT] {
        body.extend(field.to_le_bytes());
    }
    body.extend([FLAG_ENABLED | FLAG_STOPPED_IN_SLEEP, 0, 0, 0]);
    let entries = u32::try_from(ENTRIES.len()).unwrap_or(u32::MAX);
    body.extend(entries.to_le_bytes());
    body.extend(ENTRIES.iter().flat_map(|entry| entry.to_bytes(base)));
    body
}
