//! What a VMM and its VM consist of: the queries that tools send when they connect.
//!
//! ```text
//!   query-chardev, query-iothreads, ... ──▶ Inventory (the VMM's) ──▶ typed entries ──▶ reply
//! ```
//!
//! The rule that must never be broken: **nothing is made up**. Each answer is what the VMM's
//! [`Inventory`] says; what it says nothing of is an empty list.
//!
//! | command | answer |
//! |---|---|
//! | `query-memory-size-summary` | [`Inventory::memory`] |
//! | `query-chardev` | [`Inventory::chardevs`] |
//! | `query-iothreads` | [`Inventory::iothreads`] |
//! | `query-block` | an empty list; a VMM with disks registers its own |
//! | `query-machines` | [`Inventory::machines`] |
//! | `query-cpu-definitions` | [`Inventory::cpu_models`] |
//! | `query-command-line-options` | [`Inventory::command_line_options`], all or one |
//! | `qom-list-types` | [`Inventory::object_types`], by what they implement |
//! | `device-list-properties` | the properties of one of them |
//! | `query-yank`, `yank` | nothing to yank; out of band |
//!
//! There is no `device_add` and no `device_del`: a VMM that can plug something registers its own.
//!
//! Source: QEMU, `qapi/char.json`, `qapi/misc.json`, `qapi/block-core.json`, `qapi/machine.json`,
//! `qapi/machine-target.json`, `qapi/qom.json`, `qapi/qdev.json`, `qapi/yank.json`.

mod commands;
mod types;
mod yank;

pub use commands::register;
pub use types::{
    Chardev, CommandLineOption, CommandLineParameter, CommandLineParameterType, CpuModel, IoThread,
    MachineType, MemorySize, ObjectType, Property,
};

/// What the queries need of a VMM. All are asked on the main loop's thread, and must not block.
pub trait Inventory {
    /// The guest's memory.
    fn memory(&self) -> MemorySize;

    /// The character devices: consoles, monitors.
    fn chardevs(&self) -> Vec<Chardev> {
        Vec::new()
    }

    /// The threads that do I/O for devices and have a name that a client may use.
    fn iothreads(&self) -> Vec<IoThread> {
        Vec::new()
    }

    /// The kinds of machines that the VMM can build.
    fn machines(&self) -> Vec<MachineType> {
        Vec::new()
    }

    /// The CPU models that the VMM can offer a guest.
    fn cpu_models(&self) -> Vec<CpuModel> {
        Vec::new()
    }

    /// The command line's options.
    fn command_line_options(&self) -> Vec<CommandLineOption> {
        Vec::new()
    }

    /// The types of objects that a user can create, and those that they descend from. What descends
    /// from `device` is a device. Each name is there once.
    fn object_types(&self) -> Vec<ObjectType> {
        Vec::new()
    }
}
