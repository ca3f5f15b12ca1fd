//! Everything that can go wrong, in one type, and the two reports that it carries.

use std::fmt;
use std::io;

use crate::run::VcpuId;
use crate::word::Phase;

/// Why a vCPU failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// For a person: what happened.
    pub message: String,
}

/// The kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The hypervisor could not run the vCPU.
    Run,
    /// The exit handler gave up.
    Handler,
    /// The exit handler, or queued work, panicked.
    Panic,
}

impl Failure {
    /// The hypervisor could not run the vCPU.
    pub fn run(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Run,
            message: message.into(),
        }
    }

    /// The exit handler gave up.
    pub fn handler(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Handler,
            message: message.into(),
        }
    }

    pub(crate) fn panic(what: &str, payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self {
            kind: FailureKind::Panic,
            message: format!("{what} panicked: {text}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A vCPU that did not do in time what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Which vCPU.
    pub id: VcpuId,
    /// Which incarnation of it: see [`crate::VcpuThread::incarnation`].
    pub incarnation: u64,
    /// Where its thread was: [`Phase::Guest`] is a lost or late kick, [`Phase::Host`] an exit handler that does not
    /// return.
    pub phase: Phase,
    /// The name of its last exit, and the port or guest physical address, if any.
    pub last_exit: Option<(&'static str, Option<u64>)>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.phase {
            Phase::Guest => "in the guest",
            Phase::Host => "in its exit handler",
            Phase::Idle => "idle",
            Phase::Gone => "gone",
        };
        write!(f, "{} {place}", self.id)?;
        match self.last_exit {
            None => f.write_str(" (no exit so far)"),
            Some((name, None)) => write!(f, " (last exit: {name})"),
            Some((name, Some(at))) => write!(f, " (last exit: {name} at {at:#x})"),
        }
    }
}

/// What can go wrong with a vCPU or a set of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VcpuError {
    /// Not every vCPU did in time what it was asked for. The request was taken back: all others run on as if it
    /// had not been made.
    #[error("not in time: {}", list(.stuck))]
    Deadline {
        /// The vCPUs that did not.
        stuck: Vec<Stuck>,
    },
    /// 4095 pauses are in force: guards are being kept and never dropped.
    #[error("4095 pauses are in force already: a pause guard is being leaked")]
    TooManyPauses,
    /// There is no vCPU of this number in the set.
    #[error("there is no {0}")]
    NoSuchVcpu(VcpuId),
    /// There is a vCPU of this number already; remove it first, even if it has exited.
    #[error("{0} exists already: remove it first")]
    IdInUse(VcpuId),
    /// The vCPU's thread has ended, or ended before it got to the work.
    #[error("{0} has exited")]
    Exited(VcpuId),
    /// A vCPU's own thread asked for what it would have to wait for itself.
    #[error("called on the thread of {0}, which would wait for itself")]
    OwnThread(VcpuId),
    /// 1024 closures are waiting for this vCPU.
    #[error("1024 closures are waiting for {0} already")]
    QueueFull(VcpuId),
    /// The closure panicked on the vCPU's thread.
    #[error("on {id}: {failure}")]
    Panicked {
        /// Where.
        id: VcpuId,
        /// The panic's message.
        failure: Failure,
    },
    /// The operation needs the vCPUs paused.
    #[error("the vCPUs are not paused")]
    NotPaused,
    /// The vCPU's registers could not be read or written.
    #[error("{id}: {message}")]
    Registers {
        /// Which vCPU.
        id: VcpuId,
        /// The hypervisor's error.
        message: String,
    },
    /// The thread could not be started.
    #[error("cannot start the thread of {id}: {source}")]
    Spawn {
        /// Which vCPU.
        id: VcpuId,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a pause failed: [`VcpuError::Deadline`] with the stuck vCPUs, or [`VcpuError::TooManyPauses`].
pub type PauseError = VcpuError;

fn list(stuck: &[Stuck]) -> String {
    stuck
        .iter()
        .map(Stuck::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
