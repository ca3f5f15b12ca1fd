//! The ACPI fixed-hardware power-management block: PM1 event and control registers, and the PM timer.
//!
//! | offset | bytes | register | write | read |
//! |---|---|---|---|---|
//! | 0 | 2 | PM1_STS | a written 1 clears the bit | stored; the timer's bit is worked out |
//! | 2 | 2 | PM1_EN | stored | stored |
//! | 4 | 2 | PM1_CNT | stored but for SLP_EN; **SLP_EN enters the sleep state of SLP_TYP** | stored |
//! | 8 | 4 | PM_TMR | ignored | 24 bits at 3.579545 MHz of the virtual clock |
//!
//! The block is "ACPI only": there is no SMM, SCI_EN (PM1_CNT bit 0) is always 1, and the FADT has no SMI command port.
//! There are no general-purpose events. The SCI (interrupt 9 on a PC) is a level: high while a status bit that is
//! enabled is set.
//!
//! The timer's status bit is set every 2^23 ticks (2.34 s), and after a reset it is set at once, as QEMU's is.
//!
//! An access may be 1, 2 or 4 bytes wide; a narrow write to a register keeps the register's other byte. That matters for
//! PM1_CNT: the two halves of SLP_TYP and SLP_EN are in its high byte, and an operating system may write that alone.
//!
//! Source: ACPI 6.5, sections 4.8.3.1 (PM1 event), 4.8.3.2 (PM1 control), 4.8.3.3 (timer). Behaviour: QEMU's `acpi`
//! core.

use std::fmt;
use std::sync::Arc;

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

/// Control: ACPI is on.
const SCI_EN: u16 = 0x0001;
/// Control: enter the sleep state.
const SLP_EN: u16 = 0x2000;
/// Control: which.
const SLP_TYP_SHIFT: u32 = 10;
const SLP_TYP_MASK: u16 = 0x7;

/// What raises the SCI.
const SCI_SOURCES: u16 = TIMER | GLOBAL | POWER_BUTTON | RTC;

const TIMER_MASK: u64 = 0x00ff_ffff;
/// How often the timer's top bit changes, in ticks.
const OVERFLOW_TICKS: u64 = 0x0080_0000;
const NS_PER_SECOND: u64 = 1_000_000_000;

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

impl State {
    const FRESH: Self = Self {
        status: 0,
        enable: 0,
        control: SCI_EN,
        overflow_at: 0,
    };

    fn status_at(&self, ticks: u64) -> u16 {
        if ticks >= self.overflow_at {
            self.status | TIMER
        } else {
            self.status
        }
    }

    fn sci_at(&self, ticks: u64) -> bool {
        self.status_at(ticks) & self.enable & SCI_SOURCES != 0
    }
}

struct Inner {
    state: State,
    /// The level that the line was last set to.
    sci: bool,
    /// The timer's wakeup was posted for this overflow.
    overflow_told: bool,
}

/// What is to be done once the lock is dropped.
#[derive(Default)]
struct After {
    power: Option<PowerRequest>,
    wakeups: Option<u16>,
    rearm: bool,
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
            if let Some(kind) = kind.filter(|kind| u16::from(*kind) > SLP_TYP_MASK) {
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
            state: State::FRESH,
            sci: false,
            overflow_told: false,
        };
        Ok(Self {
            inner: Guarded::new(inner),
            sleep_types,
            wiring,
            ignored_sleeps: Counter::new(),
        })
    }

    /// Presses the power button. Returns whether the guest asked to be told; if not, the press is lost, as QEMU's is.
    pub fn press(&self) -> bool {
        self.update(|inner, _, _| {
            let heeded = inner.state.enable & POWER_BUTTON != 0;
            if heeded {
                inner.state.status |= POWER_BUTTON;
            }
            heeded
        })
    }

    /// Tells the guest, after the reset that ends S3, that it was woken up, and why: sets WAK with RTC, TMR, or the power
    /// button for any other reason.
    pub fn wake(&self, reason: WakeupReason) {
        let cause = match reason {
            WakeupReason::Rtc => RTC,
            WakeupReason::PmTimer => TIMER,
            WakeupReason::Other => POWER_BUTTON,
        };
        self.update(|inner, _, _| inner.state.status |= WAKE | cause);
    }

    /// How often the guest asked for a sleep state that the machine does not have.
    pub fn ignored_sleeps(&self) -> u64 {
        self.ignored_sleeps.get()
    }

    fn ticks(&self) -> u64 {
        ticks_at(self.wiring.clock.now_ns())
    }

    /// Changes the state, sets the SCI as one with it, and then tells the others.
    fn update<T>(&self, change: impl FnOnce(&mut Inner, u64, &mut After) -> T) -> T {
        let mut after = After::default();
        let mut inner = self.inner.lock();
        let ticks = self.ticks();
        let deadline = deadline(&inner, ticks);
        let result = change(&mut inner, ticks, &mut after);
        self.settle(&mut inner, ticks, false);
        after.rearm = deadline != self::deadline(&inner, ticks);
        drop(inner);
        if let Some(enable) = after.wakeups {
            self.tell_wakeups(enable);
        }
        if let Some(request) = after.power {
            self.wiring.power.power(request);
        }
        if after.rearm {
            self.wiring.rearm.notify();
        }
        result
    }

    fn settle(&self, inner: &mut Inner, ticks: u64, force: bool) {
        let level = inner.state.sci_at(ticks);
        if force || level != inner.sci {
            inner.sci = level;
            self.wiring.sci.set(level);
        }
    }

    fn tell_wakeups(&self, enable: u16) {
        self.wiring
            .power
            .enable_wakeup(WakeupReason::Rtc, enable & RTC != 0);
        self.wiring
            .power
            .enable_wakeup(WakeupReason::PmTimer, enable & TIMER != 0);
    }

    /// The register at an even offset, as 16 bits.
    fn read_word(&self, offset: u64, state: &State, ticks: u64) -> u16 {
        let [t0, t1, t2, _, ..] = (ticks & TIMER_MASK).to_le_bytes();
        match offset {
            0 => state.status_at(ticks),
            2 => state.enable,
            4 => state.control,
            8 => u16::from_le_bytes([t0, t1]),
            10 => u16::from(t2),
            _ => 0,
        }
    }

    /// Writes the bits of `mask` to the register at an even offset.
    fn write_word(
        &self,
        offset: u64,
        value: u16,
        mask: u16,
        (inner, ticks, after): (&mut Inner, u64, &mut After),
    ) {
        let state = &mut inner.state;
        match offset {
            0 => {
                let cleared = value & mask;
                if state.status_at(ticks) & cleared & TIMER != 0 {
                    state.overflow_at = next_overflow(ticks);
                    inner.overflow_told = false;
                }
                state.status &= !cleared;
            }
            2 => {
                state.enable = state.enable & !mask | value & mask;
                after.wakeups = Some(state.enable);
            }
            4 => {
                let merged = state.control & !mask | value & mask;
                state.control = merged & !SLP_EN | SCI_EN;
                if mask & value & SLP_EN != 0 {
                    let [kind, _] = (merged >> SLP_TYP_SHIFT & SLP_TYP_MASK).to_le_bytes();
                    after.power = self.sleep_types.request(kind);
                    if after.power.is_none() {
                        self.ignored_sleeps.count();
                    }
                }
            }
            _ => {}
        }
    }
}

/// The timer's count, not cut to 24 bits, at a time in nanoseconds. Wraps after 163,000 years of `u64` nanoseconds,
/// which is never.
fn ticks_at(now_ns: u64) -> u64 {
    let ticks = u128::from(now_ns)
        .saturating_mul(TIMER_HZ.into())
        .checked_div(NS_PER_SECOND.into());
    u64::try_from(ticks.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The first nanosecond at which the timer's count is `ticks`; `None` beyond the end of time.
fn ns_at(ticks: u64) -> Option<u64> {
    let ns = u128::from(ticks).saturating_mul(u128::from(NS_PER_SECOND));
    u64::try_from(ns.div_ceil(u128::from(TIMER_HZ))).ok()
}

/// When the timer's top bit changes next.
fn next_overflow(ticks: u64) -> u64 {
    (ticks & !(OVERFLOW_TICKS - 1)).saturating_add(OVERFLOW_TICKS)
}

/// When the timer is to interrupt, in ticks: never while its bit is set already or not enabled.
fn deadline(inner: &Inner, ticks: u64) -> Option<u64> {
    let State {
        status,
        enable,
        overflow_at,
        ..
    } = inner.state;
    let waits = enable & TIMER != 0 && status & TIMER == 0;
    let due = ticks >= overflow_at;
    (waits && !(due && inner.overflow_told)).then_some(overflow_at)
}

impl Timed for AcpiPm {
    /// In nanoseconds of the virtual clock.
    fn next_deadline(&self) -> Option<u64> {
        let inner = self.inner.lock();
        deadline(&inner, self.ticks()).and_then(ns_at)
    }

    fn tick(&self) {
        self.update(|inner, ticks, after| {
            if deadline(inner, ticks).is_some_and(|due| due <= ticks) {
                inner.overflow_told = true;
                after.power = Some(PowerRequest::Wakeup(WakeupReason::PmTimer));
            }
        });
    }
}

impl BusDevice for AcpiPm {
    fn read(&self, offset: u64, data: &mut [u8]) {
        // The timer is read once, so that a 4-byte read is one value.
        let inner = self.inner.lock();
        let ticks = self.ticks();
        for (at, slot) in (0_u64..).map(|i| offset.wrapping_add(i)).zip(data) {
            let [low, high] = self.read_word(at & !1, &inner.state, ticks).to_le_bytes();
            *slot = if at & 1 == 0 { low } else { high };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let mut bytes = (0_u64..)
            .map(|i| offset.wrapping_add(i))
            .zip(data)
            .peekable();
        self.update(|inner, ticks, after| {
            while let Some((at, &first)) = bytes.next() {
                let word = at & !1;
                let (value, mask) = if at & 1 == 1 {
                    (u16::from_le_bytes([0, first]), 0xff00)
                } else if let Some((_, &second)) = bytes.next() {
                    (u16::from_le_bytes([first, second]), 0xffff)
                } else {
                    (u16::from(first), 0x00ff)
                };
                self.write_word(word, value, mask, (&mut *inner, ticks, &mut *after));
            }
        });
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for AcpiPm {
    fn enter(&self, _kind: ResetType) {
        let mut inner = self.inner.lock();
        inner.state = State::FRESH;
        inner.overflow_told = false;
    }

    fn hold(&self, _kind: ResetType) {
        let mut inner = self.inner.lock();
        let ticks = self.ticks();
        self.settle(&mut inner, ticks, true);
        drop(inner);
        self.tell_wakeups(0);
        self.wiring.rearm.notify();
    }
}

impl SaveRestore for AcpiPm {
    type State = State;

    fn save(&self) -> State {
        self.inner.lock().state
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if state.control & (SLP_EN | SCI_EN) != SCI_EN {
            return Err(Error::BadState {
                device: "acpi-pm",
                field: "control",
                found: u64::from(state.control),
                expected: "with bit 0 (SCI_EN) set and bit 13 (SLP_EN) clear",
            });
        }
        let mut inner = self.inner.lock();
        inner.state = *state;
        inner.overflow_told = false;
        let ticks = self.ticks();
        self.settle(&mut inner, ticks, true);
        drop(inner);
        self.tell_wakeups(state.enable);
        self.wiring.rearm.notify();
        Ok(())
    }
}

impl Pausable for AcpiPm {}

impl fmt::Debug for AcpiPm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcpiPm")
            .field("state", &self.inner.lock().state)
            .field("sleep_types", &self.sleep_types)
            .field("ignored_sleeps", &self.ignored_sleeps)
            .finish_non_exhaustive()
    }
}
