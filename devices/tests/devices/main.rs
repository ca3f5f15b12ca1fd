//! Every device, register by register, against its specification and QEMU's behaviour.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a test fails by panicking; and which of these fire depends on the features, so none can be expected"
)]

#[path = "../support/mod.rs"]
mod support;

use support::{inb, outb};

#[cfg(feature = "acpi-pm")]
mod acpi_pm;
#[cfg(feature = "cmos-rtc")]
mod cmos_rtc;
mod concurrency;
#[cfg(feature = "fw-cfg")]
mod fw_cfg;
#[cfg(feature = "i8042")]
mod i8042;
#[cfg(feature = "ib700")]
mod ib700;
#[cfg(feature = "ioapic")]
mod ioapic;
#[cfg(feature = "pic")]
mod pic;
#[cfg(feature = "pit")]
mod pit;
#[cfg(feature = "serial")]
mod serial;
mod simple;
#[cfg(all(feature = "acpi-pm", feature = "cmos-rtc"))]
mod sleep;
#[cfg(any(feature = "ib700", feature = "wdat"))]
mod watchdog;
#[cfg(feature = "wdat")]
mod wdat;
