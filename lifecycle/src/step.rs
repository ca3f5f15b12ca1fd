//! What a decision is made of: the phases of a turn, and the steps that a machine is led through.
//!
//! ```text
//!  one turn:  reports ─ debug ─ suspend ─ shutdown ─ outcome ─ reset ─ outcome ─ wakeup ─ powerdown ─ vmstop
//!                                                     └─▶ exit
//! ```
//!
//! The rule that must never be broken: a step says what is done, never whether. Whether is
//! decided before, in [`decide`](crate::decide).

use core::fmt;

use runstate::{InvalidTransition, RunState};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::latch::{ShutdownRequest, Signal};
use crate::names::UnknownName;
use crate::panic::GuestPanicAction;
use crate::policy::WatchdogAction;

/// A phase of a main-loop turn. Latches are looked at afresh in each, so that what one phase
/// posts a later one of the same turn serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// What vCPU threads and timers told of the guest: panics, crash kernels, an expired watchdog,
    /// that it saved itself to disk or asks to be shut down.
    Reports,
    /// A stop for the debugger.
    Debug,
    /// ACPI S3.
    Suspend,
    /// A shutdown is announced.
    Shutdown,
    /// The process ends, or the machine stops: as the policy says after everybody was told.
    ShutdownOutcome,
    /// The machine is reset.
    Reset,
    /// The state after a reset.
    ResetOutcome,
    /// The guest is woken.
    Wakeup,
    /// The power button.
    Powerdown,
    /// A stop.
    VmStop,
}

impl Phase {
    /// The phases in their order.
    pub const ALL: &'static [Self] = &[
        Self::Reports,
        Self::Debug,
        Self::Suspend,
        Self::Shutdown,
        Self::ShutdownOutcome,
        Self::Reset,
        Self::ResetOutcome,
        Self::Wakeup,
        Self::Powerdown,
        Self::VmStop,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reports => "reports",
            Self::Debug => "debug",
            Self::Suspend => "suspend",
            Self::Shutdown => "shutdown",
            Self::ShutdownOutcome => "shutdown-outcome",
            Self::Reset => "reset",
            Self::ResetOutcome => "reset-outcome",
            Self::Wakeup => "wakeup",
            Self::Powerdown => "powerdown",
            Self::VmStop => "vmstop",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl core::str::FromStr for Phase {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        const NAMES: &[&str] = &[
            "reports",
            "debug",
            "suspend",
            "shutdown",
            "shutdown-outcome",
            "reset",
            "reset-outcome",
            "wakeup",
            "powerdown",
            "vmstop",
        ];
        let found = Self::ALL.iter().find(|phase| phase.as_str() == name);
        found.copied().ok_or(UnknownName {
            what: "phase",
            names: NAMES,
        })
    }
}

/// What a decision knows of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Situation {
    /// The run state.
    pub state: RunState,
    /// The machine was suspended when it was stopped, and will be again when it goes on.
    pub was_suspended: bool,
    /// Only a reset lets the machine run again, also where the state does not say so.
    pub needs_reset: bool,
}

impl Situation {
    /// A machine in this state, of which nothing else is remembered.
    #[must_use]
    pub const fn new(state: RunState) -> Self {
        Self {
            state,
            was_suspended: false,
            needs_reset: false,
        }
    }

    /// The situation after a change of the state: a pure function. Under `Qemu7_2` nothing but
    /// the state is remembered.
    #[must_use]
    pub const fn entering(self, to: RunState, compat: Compat) -> Self {
        if matches!(compat, Compat::Qemu7_2) {
            return Self { state: to, ..self };
        }
        let was_suspended = match (self.state, to) {
            (_, RunState::Running | RunState::Suspended | RunState::Prelaunch) => false,
            (RunState::Suspended, _) => true,
            (RunState::Running, _) => false,
            _ => self.was_suspended,
        };
        Self {
            state: to,
            was_suspended,
            needs_reset: self.needs_reset || to.needs_reset(),
        }
    }

    /// The situation after this step.
    #[must_use]
    pub const fn after(self, step: Step, compat: Compat) -> Self {
        match step {
            Step::SetState(to) => self.entering(to, compat),
            Step::Forget => Self {
                was_suspended: false,
                needs_reset: false,
                ..self
            },
            Step::RequireReset => Self {
                needs_reset: true,
                ..self
            },
            _ => self,
        }
    }

    /// Only a reset lets the machine run again.
    #[must_use]
    pub const fn reset_required(self) -> bool {
        self.needs_reset || self.state.needs_reset()
    }
}

/// What was found in the latches. A latch that is held back by a replay is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Latched {
    /// A vCPU thread reported a guest panic.
    pub panicked: bool,
    /// A vCPU thread reported a loaded crash kernel.
    pub crashloaded: bool,
    /// A vCPU thread reported that the guest has saved itself to disk.
    pub suspend_disk: bool,
    /// A vCPU thread reported that the guest asks for a shutdown through pvpanic.
    pub pvshutdown: bool,
    /// A watchdog expired.
    pub watchdog: bool,
    /// A stop for the debugger.
    pub debug: bool,
    /// A suspend.
    pub suspend: bool,
    /// A shutdown.
    pub shutdown: Option<ShutdownRequest>,
    /// A signal to report.
    pub signal: Option<Signal>,
    /// A reset.
    pub reset: Option<ShutdownCause>,
    /// A wakeup.
    pub wakeup: Option<WakeupReason>,
    /// The power button.
    pub powerdown: bool,
    /// A stop.
    pub vmstop: Option<RunState>,
}

/// An event without the information that a guest may have given with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// STOP.
    Stop,
    /// RESUME.
    Resume,
    /// SUSPEND.
    Suspend,
    /// `SUSPEND_DISK`.
    SuspendDisk,
    /// WAKEUP.
    Wakeup,
    /// POWERDOWN.
    Powerdown,
    /// RESET.
    Reset(ShutdownCause),
    /// SHUTDOWN.
    Shutdown(ShutdownCause),
    /// `GUEST_PANICKED`.
    GuestPanicked(GuestPanicAction),
    /// `GUEST_CRASHLOADED`.
    GuestCrashloaded,
    /// `GUEST_PVSHUTDOWN`.
    GuestPvshutdown,
    /// WATCHDOG.
    Watchdog(WatchdogAction),
}

impl Notice {
    /// QAPI's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stop => "STOP",
            Self::Resume => "RESUME",
            Self::Suspend => "SUSPEND",
            Self::SuspendDisk => "SUSPEND_DISK",
            Self::Wakeup => "WAKEUP",
            Self::Powerdown => "POWERDOWN",
            Self::Reset(_) => "RESET",
            Self::Shutdown(_) => "SHUTDOWN",
            Self::GuestPanicked(_) => "GUEST_PANICKED",
            Self::GuestCrashloaded => "GUEST_CRASHLOADED",
            Self::GuestPvshutdown => "GUEST_PVSHUTDOWN",
            Self::Watchdog(_) => "WATCHDOG",
        }
    }
}

/// One of the lists that others register on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Listeners {
    /// Those that hear of a suspend.
    Suspend,
    /// Those that hear of a wakeup, with its reason.
    Wakeup(WakeupReason),
    /// Those that hear of the power button.
    Powerdown,
    /// Those that hear of a shutdown, with its cause.
    Shutdown(ShutdownCause),
}

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// The run state changes.
    SetState(RunState),
    /// The guest's clock stops.
    StopClock,
    /// The guest's clock goes on.
    StartClock,
    /// The vCPUs are parked. May fail, and ends the plan then.
    PauseVcpus,
    /// The vCPUs run on, if the machine is running then.
    ResumeVcpus,
    /// The accelerator gets ready for running.
    PrepareResume,
    /// The state-change handlers: ascending when running, else descending.
    Handlers {
        /// The direction.
        running: bool,
        /// The new state.
        state: RunState,
    },
    /// A list is notified.
    Notify(Listeners),
    /// An event.
    Emit(Notice),
    /// A signal is reported.
    ReportSignal(Signal),
    /// It is reported that the vCPUs cannot be reset.
    ReportNotResettable,
    /// Storage is drained and flushed.
    DrainFlush,
    /// The vCPUs' state is fetched.
    SynchronizeState,
    /// The machine, or its devices, are reset.
    ResetMachine(ShutdownCause),
    /// The vCPUs' state after the reset is written.
    SynchronizePostReset,
    /// Requests that the guest made before the reset are dropped.
    DropStale,
    /// The machine's own part of a wakeup.
    WakeMachine,
    /// The wakeup latch is cleared.
    ClearWakeup,
    /// What was remembered of the machine before the reset is forgotten.
    Forget,
    /// Only a reset lets the machine run again.
    RequireReset,
    /// A stop is latched.
    LatchVmStop(RunState),
    /// A shutdown is requested.
    RequestShutdown(ShutdownCause),
    /// A shutdown is requested that powers off whatever the shutdown action is.
    RequestPoweroff(ShutdownCause),
    /// A reset is requested; the reboot action may make a shutdown of it.
    RequestReset(ShutdownCause),
    /// The power button is pressed, later in the turn.
    RequestPowerdown,
    /// It is reported that the watchdog expired.
    ReportWatchdog,
    /// The guest gets a non-maskable interrupt.
    InjectNmi,
    /// What this phase found does not apply and is dropped.
    Drop(Phase),
    /// What this phase found goes back to its latch, for a later turn.
    Hold(Phase),
    /// The process ends. The plan ends here.
    Exit {
        /// With a failure, whatever the guest's exit code.
        failure: bool,
    },
}

/// A short plan: what a phase, a start or a stop does. At most [`Steps::CAPACITY`] steps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    steps: [Step; Self::CAPACITY],
    len: usize,
}

impl Steps {
    /// The longest plan there is. A test holds every decision against it.
    pub const CAPACITY: usize = 12;

    pub(crate) const fn new() -> Self {
        Self {
            steps: [Step::DrainFlush; Self::CAPACITY],
            len: 0,
        }
    }

    pub(crate) fn of(steps: &[Step]) -> Self {
        let mut plan = Self::new();
        for step in steps {
            plan.push(*step);
        }
        plan
    }

    pub(crate) fn push(&mut self, step: Step) {
        if let Some(slot) = self.steps.get_mut(self.len) {
            *slot = step;
            self.len = self.len.saturating_add(1);
        }
    }

    pub(crate) fn push_if(&mut self, condition: bool, step: Step) {
        if condition {
            self.push(step);
        }
    }

    /// The steps in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[Step] {
        self.steps.get(..self.len).unwrap_or_default()
    }

    /// There is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

impl<'a> IntoIterator for &'a Steps {
    type Item = Step;
    type IntoIter = core::iter::Copied<core::slice::Iter<'a, Step>>;

    fn into_iter(self) -> Self::IntoIter {
        self.as_slice().iter().copied()
    }
}

/// How a turn ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum End {
    /// The main loop goes on.
    Continue,
    /// The process ends.
    Exit {
        /// With a failure, whatever the guest's exit code.
        failure: bool,
    },
    /// Only under [`Compat::Qemu7_2`]: QEMU would have aborted here.
    Abort(InvalidTransition<RunState>),
}
