//! Every device, register by register, against its specification and QEMU's behaviour.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]
#![cfg_attr(
    not(any(feature = "acpi-pm", feature = "cmos-rtc", feature = "serial")),
    allow(
        unfulfilled_lint_expectations,
        dead_code,
        unused_imports,
        reason = "few devices"
    )
)]

use devices::BusDevice;

/// One byte read at `offset`.
fn inb(device: &impl BusDevice, offset: u64) -> u8 {
    let mut data = [0xaa];
    device.read(offset, &mut data);
    data[0]
}

/// One byte written at `offset`.
fn outb(device: &impl BusDevice, offset: u64, value: u8) {
    device.write(offset, &[value]);
}

#[cfg(feature = "acpi-pm")]
mod acpi_pm;
#[cfg(feature = "cmos-rtc")]
mod cmos_rtc;
#[cfg(feature = "i8042")]
mod i8042;
#[cfg(feature = "serial")]
mod serial;
mod simple;
