//! Suspend to RAM (ACPI S3) and waking from it, where there is no firmware to do it.
//!
//! ```text
//!   suspend   time stands; memory, and nothing else, is kept
//!   wake      devices, interrupt controllers and vCPUs as after a reset, time goes on;
//!             the first vCPU: real mode, at the waking vector that the guest left in the FACS
//!             the others: wait for their start-up IPI
//! ```
//!
//! A guest that brought firmware of its own is started at the reset vector, as on a PC: CMOS byte
//! 0x0F tells its firmware to resume.
//!
//! The rule that must never be broken: waking writes nothing to guest memory.
//!
//! Source: ACPI 6.5, sections 7.4.2.3 (S3) and 16.3.2 (resuming).

use std::sync::PoisonError;
use std::time::Instant;

use devices::{ResetType, WakeupReason};
use vcpu::VcpuId;

use super::Machine;
use crate::platform::accel::Vcpu;
use crate::platform::cpu::RealMode;
use crate::platform::error::Error;

/// The vCPU that boots, and wakes up.
const FIRST: VcpuId = VcpuId(0);

impl Machine {
    /// The guest sleeps: its time stands, whatever is asked of the clock, until it is woken or the
    /// machine is reset. The vCPUs must be paused.
    ///
    /// # Errors
    /// What KVM says; the guest sleeps all the same.
    pub(crate) fn suspend(&self) -> Result<(), Error> {
        self.asleep.set(true);
        self.board.mark_suspend();
        self.stop_clock()
    }

    /// Wakes the guest up: its time goes on, and it does so too when the vCPUs are resumed.
    ///
    /// # Errors
    /// [`Error::WakingVector`] when the guest left none that can be used, and what KVM says. Its
    /// time goes on, and it must not run before the machine is reset.
    pub(crate) fn wake(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let woken = self.resume_guest(deadline);
        self.asleep.set(false);
        woken.and(self.start_clock())
    }

    /// Tells the guest, which has been woken up, why.
    pub(crate) fn say_why_woken(&self, reason: WakeupReason) {
        self.board.wake(reason);
    }

    fn resume_guest(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let start = self.waking_registers()?;
        self.board.reset(ResetType::Wakeup)?;
        self.accel.reset(&self.vcpus, deadline)?;
        if let Some(start) = start {
            self.board.take_suspend_mark();
            let entered = self.vcpus.run_on(FIRST, deadline, move |vcpu: &mut Vcpu| {
                vcpu.kvm().map_or(Ok(()), |kvm| start.enter(kvm.fd()))
            })?;
            entered.map_err(Error::kvm("put a vCPU at the waking vector"))?;
        }
        Ok(())
    }

    /// Where the first vCPU goes; `None` for the reset vector, and where nothing executes.
    fn waking_registers(&self) -> Result<Option<RealMode>, Error> {
        let Some(waking) = self.waking else {
            return Ok(None);
        };
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.is_firmware() {
            return Ok(None);
        }
        let vector = self.tables.waking_vector(&self.memory)?;
        match waking.at(vector) {
            Some(start) => Ok(Some(start)),
            None => Err(Error::WakingVector { vector }),
        }
    }

    /// How many nanoseconds there are until an alarm is due, by a clock that goes on while the guest
    /// sleeps.
    pub(crate) fn until_alarm(&self) -> Option<u64> {
        self.board.until_alarm()
    }

    /// Lets the alarm, and nothing else, do what is due.
    pub(crate) fn tick_alarm(&self) {
        self.board.tick_alarm();
    }

    /// Whether an alarm went off that the guest has not seen: one that came just before it slept
    /// would otherwise never wake it.
    pub(crate) fn alarm_stands(&self) -> bool {
        self.board.alarm_stands()
    }
}
