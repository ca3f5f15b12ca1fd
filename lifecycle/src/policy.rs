//! What is to happen when the guest reboots, powers off, panics or hangs.
//!
//! The rule that must never be broken: only the person who runs the machine changes a policy. A
//! request that must power the machine off carries that itself (except under
//! [`Compat::Qemu7_2`](crate::Compat), where a signal and `quit` rewrite the shutdown action).

use std::sync::atomic::{AtomicU8, Ordering};

use crate::names::qapi_enum;

qapi_enum! {
    /// What to do when the guest reboots (QEMU, `RebootAction`).
    "reboot action"
    pub enum RebootAction {
        /// Reset the machine.
        Reset = "reset",
        /// Shut it down, as the shutdown action says.
        Shutdown = "shutdown",
    }
}

qapi_enum! {
    /// What to do when the guest powers off (QEMU, `ShutdownAction`).
    "shutdown action"
    pub enum ShutdownAction {
        /// End the process.
        Poweroff = "poweroff",
        /// Stop the machine and keep it.
        Pause = "pause",
    }
}

qapi_enum! {
    /// What to do when the guest panics (QEMU, `PanicAction`).
    "panic action"
    pub enum PanicAction {
        /// Stop the machine.
        Pause = "pause",
        /// Shut it down, as the shutdown action says.
        Shutdown = "shutdown",
        /// Shut it down, and end the process with a failure.
        ExitFailure = "exit-failure",
        /// Say so, and let the guest go on.
        None = "none",
    }
}

qapi_enum! {
    /// What to do when the watchdog expires (QEMU, `WatchdogAction`).
    "watchdog action"
    pub enum WatchdogAction {
        /// Reset the machine.
        Reset = "reset",
        /// Press the power button.
        Shutdown = "shutdown",
        /// Power the machine off without asking the guest.
        Poweroff = "poweroff",
        /// Stop the machine.
        Pause = "pause",
        /// Say so on the log.
        Debug = "debug",
        /// Nothing but the event.
        None = "none",
        /// Inject a non-maskable interrupt.
        InjectNmi = "inject-nmi",
    }
}

/// The four actions at one moment. The default is QEMU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Actions {
    /// On a reboot.
    pub reboot: RebootAction,
    /// On a shutdown.
    pub shutdown: ShutdownAction,
    /// On a guest panic.
    pub panic: PanicAction,
    /// On an expired watchdog.
    pub watchdog: WatchdogAction,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            reboot: RebootAction::Reset,
            shutdown: ShutdownAction::Poweroff,
            panic: PanicAction::Shutdown,
            watchdog: WatchdogAction::Reset,
        }
    }
}

/// A change to some of the actions: the arguments of QMP's `set-action`. `None` leaves one alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ActionChange {
    /// The new reboot action.
    pub reboot: Option<RebootAction>,
    /// The new shutdown action.
    pub shutdown: Option<ShutdownAction>,
    /// The new panic action.
    pub panic: Option<PanicAction>,
    /// The new watchdog action.
    pub watchdog: Option<WatchdogAction>,
}

/// The actions, changeable at run time.
///
/// Every method may be called on any thread and in a signal handler: each action is one atomic.
/// Two actions that are changed together are not read together; a decision reads the ones that it
/// needs when it needs them.
#[derive(Debug)]
pub struct Policy {
    reboot: AtomicU8,
    shutdown: AtomicU8,
    panic: AtomicU8,
    watchdog: AtomicU8,
}

impl Policy {
    /// A policy with these actions.
    #[must_use]
    pub const fn new(actions: Actions) -> Self {
        Self {
            reboot: AtomicU8::new(actions.reboot.index()),
            shutdown: AtomicU8::new(actions.shutdown.index()),
            panic: AtomicU8::new(actions.panic.index()),
            watchdog: AtomicU8::new(actions.watchdog.index()),
        }
    }

    /// The actions now.
    #[must_use]
    pub fn actions(&self) -> Actions {
        let default = Actions::default();
        let read = |cell: &AtomicU8| cell.load(Ordering::Acquire);
        Actions {
            reboot: RebootAction::from_index(read(&self.reboot)).unwrap_or(default.reboot),
            shutdown: ShutdownAction::from_index(read(&self.shutdown)).unwrap_or(default.shutdown),
            panic: PanicAction::from_index(read(&self.panic)).unwrap_or(default.panic),
            watchdog: WatchdogAction::from_index(read(&self.watchdog)).unwrap_or(default.watchdog),
        }
    }

    /// Changes the reboot action.
    pub fn set_reboot(&self, action: RebootAction) {
        self.reboot.store(action.index(), Ordering::Release);
    }

    /// Changes the shutdown action.
    pub fn set_shutdown(&self, action: ShutdownAction) {
        self.shutdown.store(action.index(), Ordering::Release);
    }

    /// Changes the panic action.
    pub fn set_panic(&self, action: PanicAction) {
        self.panic.store(action.index(), Ordering::Release);
    }

    /// Changes the watchdog action.
    pub fn set_watchdog(&self, action: WatchdogAction) {
        self.watchdog.store(action.index(), Ordering::Release);
    }

    /// Changes several actions, in the order of QMP's `set-action`: reboot, panic, watchdog,
    /// shutdown. An empty change is legal.
    pub fn change(&self, change: ActionChange) {
        if let Some(action) = change.reboot {
            self.set_reboot(action);
        }
        if let Some(action) = change.panic {
            self.set_panic(action);
        }
        if let Some(action) = change.watchdog {
            self.set_watchdog(action);
        }
        if let Some(action) = change.shutdown {
            self.set_shutdown(action);
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(Actions::default())
    }
}
