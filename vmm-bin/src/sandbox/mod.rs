//! What the threads may do once the VM is set up: no more than they need to go on.
//!
//! ```text
//!   start-up            | vCPU threads, each      | main loop           | guest runs ... tear-down
//!   opens everything    | Landlock, lists::VCPU   | Landlock, lists::   | nothing can be opened
//!                       |                         |   MAIN_LOOP         |
//! ```
//!
//! A guest that breaks out of a device, or a client that breaks the monitor's parser, finds itself
//! in a thread that can open no file, make no socket or thread, execute nothing and map no code.
//! A system call that is not in the thread's list ends the process with SIGSYS before it does
//! anything.
//!
//! A filter cannot look at a path. What the main loop may do by path (remove files) it may do only
//! where its own files are: that is Landlock's part, as far as the kernel has it.
//!
//! Both are for ever, and so they allow what the tear-down needs too.
//!
//! The rule that must never be broken: no vCPU enters the guest before its thread is confined.

mod filter;
mod landlock;
mod lists;
mod query;
mod requests;

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::debug;
use seccompiler::{BpfProgram, SeccompAction};
use vcpu::{VcpuError, VcpuSet};

use crate::cli::{Landlock, Seccomp};
use crate::platform::Vcpu;
use crate::signals;
use filter::{compile, install};
use landlock::Rules;
use lists::{Allowed, Role};

pub(crate) use landlock::Paths;
pub(crate) use query::{Sandboxed, Status, register};

/// How long the vCPU threads may take to be confined. They are paused.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the threads are not confined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// There is no filter of system calls.
    #[error(transparent)]
    Filter(#[from] filter::Error),
    /// Landlock does not do what is wanted.
    #[error(transparent)]
    Landlock(#[from] landlock::Error),
    /// A vCPU's thread did not get to it.
    #[error("the sandbox: {0}; try again on a host that is less busy")]
    Vcpu(#[from] VcpuError),
}

/// What is wanted of the sandbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// The filters of system calls.
    pub(crate) seccomp: Seccomp,
    /// The restrictions to files, network, devices and processes.
    pub(crate) landlock: Landlock,
    /// Firmware may read files.
    pub(crate) firmware: bool,
    /// The log goes to a stream that is shared with others, and may block.
    pub(crate) shared_log: bool,
}

impl Wanted {
    /// What a vCPU's thread may do in this VM and not in every one.
    fn besides(self) -> Vec<&'static [Allowed]> {
        let firmware = self.firmware.then_some(lists::FIRMWARE);
        let shared_log = self.shared_log.then_some(lists::LOOK_FIRST);
        firmware.into_iter().chain(shared_log).collect()
    }
}

/// Confines the threads of `vcpus`, which are paused, and the calling one, the main loop's, to
/// which `paths` stay open. There is no way back.
///
/// # Errors
/// See [`Error`]; then some threads may be confined.
pub(crate) fn enter(
    wanted: Wanted,
    vcpus: &VcpuSet<Vcpu>,
    paths: &Paths<'_>,
) -> Result<Status, Error> {
    let besides = wanted.besides();
    let of_vcpu = Confinement::with(wanted, &lists::VCPU, &besides, &Paths::default())?;
    let of_vcpu = Arc::new(of_vcpu);
    let refused = Arc::new(Mutex::new(None));
    for vcpu in vcpus.vcpus().iter() {
        let (of_vcpu, refused) = (Arc::clone(&of_vcpu), Arc::clone(&refused));
        vcpu.queue_on(move |_| keep(&refused, of_vcpu.enter_beside().err()))?;
    }
    // The kernel takes its time to compile a filter: all threads let it do so at once.
    let status = Confinement::new(wanted, &lists::MAIN_LOOP, paths)?.enter()?;
    let deadline = Instant::now().checked_add(PATIENCE);
    // Queued behind the confinement, this comes back after it.
    for (_, passed) in vcpus.run_on_all(deadline, |_| ()) {
        passed?;
    }
    if let Some(error) = error_in(&refused).take() {
        return Err(error);
    }
    landlock::check(wanted.landlock, &status.landlock)?;
    debug!(
        "sandbox: seccomp {:?}, Landlock {}",
        status.seccomp, status.landlock
    );
    Ok(status)
}

/// Keeps an error for who asked.
fn keep(refused: &Mutex<Option<Error>>, error: Option<Error>) {
    if error.is_some() {
        *error_in(refused) = error;
    }
}

fn error_in(refused: &Mutex<Option<Error>>) -> MutexGuard<'_, Option<Error>> {
    refused.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Confines the calling thread, which does nothing but write to a file that is open.
///
/// # Errors
/// See [`Error`].
pub(crate) fn enter_writer(wanted: Wanted) -> Result<(), Error> {
    Confinement::new(wanted, &lists::WRITER, &Paths::default())?.enter_beside()?;
    Ok(())
}

/// Confines the calling thread, which writes dumps: it may make files beneath `directory`.
///
/// # Errors
/// See [`Error`].
pub(crate) fn enter_dumper(wanted: Wanted, directory: BorrowedFd<'_>) -> Result<(), Error> {
    let mut paths = Paths::default();
    paths.allow_beneath(directory);
    Confinement::new(wanted, &lists::DUMPER, &paths)?.enter_beside()?;
    Ok(())
}

/// Confines the calling thread, which reads what processes are called. Landlock would keep that from
/// it, and it has next to nothing else: see [`lists`].
///
/// # Errors
/// See [`Error`].
pub(crate) fn enter_sender(wanted: Wanted) -> Result<(), Error> {
    let wanted = Wanted {
        landlock: Landlock::Off,
        ..wanted
    };
    Confinement::new(wanted, &lists::SENDER, &Paths::default())?.enter_beside()?;
    Ok(())
}

/// What is put on the threads of one kind.
struct Confinement {
    seccomp: Seccomp,
    filter: Option<BpfProgram>,
    rules: Rules,
}

impl Confinement {
    fn new(wanted: Wanted, role: &Role, paths: &Paths<'_>) -> Result<Self, Error> {
        Self::with(wanted, role, &[], paths)
    }

    /// With system calls that the role does not have in every VM.
    fn with(
        wanted: Wanted,
        role: &Role,
        besides: &[&'static [Allowed]],
        paths: &Paths<'_>,
    ) -> Result<Self, Error> {
        let otherwise = match wanted.seccomp {
            Seccomp::On => Some(SeccompAction::KillProcess),
            Seccomp::Log => Some(SeccompAction::Log),
            Seccomp::Off => None,
        };
        Ok(Self {
            seccomp: wanted.seccomp,
            filter: otherwise
                .map(|action| compile(role, besides, action))
                .transpose()?,
            rules: Rules::new(wanted.landlock, paths)?,
        })
    }

    /// Confines the calling thread, which is not the main loop's: it also leaves the signals that end
    /// the program to that one, which may do what their handler does.
    fn enter_beside(&self) -> Result<Status, Error> {
        signals::leave_to_the_main_loop();
        self.enter()
    }

    /// Confines the calling thread. The filter comes last: it does not let Landlock through.
    fn enter(&self) -> Result<Status, Error> {
        let landlock = self.rules.restrict_thread()?;
        if let Some(filter) = &self.filter {
            install(filter)?;
        }
        Ok(Status {
            seccomp: self.seccomp,
            landlock,
        })
    }
}

#[cfg(test)]
mod tests;
