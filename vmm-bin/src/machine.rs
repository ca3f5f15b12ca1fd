//! The machine, as the lifecycle sees it: the platform's machine and the pause that it is in.
//!
//! The lifecycle freezes the guest's time before it pauses the vCPUs; KVM's clocks can be read
//! only afterwards. So a stop of the clock that comes first is carried out by the pause.
//!
//! The rule that must never be broken: what is done here is what was asked for, no more; and
//! every wait for a vCPU has an end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::{Notify, ResetType};
use lifecycle::{Error, Machine, MachineError, Requests, ShutdownCause, WakeupReason};
use log::{debug, error, warn};
use runstate::RunState;
use vcpu::{Failure, PauseGuard, VcpuEvent, VcpuId};

use crate::platform::{self, Vcpu};

/// How long a vCPU may take to leave the guest before a stop is given up. A busy host delays
/// threads by hundreds of milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// The machine with its pause.
pub(crate) struct Vm {
    machine: Rc<platform::Machine>,
    /// Held while the vCPUs are parked.
    pause: RefCell<Option<PauseGuard<Vcpu>>>,
    /// The clock is to stand as soon as the vCPUs are parked.
    clock_stops: Cell<bool>,
    /// The guest must not run before a reset: it could not be woken up.
    unfit: Cell<bool>,
    /// To be told that the serial line may take input again.
    serial_room: Arc<dyn Notify>,
    /// What a guest that cannot be woken up comes to.
    requests: Arc<Requests>,
    /// Called when the machine has been reset.
    on_reset: RefCell<Option<Box<dyn Fn()>>>,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl Vm {
    /// A machine whose vCPUs are parked by `pause` and whose clock stands.
    pub(crate) fn new(
        machine: Rc<platform::Machine>,
        pause: PauseGuard<Vcpu>,
        serial_room: Arc<dyn Notify>,
        requests: Arc<Requests>,
    ) -> Self {
        Self {
            machine,
            pause: RefCell::new(Some(pause)),
            clock_stops: Cell::new(false),
            unfit: Cell::new(false),
            serial_room,
            requests,
            on_reset: RefCell::new(None),
        }
    }

    /// Has `call` called each time when the machine has been reset and its vCPUs do not run yet.
    pub(crate) fn on_reset(&self, call: impl Fn() + 'static) {
        *self.on_reset.borrow_mut() = Some(Box::new(call));
    }

    fn stop_clock_now(&self) {
        if let Err(error) = self.machine.stop_clock() {
            warn!("the guest's clock runs on while the VM is stopped: {error}");
        }
    }
}

impl Machine for Vm {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        if self.pause.borrow().is_none() {
            let pause = self
                .machine
                .vcpus()
                .pause_all(Instant::now().checked_add(PATIENCE));
            *self.pause.borrow_mut() = Some(pause.map_err(MachineError::new)?);
        }
        if self.clock_stops.take() {
            self.stop_clock_now();
        }
        Ok(())
    }

    fn resume_vcpus(&self) {
        if self.unfit.get() {
            return;
        }
        // A vCPU that holds itself is let go even if there was no pause.
        self.machine.vcpus().release_held();
        drop(self.pause.take());
    }

    fn stop_clock(&self) {
        if self.pause.borrow().is_some() {
            self.stop_clock_now();
        } else {
            self.clock_stops.set(true);
        }
    }

    fn start_clock(&self) {
        self.clock_stops.set(false);
        if let Err(error) = self.machine.start_clock() {
            warn!("the guest's clock could not be put back to when the VM stopped: {error}");
        }
    }

    fn reset_devices(&self, cause: ShutdownCause) -> Result<(), MachineError> {
        let kind = match cause {
            ShutdownCause::SnapshotLoad => ResetType::SnapshotLoad,
            _ => ResetType::Cold,
        };
        self.machine
            .reset(kind, Instant::now().checked_add(PATIENCE))
            .map_err(MachineError::new)?;
        self.unfit.set(false);
        if let Some(call) = &*self.on_reset.borrow() {
            call();
        }
        // The UART's FIFO is empty now, and it does not say so of itself.
        self.serial_room.notify();
        Ok(())
    }

    fn wakeup(&self) {
        match self.machine.wake(Instant::now().checked_add(PATIENCE)) {
            Ok(()) => {}
            Err(error @ platform::Error::WakingVector { .. }) => {
                error!("{error}; it is reset instead");
                self.unfit.set(true);
                self.requests.reset(ShutdownCause::GuestReset);
            }
            Err(error) => {
                error!("the guest cannot be woken: {error}");
                self.unfit.set(true);
                self.requests.vmstop(RunState::InternalError);
            }
        }
        self.serial_room.notify();
    }

    fn inject_nmi(&self) -> Result<(), Error> {
        self.machine.inject_nmi().map_err(|error| {
            error!("{error}");
            Error::NmiNotSupported
        })
    }
}

/// What the power button does: a notifier of the lifecycle.
pub(crate) fn press_power_button(machine: &platform::Machine) {
    if !machine.press_power_button() {
        debug!("the guest does not listen to its power button");
    }
}

/// What happens when a vCPU cannot go on: the VM is stopped with an internal error. Runs on the
/// vCPU's thread.
pub(crate) fn on_vcpu_event(requests: &Requests, id: VcpuId, event: VcpuEvent) {
    match event {
        VcpuEvent::Failed(Failure { message, .. }) => error!("{id}: {message}"),
        _ => error!("{id}: its thread has ended"),
    }
    requests.vmstop(RunState::InternalError);
}

/// The number of each vCPU, and that of its thread on the host: 0 if the vCPU is too busy to say.
pub(crate) fn threads(machine: &platform::Machine) -> Vec<(u32, u32)> {
    let deadline = Instant::now().checked_add(PATIENCE);
    let asked = machine
        .vcpus()
        .run_on_all(deadline, |_| rustix::thread::gettid());
    asked
        .into_iter()
        .map(|(VcpuId(index), tid)| {
            let tid = tid.map_or(0, |tid| tid.as_raw_nonzero().get().unsigned_abs());
            (index, tid)
        })
        .collect()
}

/// What falling asleep does: a notifier of the lifecycle.
pub(crate) fn fall_asleep(machine: &platform::Machine) {
    if let Err(error) = machine.suspend() {
        warn!("the guest's clock runs on while it sleeps: {error}");
    }
}

/// What waking up does after the machine has: a notifier of the lifecycle.
pub(crate) fn say_why_woken(machine: &platform::Machine, reason: WakeupReason) {
    machine.say_why_woken(match reason {
        WakeupReason::Rtc => devices::WakeupReason::Rtc,
        WakeupReason::PmTimer => devices::WakeupReason::PmTimer,
        _ => devices::WakeupReason::Other,
    });
}

/// Which devices' time goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// All of it: the guest runs.
    Runs,
    /// The alarm's alone: the guest sleeps, and the alarm may wake it.
    Alarm,
    /// None.
    Stands,
}

impl Time {
    /// In this state.
    pub(crate) fn of(state: RunState, requests: &Requests) -> Self {
        match state {
            RunState::Running => Self::Runs,
            RunState::Suspended if requests.wakeup_enabled(WakeupReason::Rtc) => Self::Alarm,
            _ => Self::Stands,
        }
    }

    /// How long the main loop may sleep until a device has something to do. `None`: nothing is
    /// planned.
    pub(crate) fn until_next_deadline(self, machine: &platform::Machine) -> Option<Duration> {
        let left = match self {
            Self::Runs => machine.until_next_deadline()?,
            Self::Alarm => machine.until_alarm()?,
            Self::Stands => return None,
        };
        Some(Duration::from_nanos(left))
    }

    /// Lets the devices do what is due by now.
    pub(crate) fn tick(self, machine: &platform::Machine) {
        if !self
            .until_next_deadline(machine)
            .is_some_and(|left| left.is_zero())
        {
            return;
        }
        match self {
            Self::Runs => machine.tick(),
            Self::Alarm => machine.tick_alarm(),
            Self::Stands => {}
        }
    }
}

/// Wakes a guest again that has just fallen asleep, if its alarm went off before it did.
pub(crate) fn heed_alarm(machine: &platform::Machine, requests: &Requests) {
    if machine.alarm_stands() {
        // It sleeps: the request is not refused.
        drop(requests.wakeup(WakeupReason::Rtc));
    }
}
