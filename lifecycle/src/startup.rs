//! Start-up: what comes up before what, as one table, and its orderly undoing.
//!
//! ```text
//!  phase 1 ─▶ phase 2 ─▶ phase 3 ─▶ … ─▶ Started
//!    ▲          ▲          │ fails
//!    └── undo ──┴── undo ──┘
//! ```
//!
//! The rule that must never be broken: whatever came up is undone, the last first, when something
//! after it fails.

use core::fmt;

use crate::names::qapi_enum;

qapi_enum! {
    /// The phases of the start-up in their order: those of QEMU's `qemu_init_subsystems`, by the
    /// names of its functions. A VMM that has nothing for a phase leaves it empty.
    "start-up phase"
    pub enum StartupPhase {
        /// Standard output, by lines: messages interleave as they are written.
        LineBuffering = "os_set_line_buffering",
        /// Tracing: everything later may trace.
        Trace = "module_init_trace",
        /// The list of vCPUs, before any vCPU.
        CpuList = "qemu_init_cpu_list",
        /// What vCPU threads wait on.
        CpuLoop = "qemu_init_cpu_loop",
        /// From here on, set-up counts as the main loop.
        MainThread = "qemu_mutex_lock_iothread",
        /// Types, before anything is made of them.
        Types = "module_init_qom",
        /// Migration.
        Migration = "module_init_migration",
        /// Those that hear of a migration before it copies.
        Precopy = "precopy_infrastructure_init",
        /// Those that hear of one that copies afterwards.
        Postcopy = "postcopy_infrastructure_init",
        /// What monitors share: options make monitors.
        Monitor = "monitor_init_globals",
        /// Cryptography: secrets, TLS, encrypted disks.
        Crypto = "crypto_init",
        /// Signals that must be set before there is a socket.
        EarlySignals = "os_setup_early_signal_handling",
        /// Storage: options make drives.
        Storage = "bdrv_init_with_whitelist",
        /// Sockets.
        Sockets = "socket_init",
    }
}

/// What can be done in a phase, and undone.
struct Task<E> {
    phase: StartupPhase,
    start: Box<dyn FnOnce() -> Result<(), E>>,
    undo: Box<dyn FnOnce()>,
}

/// A start-up that is being put together.
pub struct Startup<E> {
    tasks: Vec<Task<E>>,
}

/// A phase of the start-up failed. What had come up before it has been undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupFailed<E> {
    /// The phase.
    pub phase: StartupPhase,
    /// Why.
    pub error: E,
}

impl<E: fmt::Display> fmt::Display for StartupFailed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "start-up failed in {}: {}", self.phase, self.error)
    }
}

impl<E: core::error::Error + 'static> core::error::Error for StartupFailed<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl<E> Startup<E> {
    /// A start-up whose phases are all empty.
    #[must_use]
    pub const fn new() -> Self {
        Self { tasks: Vec::new() }
    }

    /// Adds to a phase. Within a phase, the order is that of the adding.
    #[must_use]
    pub fn with(
        mut self,
        phase: StartupPhase,
        start: impl FnOnce() -> Result<(), E> + 'static,
        undo: impl FnOnce() + 'static,
    ) -> Self {
        self.tasks.push(Task {
            phase,
            start: Box::new(start),
            undo: Box::new(undo),
        });
        self
    }

    /// Goes through the phases; `enter` is told of each, empty or not.
    ///
    /// # Errors
    ///
    /// [`StartupFailed`], the first; everything is as it was.
    pub fn run(mut self, mut enter: impl FnMut(StartupPhase)) -> Result<Started, StartupFailed<E>> {
        // Stable: the order within a phase stays.
        self.tasks.sort_by_key(|task| task.phase);
        let mut tasks = self.tasks.into_iter().peekable();
        let mut started = Started { undo: Vec::new() };
        for phase in StartupPhase::ALL.iter().copied() {
            enter(phase);
            while let Some(task) = tasks.next_if(|task| task.phase == phase) {
                match (task.start)() {
                    Ok(()) => started.undo.push(task.undo),
                    Err(error) => {
                        started.undo();
                        return Err(StartupFailed { phase, error });
                    }
                }
            }
        }
        Ok(started)
    }
}

impl<E> Default for Startup<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Startup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = self.tasks.iter().map(|task| task.phase.as_str());
        f.debug_list().entries(phases).finish()
    }
}

/// A start-up that is complete.
#[must_use = "a start-up is kept, or undone"]
pub struct Started {
    undo: Vec<Box<dyn FnOnce()>>,
}

impl Started {
    /// Undoes the start-up, the last first.
    pub fn undo(self) {
        for undo in self.undo.into_iter().rev() {
            undo();
        }
    }

    /// Leaves everything up: the tear-down will take care of it.
    pub fn keep(self) {
        drop(self);
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("tasks", &self.undo.len())
            .finish()
    }
}
