//! What can be refused, and what can fail.

use core::fmt;

use runstate::{InvalidTransition, RunState};

/// Something that a machine could not do. The text is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineError(Box<str>);

impl MachineError {
    /// An error with this text.
    #[must_use]
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into_boxed_str())
    }
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for MachineError {}

/// Why the lifecycle refused something, or could not do it. Where QEMU has a text for its
/// clients, `Display` is that text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The machine cannot go from its state to that one. Nothing was done, except under
    /// [`Compat::Qemu7_2`](crate::Compat::Qemu7_2), where QEMU would have ended here half-way.
    InvalidTransition(InvalidTransition<RunState>),
    /// A machine is not stopped by entering this state. Nothing was done.
    NotAStop(RunState),
    /// A machine is started and stopped; its state alone is not changed to or from one in which
    /// it is live. Nothing was done.
    BareChange(InvalidTransition<RunState>),
    /// Only a reset helps a machine in this state.
    ResetRequired,
    /// The source of a migration that is not over.
    MigrationNotFinalized,
    /// Only a suspended machine can be woken.
    NotSuspended,
    /// The machine has nothing that could wake it.
    WakeupNotSupported,
    /// The machine has nothing that takes a non-maskable interrupt.
    NmiNotSupported,
    /// The vCPUs could not be paused. The machine runs on.
    Pause(MachineError),
    /// The storage could not be flushed. The machine is stopped all the same.
    Flush(MachineError),
    /// The machine could not be reset. It is stopped with an internal error.
    Reset(MachineError),
    /// Callbacks asked for more changes at once than are kept.
    TooManyDeferred,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidTransition(error) => error.fmt(f),
            Self::NotAStop(state) => write!(f, "a machine is not stopped by being '{state}'"),
            Self::BareChange(InvalidTransition { from, to }) => write!(
                f,
                "a live machine is started and stopped, not set from '{from}' to '{to}'"
            ),
            Self::ResetRequired => f.write_str("Resetting the Virtual Machine is required"),
            Self::MigrationNotFinalized => f.write_str("Migration is not finalized yet"),
            Self::NotSuspended => f.write_str("Unable to wake up: guest is not in suspended state"),
            Self::WakeupNotSupported => {
                f.write_str("wake-up from suspend is not supported by this guest")
            }
            Self::NmiNotSupported => {
                f.write_str("this feature or command is not currently supported")
            }
            Self::Pause(error) => write!(f, "the vCPUs could not be paused: {error}"),
            Self::Flush(error) => write!(f, "the storage could not be flushed: {error}"),
            Self::Reset(error) => write!(f, "the machine could not be reset: {error}"),
            Self::TooManyDeferred => {
                f.write_str("callbacks asked for more changes of state than can wait")
            }
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::InvalidTransition(error) | Self::BareChange(error) => Some(error),
            Self::Pause(error) | Self::Flush(error) | Self::Reset(error) => Some(error),
            _ => None,
        }
    }
}

impl From<InvalidTransition<RunState>> for Error {
    fn from(error: InvalidTransition<RunState>) -> Self {
        Self::InvalidTransition(error)
    }
}
