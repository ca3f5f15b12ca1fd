//! QAPI's run-state module on the crate `lifecycle`: the commands that start, stop, reset and end a
//! VM, those that describe it, and its events. Feature `run-state`.
//!
//! ```text
//!   stop, cont ─────────────▶ Lifecycle: done at once, the event comes first, then the reply
//!   system_reset, quit, ... ─▶ Requests: latched; the VMM's turn serves them, the reply follows
//! ```
//!
//! The rule that must never be broken: **no command decides anything**. What is allowed in which
//! state, and the text of a refusal, comes from `lifecycle`'s own checks.
//!
//! | command | what it does |
//! |---|---|
//! | `query-status`, `query-current-machine` | the run state; whether the machine can be woken |
//! | `query-name`, `query-uuid`, `query-kvm`, `query-target`, `query-cpus-fast` | what the [`RunStateContext`] says |
//! | `stop`, `cont` | at once; harmless when there is nothing to do |
//! | `system_reset`, `system_powerdown`, `system_wakeup`, `quit` | latched for the VMM's turn |
//! | `set-action`, `watchdog-set-action` | changes the policy |
//! | `inject-nmi` | at once, through the machine |
//! | `human-monitor-command` | these and `info status`, `version`, `name`, `uuid`, `cpus`, `registers`, as text |
//!
//! Source: QEMU, `qapi/run-state.json`, `qapi/misc.json`, `qapi/machine.json`.

mod commands;
mod events;
mod human;
mod types;

pub use commands::register;
pub use human::console;
pub use types::{CpuInfo, Identity};

use crate::registry::CommandError;
use lifecycle::{EventSink, Lifecycle, Machine};

/// What the commands need of a VMM.
pub trait RunStateContext {
    /// The machine of the lifecycle.
    type Machine: Machine;
    /// Where the lifecycle reports; an [`EventSender`](crate::EventSender) is such a sink.
    type Sink: EventSink;

    /// The lifecycle that the commands drive.
    fn lifecycle(&self) -> &Lifecycle<Self::Machine, Self::Sink>;

    /// Name, UUID and architecture.
    fn identity(&self) -> Identity;

    /// The virtual CPUs, in the order of their index.
    fn cpus(&self) -> Vec<CpuInfo>;

    /// Whether the machine is not initialised yet. Most commands are refused then.
    fn in_preconfig(&self) -> bool {
        false
    }

    /// Whether the guest's memory is being dumped. `stop`, `cont` and `system_reset` are refused then.
    fn dump_in_progress(&self) -> bool {
        false
    }

    /// What a CPU's registers hold, as lines of text: `info registers`. `cpu` is the index of one of
    /// [`RunStateContext::cpus`]. QEMU's form is that of its `cpu_dump_state` for the architecture.
    ///
    /// # Errors
    ///
    /// The command is refused with this error. Without an implementation it is the text that QEMU has
    /// for what is not there.
    fn registers(&mut self, cpu: u32) -> Result<String, CommandError> {
        let _ = cpu;
        Err(CommandError::generic(
            "this feature or command is not currently supported",
        ))
    }

    /// Gets storage ready before `cont`: errors that made it stop are forgotten, images become
    /// active again.
    ///
    /// # Errors
    ///
    /// `cont` is refused with this error, and nothing was done.
    fn prepare_cont(&self) -> Result<(), CommandError> {
        Ok(())
    }
}
