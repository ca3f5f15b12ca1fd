//! What a client can ask about the sandbox: `x-query-sandbox`.

use monitor::{CommandError, NoArguments, Registry};

use super::landlock::{Achieved, Restriction};
use crate::cli::Seccomp;

/// How the threads of this program are confined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// What the filters of system calls do.
    pub(crate) seccomp: Seccomp,
    /// What Landlock restricts.
    pub(crate) landlock: Achieved,
}

/// A context whose program has a sandbox.
pub(crate) trait Sandboxed {
    /// How it is confined; `None` before it is.
    fn sandbox(&self) -> Option<&Status>;
}

monitor::qapi! {
    /// What a system call does that its thread has no use for.
    #[derive(Debug, Clone, Copy, serde::Serialize)]
    enum SandboxSeccomp {
        /// It ends the program.
        On,
        /// What it always does.
        Off,
        /// The same, and the kernel logs it.
        Log,
    }
}

monitor::qapi! {
    /// What is restricted by Landlock.
    #[derive(Debug, Clone, serde::Serialize)]
    struct SandboxLandlock {
        /// The version of the kernel's interface, or 0.
        abi: i32,
        /// What is restricted.
        restricts: Vec<Restriction>,
    }
}

monitor::qapi! {
    /// How the threads are confined.
    #[derive(Debug, Clone, serde::Serialize)]
    struct SandboxInfo {
        /// The filters of system calls.
        seccomp: SandboxSeccomp,
        /// The restrictions to files, network, devices and processes.
        landlock: SandboxLandlock,
    }
}

/// Registers the query.
pub(crate) fn register<C: Sandboxed + 'static>(registry: &mut Registry<C>) {
    registry.described("x-query-sandbox", query::<C>);
}

fn query<C: Sandboxed>(context: &mut C, _: NoArguments) -> Result<SandboxInfo, CommandError> {
    let status = context.sandbox();
    let status = status.ok_or_else(|| CommandError::generic("the sandbox is not entered yet"))?;
    Ok(SandboxInfo {
        seccomp: match status.seccomp {
            Seccomp::On => SandboxSeccomp::On,
            Seccomp::Off => SandboxSeccomp::Off,
            Seccomp::Log => SandboxSeccomp::Log,
        },
        landlock: SandboxLandlock {
            abi: status.landlock.abi,
            restricts: status.landlock.restricts.clone(),
        },
    })
}
