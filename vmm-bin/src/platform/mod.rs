//! The machine without its policy: accelerator, memory, boot images, firmware tables, vCPU state, time and
//! the bus with its devices.
//!
//! ```text
//!   machine ── builds and owns ──┬─ accel    what executes the guest: KVM, or nothing (qtest)
//!                                ├─ kvm      the VM, its interrupt lines
//!                                ├─ memory   RAM and firmware slots
//!                                ├─ boot     kernel, firmware or flat image -> memory
//!                                ├─ acpi     tables -> memory
//!                                ├─ cpu      CPUID, registers at power-on
//!                                ├─ vcpu_run exits -> bus, requests
//!                                ├─ clock    virtual time, kvmclock, TSC
//!                                ├─ rtc_time what the real-time clock follows
//!                                ├─ watchdogs which there are
//!                                └─ board    devices, bus, reset tree
//! ```
//!
//! The rule that must never be broken: nothing here decides what becomes of the VM. A guest's
//! request goes out through a trait; pausing, resetting and stopping are done when asked for.

mod accel;
mod acpi;
mod board;
mod boot;
mod clock;
mod cpu;
mod error;
mod kvm;
pub(crate) mod layout;
mod machine;
mod memory;
mod rtc_time;
mod sys;
mod vcpu_run;
mod watchdogs;

pub(crate) use self::accel::{Choice as Accelerator, Vcpu};
pub(crate) use self::boot::{BootSource, FlatImage};
pub(crate) use self::cpu::{CoreRegisters, CpuFeatures};
pub(crate) use self::error::Error;
pub(crate) use self::kvm::{DEVICE as KVM_DEVICE, Device as KvmDevice, MOST_CPUS};
pub(crate) use self::machine::{Config, Machine, Outlets};
pub(crate) use self::memory::{Backing, Snapshot};
pub(crate) use self::rtc_time::{RtcBase, RtcSource, RtcTime};
pub(crate) use self::vcpu_run::{DebugHit, GuestEvents, GuestExit, Onward};
pub(crate) use self::watchdogs::Watchdogs;
