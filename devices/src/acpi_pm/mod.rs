//! The ACPI fixed-hardware power-management block: PM1 event and control registers, and the PM
//! timer.
//!
//! | offset | bytes | register | write | read |
//! |---|---|---|---|---|
//! | 0 | 2 | PM1_STS | a written 1 clears the bit | stored; the timer's bit is worked out |
//! | 2 | 2 | PM1_EN | stored | stored |
//! | 4 | 2 | PM1_CNT | stored but for SLP_EN; **SLP_EN enters the sleep state of SLP_TYP** | stored |
//! | 8 | 4 | PM_TMR | ignored | 24 bits at 3.579545 MHz of the virtual clock |
//!
//! The block is "ACPI only": there is no SMM, SCI_EN (PM1_CNT bit 0) is always 1, and the FADT has
//! no SMI command port. There are no general-purpose events. The SCI (interrupt 9 on a PC) is a
//! level: high while a status bit that is enabled is set.
//!
//! The timer's status bit is set every 2^23 ticks (2.34 s), and after a reset it is set at once, as
//! QEMU's is.
//!
//! An access may be 1, 2 or 4 bytes wide; a narrow write to a register keeps the register's other
//! byte. That matters for PM1_CNT: the two halves of SLP_TYP and SLP_EN are in its high byte, and
//! an operating system may write that alone.
//!
//! Source: ACPI 6.5, sections 4.8.3.1 (PM1 event), 4.8.3.2 (PM1 control), 4.8.3.3 (timer).
//! Behaviour: QEMU's `acpi` core.

mod block;
mod timer;

use std::fmt;
use std::sync::Arc;

use block::{Asks, Block};

use crate::counter::Counter;
use crate::sync::Guarded;
use crate::{
    BusDevice, Clock, Error, Granularity, IrqLine, Mapping, Notify, Pausable, PowerRequest,
    PowerSink, ResetType, Resettable, SaveRestore, Timed, WakeupReason,
};

/// Where firmware and QEMU's machines put the block.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x600, 12)];

/// The length of the event block (FADT PM1_EVT_LEN).
pub const EVENT_LEN: u8 = 4;
/// The length of the control block (FADT PM1_CNT_LEN).
pub const CONTROL_LEN: u8 = 2;
/// Where the control block begins in the window.
pub const CONTROL_OFFSET: u16 = 4;
/// Where the timer is in the window. It is 4 bytes long and 24 bits wide (FADT TMR_VAL_EXT is 0).
pub const TIMER_OFFSET: u16 = 8;
/// The timer's frequency, in Hz.
pub const TIMER_HZ: u64 = 3_579_545;

/// Status and enable: the timer's top bit has changed.
pub const TIMER: u16 = 0x0001;
/// Status and enable: the global lock was released.
pub const GLOBAL: u16 = 0x0020;
/// Status and enable: the power button was pressed.
pub const POWER_BUTTON: u16 = 0x0100;
/// Status and enable: the real-time clock's alarm.
pub const RTC: u16 = 0x0400;
/// Status: the guest has been woken up.
pub const WAKE: u16 = 0x8000;

/// Which SLP_TYP values enter which sleep state. What is not listed is ignored, and counted.
///
/// The values are the machine's own; its DSDT tells the guest (`_S3`, `_S4`, `_S5`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SleepTypes {
    /// Soft off.
    pub s5: u8,
    /// Suspend to RAM. `None` in a VMM that cannot suspend.
    pub s3: Option<u8>,
    /// Suspend to disk. `None` if the guest is to power off by S5 after it.
    pub s4: Option<u8>,
}

impl SleepTypes {
    /// S5 alone, with QEMU's value, 0.
    pub const S5_ONLY: Self = Self {
        s5: 0,
        s3: None,
        s4: None,
    };
    /// S3, S4 and S5 with QEMU's values: 1, 2, 0.
    pub const QEMU: Self = Self {
        s5: 0,
        s3: Some(1),
        s4: Some(2),
    };

    fn request(self, kind: u8) -> Option<PowerRequest> {
        if kind == self.s5 {
            Some(PowerRequest::Shutdown { exit_code: None })
        } else if Some(kind) == self.s3 {
            Some(PowerRequest::Suspend)
        } else if Some(kind) == self.s4 {
            Some(PowerRequest::SuspendToDisk)
        } else {
            None
        }
    }
}

/// What an [`AcpiPm`] is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// The SCI.
    pub sci: Arc<dyn IrqLine>,
    /// Where sleep and wakeup requests go.
    pub power: Arc<dyn PowerSink>,
    /// The virtual clock: it stands still while the VM is stopped, and never goes backwards.
    pub clock: Arc<dyn Clock>,
    /// Called when [`next_deadline`](Timed::next_deadline) may have changed.
    pub rearm: Arc<dyn Notify>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// The state of an [`AcpiPm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// PM1_STS, without the timer's bit unless it is latched.
    pub status: u16,
    /// PM1_EN.
    pub enable: u16,
    /// PM1_CNT.
    pub control: u16,
    /// When the timer's status bit is set next, or was set, in ticks of the virtual clock.
    pub overflow_at: u64,
}

struct Inner {
    block: Block,
    /// The level that the SCI was last set to.
    sci: bool,
}

/// The block.
pub struct AcpiPm {
    inner: Guarded<Inner>,
    sleep_types: SleepTypes,
    wiring: Wiring,
    ignored_sleeps: Counter,
}

impl AcpiPm {
    /// A block as at power-on.
    ///
    /// # Errors
    ///
    /// [`Error::BadConfig`] if a sleep type does not fit its 3 bits, or two sleep states share one.
    pub fn new(sleep_types: SleepTypes, wiring: Wiring) -> Result<Self, Error> {
        let SleepTypes { s5, s3, s4 } = sleep_types;
        let bad = |field, found, expected| Error::BadConfig {
            device: "acpi-pm",
            field,
            found: u64::from(found),
            expected,
        };
        for (field, kind) in [("s5", Some(s5)), ("s3", s3), ("s4", s4)] {
            if let Some(kind) = kind.filter(|kind| *kind > block::SLP_TYP_MAX) {
                return Err(bad(field, kind, "0 to 7"));
            }
        }
        if s3 == Some(s5) || s4 == Some(s5) || (s3.is_some() && s3 == s4) {
            return Err(bad(
                "s5",
                s5,
                "another value than s3's and s4's, which differ too",
            ));
        }
        let inner = Inner {
            block: Block::fresh(),
            sci: false,
        };
        let (inner, ignored_sleeps) = (Guarded::new(inner), Counter::new());
        Ok(Self {
            inner,
            sleep_types,
            wiring,
            ignored_sleeps,
        })
    }

    /// Presses the power button. Returns whether the guest asked to be told; if not, the press is
    /// lost, as QEMU's is.
    pub fn press(&self) -> bool {
        self.update(|block, _| block.press())
    }

    /// Tells the guest, after the reset that ends S3, that it was woken up, and why: sets WAK with
    /// RTC, TMR, or the power button for any other reason.
    pub fn wake(&self, reason: WakeupReason) {
        let cause = match reason {
            WakeupReason::Rtc => RTC,
            WakeupReason::PmTimer => TIMER,
            WakeupReason::Other => POWER_BUTTON,
        };
        self.update(|block, _| block.state.status |= WAKE | cause);
    }

    /// How often the guest asked for a sleep state that the machine does not have.
    pub fn ignored_sleeps(&self) -> u64 {
        self.ignored_sleeps.get()
    }

    fn ticks(&self) -> u64 {
        timer::ticks_at(self.wiring.clock.now_ns())
    }

    /// Changes the registers, sets the SCI as one with it, and says when the timer's deadline has
    /// moved.
    fn update<T>(&self, change: impl FnOnce(&mut Block, u64) -> T) -> T {
        let mut inner = self.inner.lock();
        let ticks = self.ticks();
        let before = inner.block.deadline(ticks);
        let result = change(&mut inner.block, ticks);
        let moved = before != inner.block.deadline(ticks);
        let level = inner.block.sci(ticks);
        if level != inner.sci {
            inner.sci = level;
            self.wiring.sci.set(level);
        }
        drop(inner);
        if moved {
            self.wiring.rearm.notify();
        }
        result
    }

    /// Drives everything outside as the registers say, whatever it was before.
    fn announce(&self) {
        let mut inner = self.inner.lock();
        inner.sci = inner.block.sci(self.ticks());
        self.wiring.sci.set(inner.sci);
        let enable = inner.block.state.enable;
        drop(inner);
        self.enable_wakeups(enable);
        self.wiring.rearm.notify();
    }

    fn enable_wakeups(&self, enable: u16) {
        self.wiring
            .power
            .enable_wakeup(WakeupReason::Rtc, enable & RTC != 0);
        self.wiring
            .power
            .enable_wakeup(WakeupReason::PmTimer, enable & TIMER != 0);
    }
}

impl Timed for AcpiPm {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        let inner = self.inner.lock();
        inner.block.deadline(self.ticks()).and_then(timer::ns_at)
    }

    fn tick(&self) {
        if self.update(Block::take_timer) {
            self.wiring
                .power
                .power(PowerRequest::Wakeup(WakeupReason::PmTimer));
        }
    }
}

impl BusDevice for AcpiPm {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // The clock is read once, so that a 4-byte read of the timer is one value.
        let inner = self.inner.lock();
        inner.block.read(offset, data, self.ticks());
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Asks { sleep, enables }, enable) = self.update(|block, ticks| {
            let asks = block.write(offset, data, ticks);
            (asks, block.state.enable)
        });
        if enables {
            self.enable_wakeups(enable);
        }
        match sleep.map(|kind| self.sleep_types.request(kind)) {
            Some(Some(request)) => self.wiring.power.power(request),
            Some(None) => self.ignored_sleeps.count(),
            None => {}
        }
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for AcpiPm {
    fn enter(&self, _kind: ResetType) {
        self.inner.lock().block = Block::fresh();
    }

    fn hold(&self, _kind: ResetType) {
        self.announce();
    }
}

impl SaveRestore for AcpiPm {
    type State = State;

    fn save(&self) -> State {
        self.inner.lock().block.state
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if !Block::is_sound(state) {
            return Err(Error::BadState {
                device: "acpi-pm",
                field: "control",
                found: u64::from(state.control),
                expected: "with bit 0 (SCI_EN) set and bit 13 (SLP_EN) clear",
            });
        }
        self.inner.lock().block = Block::restored(*state);
        self.announce();
        Ok(())
    }
}

impl Pausable for AcpiPm {}

impl fmt::Debug for AcpiPm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcpiPm")
            .field("block", &self.inner.lock().block)
            .field("sleep_types", &self.sleep_types)
            .field("ignored_sleeps", &self.ignored_sleeps)
            .finish_non_exhaustive()
    }
}
