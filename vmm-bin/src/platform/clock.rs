//! The guest's time: the virtual clock of its devices, KVM's paravirtual clock, the interval timer
//! and the vCPUs' time-stamp counters. All of them stand still while the VM does.
//!
//! ```text
//!                stop (VM stopped)                      start (VM goes on)
//!   devices      freeze                                 thaw
//!   kvmclock     KVM_GET_CLOCK                          KVM_SET_CLOCK
//!   PIT          KVM_GET_PIT2                           KVM_SET_PIT2
//!   TSC          note the host's TSC                    each vCPU: offset -= what passed
//!   guest                                               each vCPU: KVMCLOCK_CTRL
//! ```
//!
//! The rule that must never be broken: the clock is the last to stop and the first to start. vCPUs
//! run only while it runs, so that no guest sees a clock that was put back under it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use devices::Clock;
use kvm_bindings::{kvm_clock_data, kvm_pit_state2};
use kvm_ioctls::VcpuFd;

use super::error::Error;
use super::kvm::Vm;
use super::sys;

/// What [`VirtualClock`] keeps instead of a frozen time while it runs. 584 years are not reached.
const RUNNING: u64 = u64::MAX;

/// A monotonic clock that can be stopped, in nanoseconds since it was made, less the time it stood.
///
/// One thread stops and starts it, any thread reads it. Stopping a stopped clock and starting a
/// running one do nothing.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    origin: Instant,
    /// It moves when it is told to, and never by itself.
    stepped: bool,
    /// Time that passed while it stood.
    stood: AtomicU64,
    /// The time it stopped at, or [`RUNNING`].
    frozen: AtomicU64,
}

impl VirtualClock {
    /// A clock that reads 0 and stands.
    pub(crate) fn stopped() -> Self {
        Self::new(false)
    }

    /// A clock that reads 0 and moves only by [`advance_to`](Self::advance_to): stopping and
    /// starting it do nothing.
    pub(crate) fn stepped() -> Self {
        Self::new(true)
    }

    fn new(stepped: bool) -> Self {
        Self {
            origin: Instant::now(),
            stepped,
            stood: AtomicU64::new(0),
            frozen: AtomicU64::new(0),
        }
    }

    /// Nanoseconds since it was made.
    fn elapsed(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(RUNNING.saturating_sub(1))
    }

    /// Whether it moves only by [`advance_to`](Self::advance_to).
    pub(crate) fn is_stepped(&self) -> bool {
        self.stepped
    }

    /// Moves a clock that is [`stepped`](Self::stepped) on to `now_ns`, and never back. Does nothing
    /// to one that runs by itself. At most once at a time.
    pub(crate) fn advance_to(&self, now_ns: u64) {
        if self.stepped {
            let latest = RUNNING.saturating_sub(1);
            let now = now_ns.min(latest).max(self.now_ns());
            self.frozen.store(now, Ordering::Release);
        }
    }

    /// Stops it; `false` if it stood.
    pub(crate) fn stop(&self) -> bool {
        if self.frozen.load(Ordering::Relaxed) != RUNNING {
            return false;
        }
        self.frozen.store(self.now_ns(), Ordering::Release);
        true
    }

    /// Lets it go on from where it stopped; `false` if it ran.
    pub(crate) fn start(&self) -> bool {
        let frozen = self.frozen.load(Ordering::Relaxed);
        if frozen == RUNNING || self.stepped {
            return false;
        }
        // A reader that still sees it frozen reads the frozen time; one that sees it running
        // (acquire) also sees this.
        self.stood
            .store(self.elapsed().saturating_sub(frozen), Ordering::Relaxed);
        self.frozen.store(RUNNING, Ordering::Release);
        true
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        match self.frozen.load(Ordering::Acquire) {
            RUNNING => self
                .elapsed()
                .saturating_sub(self.stood.load(Ordering::Relaxed)),
            frozen => frozen,
        }
    }
}

/// What KVM keeps of the guest's time.
#[derive(Debug)]
pub(crate) struct KvmClock {
    vm: Vm,
    stopped: Mutex<Option<Stopped>>,
}

/// The time at which it was stopped.
#[derive(Debug, Clone, Copy)]
struct Stopped {
    clock: kvm_clock_data,
    pit: kvm_pit_state2,
    host_tsc: u64,
}

/// By how much the vCPUs' time-stamp counters are to be put back: cycles of the host that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TscLag(u64);

#[cfg(test)]
impl TscLag {
    /// Cycles of the host.
    pub(crate) fn cycles(self) -> u64 {
        self.0
    }
}

impl KvmClock {
    /// The clock of `vm`; it runs.
    pub(crate) fn new(vm: &Vm) -> Self {
        Self {
            vm: vm.clone(),
            stopped: Mutex::new(None),
        }
    }

    /// Notes the time. The vCPUs must be paused. Does nothing when it was noted already: what is
    /// noted first holds.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        let mut stopped = self.lock();
        if stopped.is_none() {
            let vm = self.vm.fd();
            let clock = vm.get_clock().map_err(Error::kvm("read the VM's clock"))?;
            let pit = vm
                .get_pit2()
                .map_err(Error::kvm("read the interval timer"))?;
            *stopped = Some(Stopped {
                clock,
                pit,
                host_tsc: sys::host_tsc(),
            });
        }
        Ok(())
    }

    /// Lets KVM's clock and the interval timer go on from the noted time, and says by how much
    /// each vCPU is to put its counter back before it runs ([`resume_vcpu`]). `None` when nothing
    /// was noted.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn start(&self) -> Result<Option<TscLag>, Error> {
        let Some(stopped) = self.lock().take() else {
            return Ok(None);
        };
        let vm = self.vm.fd();
        // KVM_CLOCK_REALTIME would make KVM add the time that passed: no flags.
        let clock = kvm_clock_data {
            clock: stopped.clock.clock,
            ..Default::default()
        };
        vm.set_clock(&clock)
            .map_err(Error::kvm("set the VM's clock"))?;
        vm.set_pit2(&stopped.pit)
            .map_err(Error::kvm("set the interval timer"))?;
        Ok(Some(TscLag(
            sys::host_tsc().saturating_sub(stopped.host_tsc),
        )))
    }

    /// Has the interval timer go on as `pit`, and the vCPUs' counters from where they are now. For
    /// a reset while time stands, after the vCPUs were reset: their counters have just begun again
    /// and must not be put back to before that.
    pub(crate) fn reset(&self, pit: kvm_pit_state2) {
        if let Some(stopped) = self.lock().as_mut() {
            stopped.pit = pit;
            stopped.host_tsc = sys::host_tsc();
        }
    }

    /// A panic elsewhere does not make the noted time wrong.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Stopped>> {
        self.stopped
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Puts a vCPU's time-stamp counter back by `lag` and tells the guest that it was paused, so that
/// its watchdogs do not take the gap for a lock-up. Called on the vCPU's thread before it runs.
///
/// KVM before Linux 5.16 cannot move the counter exactly: there it runs on while the VM stands.
/// A guest that has not enabled kvmclock cannot be told, which is no error.
pub(crate) fn resume_vcpu(vcpu: &VcpuFd, lag: TscLag) {
    if let Err(error) = put_tsc_back(vcpu, lag) {
        log::debug!("KVM: the time-stamp counter is not put back: {error}");
    }
    match vcpu.kvmclock_ctrl() {
        Ok(()) => {}
        Err(error) if error.errno() == libc::EINVAL => {}
        Err(error) => log::debug!("KVM: the guest is not told of its pause: {error}"),
    }
}

/// Puts the counter back, unless KVM keeps it itself: on a host whose own counters are unreliable
/// it holds a guest's still while its vCPU does not run, and so moves the offset all the time.
fn put_tsc_back(vcpu: &VcpuFd, lag: TscLag) -> std::io::Result<()> {
    let offset = sys::tsc_offset(vcpu)?;
    if sys::tsc_offset(vcpu)? == offset {
        sys::set_tsc_offset(vcpu, offset.wrapping_sub(lag.0))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virtual_clock_stands_while_it_is_stopped() {
        let clock = VirtualClock::stopped();
        assert_eq!(clock.now_ns(), 0);
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(clock.now_ns(), 0);
        assert!(clock.start());
        assert!(!clock.start());
        while clock.now_ns() == 0 {
            std::hint::spin_loop();
        }
        assert!(clock.stop());
        assert!(!clock.stop());
        let stopped = clock.now_ns();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert_eq!(clock.now_ns(), stopped);
        clock.start();
        assert!(clock.now_ns() >= stopped);
    }
    #[test]
    fn a_stepped_clock_moves_when_it_is_told_to_and_never_back() {
        let clock = VirtualClock::stepped();
        assert!(!clock.start());
        assert_eq!(clock.now_ns(), 0);
        clock.advance_to(5);
        clock.advance_to(3);
        assert_eq!(clock.now_ns(), 5);
        assert!(!clock.stop());
        clock.advance_to(u64::MAX);
        assert_eq!(clock.now_ns(), u64::MAX - 1);
        let clock = VirtualClock::stopped();
        clock.advance_to(5);
        assert_eq!(clock.now_ns(), 0);
    }
}
