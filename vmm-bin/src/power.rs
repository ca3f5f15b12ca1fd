//! From what a guest asks of a device to what the lifecycle is asked.
//!
//! A device posts and goes on. Whether its vCPU may go on as well, the lifecycle says.
//!
//! The rule that must never be broken: nothing is decided here, and nothing waits.

use std::sync::Arc;

use devices::{PowerRequest, WakeupReason};
use lifecycle::{PanicInfo, Posted, Requests, ShutdownCause};
use vcpu::VcpuId;

use crate::gdb::Hits;
use crate::platform::{DebugHit, GuestEvents, GuestExit, Onward};

/// Where the devices of a machine post.
#[derive(Debug)]
pub(crate) struct Power {
    requests: Arc<Requests>,
    /// Where vCPUs leave word for the debugger, if the guest may have one.
    hits: Option<Arc<Hits>>,
}

impl Power {
    /// Passes what devices ask on to `requests`.
    pub(crate) fn new(requests: Arc<Requests>) -> Self {
        Self {
            requests,
            hits: None,
        }
    }

    /// Has vCPUs that stop for a debugger leave word at `hits`.
    pub(crate) fn with_debugger(mut self, hits: Option<Arc<Hits>>) -> Self {
        self.hits = hits;
        self
    }
}

impl GuestEvents for Power {
    fn power(&self, request: PowerRequest) -> Onward {
        let requests = &self.requests;
        let posted = match request {
            PowerRequest::Reset => requests.reset(ShutdownCause::GuestReset),
            PowerRequest::Shutdown { exit_code: None } => {
                requests.shutdown(ShutdownCause::GuestShutdown)
            }
            PowerRequest::Shutdown {
                exit_code: Some(code),
            } => requests.shutdown_with_code(ShutdownCause::GuestShutdown, code.cast_signed()),
            PowerRequest::GuestPanicked => requests.guest_panicked(None),
            PowerRequest::GuestCrashloaded => requests.guest_crashloaded(None),
            PowerRequest::Suspend => requests.suspend(),
            PowerRequest::SuspendToDisk => requests.suspend_to_disk(),
            PowerRequest::PvShutdown => requests.guest_pvshutdown(),
            PowerRequest::WatchdogExpired => requests.watchdog_expired(),
            PowerRequest::Wakeup(reason) => {
                // A guest that does not sleep cannot be woken, and that is no error of a device.
                drop(requests.wakeup(wakeup_reason(reason)));
                Posted::Continue
            }
            other => {
                log::debug!("no answer to a device's {other:?}");
                Posted::Continue
            }
        };
        onward(posted)
    }

    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        self.requests.enable_wakeup(wakeup_reason(reason), enabled);
    }

    fn debug(&self, cpu: VcpuId, hit: DebugHit) -> bool {
        self.hits.as_ref().map(|hits| hits.post(cpu, hit)).is_some()
    }

    fn vcpu_exit(&self, _cpu: VcpuId, exit: GuestExit) -> Onward {
        onward(match exit {
            GuestExit::TripleFault | GuestExit::Reset => {
                self.requests.reset(ShutdownCause::GuestReset)
            }
            GuestExit::Shutdown => self.requests.shutdown(ShutdownCause::GuestShutdown),
            GuestExit::Crash(registers) => self
                .requests
                .guest_panicked(registers.map(PanicInfo::HyperV)),
        })
    }
}

fn onward(posted: Posted) -> Onward {
    match posted {
        Posted::Continue => Onward::Run,
        Posted::Hold => Onward::Hold,
    }
}

fn wakeup_reason(reason: WakeupReason) -> lifecycle::WakeupReason {
    match reason {
        WakeupReason::Rtc => lifecycle::WakeupReason::Rtc,
        WakeupReason::PmTimer => lifecycle::WakeupReason::PmTimer,
        _ => lifecycle::WakeupReason::Other,
    }
}

#[cfg(test)]
mod tests {
    use lifecycle::Wake;

    use super::*;

    struct NoWake;
    impl Wake for NoWake {
        fn wake(&self) {}
    }

    fn posted(request: PowerRequest) -> (Arc<Requests>, Onward) {
        let requests = Arc::new(Requests::new(Arc::new(NoWake)));
        let onward = Power::new(Arc::clone(&requests)).power(request);
        (requests, onward)
    }

    #[test]
    fn a_reset_is_latched_and_holds_the_vcpu() {
        let (requests, onward) = posted(PowerRequest::Reset);
        assert_eq!(requests.reset_pending(), ShutdownCause::GuestReset);
        assert_eq!(onward, Onward::Hold);
    }

    #[test]
    fn a_shutdown_is_latched_and_the_vcpu_runs_on() {
        let (requests, onward) = posted(PowerRequest::Shutdown { exit_code: Some(7) });
        assert_eq!(requests.shutdown_pending(), ShutdownCause::GuestShutdown);
        assert_eq!(onward, Onward::Run);
    }

    #[test]
    fn a_suspend_holds_the_vcpu_and_a_suspend_to_disk_powers_off() {
        let (_, onward) = posted(PowerRequest::Suspend);
        assert_eq!(onward, Onward::Hold);
        let (requests, onward) = posted(PowerRequest::SuspendToDisk);
        assert!(requests.snapshot().suspend_disk);
        assert_eq!(onward, Onward::Run);
    }

    #[test]
    fn what_the_main_loop_tells_of_first_is_reported() {
        let (requests, onward) = posted(PowerRequest::PvShutdown);
        assert!(requests.snapshot().pvshutdown);
        assert_eq!(onward, Onward::Run);
        let (requests, onward) = posted(PowerRequest::WatchdogExpired);
        assert!(requests.snapshot().watchdog);
        assert_eq!(onward, Onward::Run);
    }

    #[test]
    fn waking_a_guest_that_is_awake_does_nothing() {
        let (requests, onward) = posted(PowerRequest::Wakeup(WakeupReason::Rtc));
        assert_eq!(requests.wakeup_pending(), lifecycle::WakeupReason::None);
        assert_eq!(onward, Onward::Run);
    }
}
