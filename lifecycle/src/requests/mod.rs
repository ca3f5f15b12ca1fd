//! The request latches: how everybody but the main loop asks for something.
//!
//! ```text
//!  vCPU thread ─┐                                   ┌─▶ taken by the main loop, one phase
//!  worker ──────┼─▶ post: one atomic, then wake ──▶ │   of a turn after the other
//!  signal ──────┘                                   └─▶ not taken: stays for the next turn
//! ```
//!
//! The rule that must never be broken: a post neither blocks, nor allocates, nor locks, and what
//! it posts is visible before the wake-up. Every method here that posts may be called in a signal
//! handler.

mod reports;
mod sleep;
mod stop;

use core::fmt;
use std::sync::Arc;

use runstate::{RunState, RunStateCell, State as _};

use crate::cause::{ShutdownCause, WakeupReason};
use crate::compat::Compat;
use crate::latch::{ShutdownLatch, ShutdownRequest, Signal, SignalLatch, StateLatch};
use crate::panic::PanicLatch;
use crate::policy::{Policy, ShutdownAction};
use crate::posting::{Posted, ResetAdmission, Wake, admit_reset};
use crate::replay::{NoReplay, ReplayGate};
use crate::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};

pub use self::stop::PreparedStop;

/// The latches of one machine. Shared by `Arc` with every thread that may ask for something.
pub struct Requests {
    pub(crate) debug: AtomicBool,
    pub(crate) suspend: AtomicBool,
    pub(crate) suspend_disk: AtomicBool,
    pub(crate) powerdown: AtomicBool,
    pub(crate) shutdown: ShutdownLatch,
    pub(crate) signal: SignalLatch,
    pub(crate) reset: AtomicU8,
    /// Index of the reason. [`WAKEUP_UNAPPLIED`]: the run state does not tell of it yet.
    pub(crate) wakeup: AtomicU8,
    pub(crate) vmstop: StateLatch,
    pub(crate) panicked: PanicLatch,
    pub(crate) crashloaded: PanicLatch,
    pub(crate) pvshutdown: AtomicBool,
    pub(crate) watchdog: AtomicBool,
    wakeup_mask: AtomicU32,
    wakeup_support: AtomicBool,
    cpus_resettable: AtomicBool,
    /// Wakes that a test or a person can count: how often was the main loop woken.
    posts: AtomicU64,
    policy: Policy,
    state: Arc<RunStateCell>,
    compat: Compat,
    gate: Arc<dyn ReplayGate>,
    wake: Arc<dyn Wake>,
}

/// Bit of the wakeup latch: asked for on another thread under `Qemu7_2`, where the main loop
/// still has to change the state.
pub(crate) const WAKEUP_UNAPPLIED: u8 = 0x80;

impl Requests {
    /// Latches of a fresh machine with QEMU's default actions, [`Compat::Current`], no replay.
    #[must_use]
    pub fn new(wake: Arc<dyn Wake>) -> Self {
        Self::with(wake, Compat::default(), Arc::new(NoReplay))
    }

    /// Latches of a fresh machine with QEMU's default actions.
    #[must_use]
    pub fn with(wake: Arc<dyn Wake>, compat: Compat, gate: Arc<dyn ReplayGate>) -> Self {
        Self {
            debug: AtomicBool::new(false),
            suspend: AtomicBool::new(false),
            suspend_disk: AtomicBool::new(false),
            powerdown: AtomicBool::new(false),
            shutdown: ShutdownLatch::default(),
            signal: SignalLatch::default(),
            reset: AtomicU8::new(0),
            wakeup: AtomicU8::new(0),
            vmstop: StateLatch::default(),
            panicked: PanicLatch::default(),
            crashloaded: PanicLatch::default(),
            pvshutdown: AtomicBool::new(false),
            watchdog: AtomicBool::new(false),
            wakeup_mask: AtomicU32::new(!1),
            wakeup_support: AtomicBool::new(false),
            cpus_resettable: AtomicBool::new(true),
            posts: AtomicU64::new(0),
            policy: Policy::default(),
            state: Arc::new(RunStateCell::new(RunState::Prelaunch)),
            compat,
            gate,
            wake,
        }
    }

    /// The actions, to read and to change.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The run state, readable on any thread.
    #[must_use]
    pub fn state(&self) -> &Arc<RunStateCell> {
        &self.state
    }

    /// Which behaviour is wanted.
    #[must_use]
    pub fn compat(&self) -> Compat {
        self.compat
    }

    pub(crate) fn gate(&self) -> &dyn ReplayGate {
        &*self.gate
    }

    /// How many requests were posted so far (modulo 2^64). An observer's number.
    #[must_use]
    pub fn posts(&self) -> u64 {
        self.posts.load(Ordering::Relaxed)
    }

    fn kick(&self) {
        self.posts.fetch_add(1, Ordering::Relaxed);
        self.wake.wake();
    }

    /// Asks for a shutdown: the guest powered off, a window was closed.
    ///
    /// The first cause stands until it is served (under [`Compat::Qemu7_2`] the last one).
    pub fn shutdown(&self, cause: ShutdownCause) -> Posted {
        self.post_shutdown(ShutdownRequest::new(cause))
    }

    /// Asks for a shutdown, and for this exit code of the process. The code belongs to this
    /// request: it is gone with it.
    pub fn shutdown_with_code(&self, cause: ShutdownCause, exit_code: i32) -> Posted {
        self.post_shutdown(ShutdownRequest {
            exit_code: Some(exit_code),
            ..ShutdownRequest::new(cause)
        })
    }

    /// The monitor's `quit`: powers off whatever the shutdown action is.
    pub fn quit(&self) -> Posted {
        self.post_poweroff(ShutdownCause::HostQmpQuit)
    }

    /// Asks for a shutdown that powers off whatever the shutdown action is.
    pub fn post_poweroff(&self, cause: ShutdownCause) -> Posted {
        if self.compat == Compat::Qemu7_2 {
            self.policy.set_shutdown(ShutdownAction::Poweroff);
        }
        self.post_shutdown(ShutdownRequest {
            poweroff: true,
            ..ShutdownRequest::new(cause)
        })
    }

    fn post_shutdown(&self, request: ShutdownRequest) -> Posted {
        self.gate.shutdown_requested(request.cause);
        self.latch_shutdown(request);
        self.kick();
        Posted::Continue
    }

    fn latch_shutdown(&self, request: ShutdownRequest) {
        match self.compat {
            Compat::Qemu7_2 => self.shutdown.replace(request),
            Compat::Current => self.shutdown.merge(request),
        }
    }

    /// A terminating signal was received. `pid` is the sender's, 0 when unknown. For signal
    /// handlers.
    ///
    /// Never lost: it powers off also when another shutdown is pending.
    pub fn killed(&self, signal: u32, pid: u32) {
        let signal = Signal {
            number: signal,
            pid,
        };
        match self.compat {
            Compat::Qemu7_2 => {
                self.signal.replace(signal);
                self.policy.set_shutdown(ShutdownAction::Poweroff);
            }
            Compat::Current => self.signal.keep_first(signal),
        }
        self.latch_shutdown(ShutdownRequest {
            poweroff: true,
            ..ShutdownRequest::new(ShutdownCause::HostSignal)
        });
        self.kick();
    }

    /// Asks for a reset. What becomes of it depends on the reboot action now: [`admit_reset`].
    pub fn reset(&self, cause: ShutdownCause) -> Posted {
        let admission = admit_reset(cause, self.policy.actions(), self.cpus_resettable());
        self.post_reset(cause, admission, true)
    }

    /// `report`: the main loop is still to report that the vCPUs cannot be reset.
    pub(crate) fn post_reset(
        &self,
        cause: ShutdownCause,
        admission: ResetAdmission,
        report: bool,
    ) -> Posted {
        match admission {
            ResetAdmission::Reset => self.latch_reset(cause),
            ResetAdmission::Shutdown => self.latch_shutdown(ShutdownRequest::new(cause)),
            ResetAdmission::NotResettable => self.latch_shutdown(ShutdownRequest {
                not_resettable: report,
                ..ShutdownRequest::new(cause)
            }),
        }
        self.wake.stop_current_vcpu();
        self.kick();
        Posted::Hold
    }

    /// `Qemu7_2`: the last cause stands. `Current`: the first, but a reset that is announced
    /// replaces one that is not.
    fn latch_reset(&self, cause: ShutdownCause) {
        if self.compat == Compat::Qemu7_2 {
            self.reset.store(cause.index(), Ordering::Release);
            return;
        }
        let keep = |pending: u8| {
            let pending = ShutdownCause::from_index(pending).unwrap_or(ShutdownCause::None);
            let replaces = pending == ShutdownCause::None
                || (cause.announces_reset() && !pending.announces_reset());
            replaces.then_some(cause.index())
        };
        // Err: the pending one stands.
        let _stands = self
            .reset
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, keep);
    }

    /// Whether a vCPU's state can be reset. Not with encrypted state.
    pub fn set_cpus_resettable(&self, resettable: bool) {
        self.cpus_resettable.store(resettable, Ordering::Release);
    }

    /// Whether a vCPU's state can be reset.
    #[must_use]
    pub fn cpus_resettable(&self) -> bool {
        self.cpus_resettable.load(Ordering::Acquire)
    }

    /// Presses the power button.
    pub fn powerdown(&self) -> Posted {
        self.powerdown.store(true, Ordering::Release);
        self.kick();
        Posted::Continue
    }

    /// Asks for a stop in the state `debug`. The vCPU that hit the breakpoint holds itself.
    pub fn debug(&self) -> Posted {
        self.debug.store(true, Ordering::Release);
        self.kick();
        Posted::Hold
    }

    /// The cause of the shutdown that is pending.
    #[must_use]
    pub fn shutdown_pending(&self) -> ShutdownCause {
        self.shutdown
            .peek()
            .map_or(ShutdownCause::None, |request| request.cause)
    }

    /// The cause of the reset that is pending.
    #[must_use]
    pub fn reset_pending(&self) -> ShutdownCause {
        ShutdownCause::from_index(self.reset.load(Ordering::Acquire)).unwrap_or(ShutdownCause::None)
    }

    /// The reason of the wakeup that is pending.
    #[must_use]
    pub fn wakeup_pending(&self) -> WakeupReason {
        WakeupReason::from_index(self.wakeup.load(Ordering::Acquire) & !WAKEUP_UNAPPLIED)
            .unwrap_or(WakeupReason::None)
    }

    /// The stop that is pending.
    #[must_use]
    pub fn vmstop_pending(&self) -> Option<RunState> {
        self.vmstop.peek()
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests")
            .field("pending", &self.snapshot())
            .field("actions", &self.policy.actions())
            .field("state", &self.state.load().name())
            .field("compat", &self.compat)
            .finish_non_exhaustive()
    }
}
