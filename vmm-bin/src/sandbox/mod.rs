//! What the threads may ask of the kernel once the VM is set up: no more than they need to go on.
//!
//! ```text
//!   start-up            | vCPU threads, each      | main loop           | guest runs ... tear-down
//!   opens everything    | lists::VCPU installed   | lists::MAIN_LOOP    | nothing can be opened
//! ```
//!
//! A guest that breaks out of a device, or a client that breaks the monitor's parser, finds itself
//! in a thread that can open no file, make no socket or thread, execute nothing and map no code.
//! A system call that is not in the thread's list ends the process with SIGSYS before it does
//! anything.
//!
//! A filter is for ever, and so the lists hold what the tear-down needs too. A filter cannot look at
//! a path: what the main loop may do by path (remove files, read links, look at attributes) it may
//! do with any path that the user may.
//!
//! The rule that must never be broken: no vCPU enters the guest before its thread has its filter.

mod lists;
mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};
use vcpu::{VcpuError, VcpuSet};

use crate::cli::Seccomp;
use crate::platform::Vcpu;
use lists::{Condition, Role};

/// How long the vCPU threads may take to put their filters on. They are paused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the threads are not confined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The kernel does not take a filter.
    #[error(
        "--seccomp: the kernel takes no filter of system calls: {0}; \
         it needs CONFIG_SECCOMP_FILTER, without which only --seccomp off will do"
    )]
    Refused(seccompiler::Error),
    /// A list makes no filter, which a test of this module excludes.
    #[error("--seccomp: there is no filter of system calls: {0}; --seccomp off does without")]
    Filter(#[from] seccompiler::BackendError),
    /// A vCPU's thread did not get to it.
    #[error("--seccomp: {0}; try again on a host that is less busy")]
    Vcpu(#[from] VcpuError),
}

/// Confines the threads of `vcpus`, which are paused, and then the calling one: the main loop's.
/// There is no way back.
///
/// # Errors
/// See [`Error`]; then some threads may be confined.
pub(crate) fn enter(mode: Seccomp, vcpus: &VcpuSet<Vcpu>) -> Result<(), Error> {
    let otherwise = match mode {
        Seccomp::On => SeccompAction::KillProcess,
        Seccomp::Log => SeccompAction::Log,
        Seccomp::Off => return Ok(()),
    };
    let filter = Arc::new(compile(&lists::VCPU, otherwise.clone())?);
    let deadline = Instant::now().checked_add(PATIENCE);
    for (_, installed) in vcpus.run_on_all(deadline, move |_| install(&filter)) {
        installed??;
    }
    install(&compile(&lists::MAIN_LOOP, otherwise)?)
}

/// Confines the calling thread, which does nothing but write to a file that is open.
///
/// # Errors
/// See [`Error`].
pub(crate) fn enter_writer(mode: Seccomp) -> Result<(), Error> {
    match mode {
        Seccomp::On => install(&compile(&lists::WRITER, SeccompAction::KillProcess)?),
        Seccomp::Log => install(&compile(&lists::WRITER, SeccompAction::Log)?),
        Seccomp::Off => Ok(()),
    }
}

/// Makes a filter of a role's lists. What is not in them meets `otherwise`.
fn compile(role: &Role, otherwise: SeccompAction) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allowed in role.calls.iter().copied().flatten() {
        let rules = rules.entry(allowed.call).or_default();
        // A call without a rule is allowed whatever its arguments are.
        if !allowed.conditions.is_empty() {
            let conditions = allowed.conditions.iter().copied().map(condition);
            rules.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
        }
    }
    for request in role.requests {
        let number = argument(1, SeccompCmpOp::Eq, request())?;
        let requests = rules.entry(libc::SYS_ioctl).or_default();
        requests.push(SeccompRule::new(vec![number])?);
    }
    let arch = TargetArch::x86_64;
    let filter = SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

fn condition(condition: Condition) -> Result<SeccompCondition, Error> {
    let bits = |value: i32| u64::from(value.cast_unsigned());
    match condition {
        Condition::Is(index, value) => argument(index, SeccompCmpOp::Eq, bits(value)),
        Condition::Has(index, mask) => {
            argument(index, SeccompCmpOp::MaskedEq(bits(mask)), bits(mask))
        }
        Condition::Lacks(index, mask) => argument(index, SeccompCmpOp::MaskedEq(bits(mask)), 0),
        Condition::OwnProcess(index) => {
            argument(index, SeccompCmpOp::Eq, u64::from(std::process::id()))
        }
    }
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    let width = SeccompCmpArgLen::Dword;
    Ok(SeccompCondition::new(index, width, operator, value)?)
}

/// Puts a filter on the calling thread.
fn install(filter: &BpfProgram) -> Result<(), Error> {
    apply_filter(filter).map_err(Error::Refused)
}

#[cfg(test)]
mod tests;
