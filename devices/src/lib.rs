#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)
)]

pub mod bus;
pub mod conformance;
pub mod reset;

#[cfg(feature = "acpi-pm")]
pub mod acpi_pm;
#[cfg(feature = "cmos-rtc")]
pub mod cmos_rtc;
#[cfg(feature = "debug-exit")]
pub mod debug_exit;
#[cfg(feature = "debugcon")]
pub mod debugcon;
#[cfg(feature = "fw-cfg")]
pub mod fw_cfg;
#[cfg(feature = "i8042")]
pub mod i8042;
#[cfg(feature = "ib700")]
pub mod ib700;
#[cfg(feature = "ioapic")]
pub mod ioapic;
#[cfg(feature = "pic")]
pub mod pic;
#[cfg(feature = "pit")]
pub mod pit;
#[cfg(feature = "port92")]
pub mod port92;
#[cfg(feature = "pvpanic")]
pub mod pvpanic;
#[cfg(feature = "reset-control")]
pub mod reset_control;
#[cfg(feature = "serial")]
pub mod serial;
#[cfg(feature = "wdat")]
pub mod wdat;

mod clock;
mod counter;
mod error;
mod irq;
mod notify;
mod output;
mod power;
mod state;
mod sync;
mod timed;
#[cfg(any(feature = "ib700", feature = "wdat"))]
mod watchdog;

pub use bus::{Bus, BusBuilder, BusDevice, Granularity, Mapping, Unclaimed};
pub use clock::{Clock, HostClock, ManualClock};
pub use error::Error;
pub use irq::{IrqLine, IrqProbe, NoIrq};
pub use notify::{NoNotify, Notify};
pub use output::{Output, OutputRing};
pub use power::{PowerProbe, PowerRequest, PowerSink, WakeupReason};
pub use reset::{NodeId, ResetTree, ResetType, Resettable};
pub use state::{Pausable, SaveRestore};
pub use timed::Timed;
