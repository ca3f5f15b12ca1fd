//! The MC146818 real-time clock with its 128 bytes of CMOS memory.
//!
//! | index | what |
//! |---|---|
//! | 0x00, 02, 04, 06 to 09, 0x32 | second, minute, hour, day of the week, day, month, year, century |
//! | 0x01, 03, 05 | the alarm's second, minute, hour; 0xC0 to 0xFF match anything |
//! | 0x0A to 0x0D | control: rates, modes, flags, battery |
//! | 0x0F | shutdown status: 0xFE tells firmware to resume from S3 |
//! | 0x15 to 0x18, 0x30, 31, 34, 35, 0x5B to 0x5D | how much memory there is, for firmware ([`Memory`]) |
//! | the others | memory |
//!
//! The guest's time is the wall clock plus an offset, which the guest moves by setting its clock.
//! While the guest holds the clock (SET, or the divider's reset) its registers are plain memory.
//!
//! A new rate of the periodic interrupt counts from the last period of the old one, as in QEMU. (The
//! data sheet leaves open when the first period at a rate ends.)
//!
//! The chip has no thread. [`Timed::next_deadline`] says when it has something to interrupt for;
//! [`Timed::tick`] does it. An alarm that is enabled also asks to wake a suspended VM.
//!
//! Firmware must resume only from a suspend: the mark in 0x0F outlives a reset of type `Wakeup` and
//! no other. (In QEMU, a machine that is reset while it is suspended resumes into memory that is
//! gone.)
//!
//! Source: Motorola MC146818A datasheet; the PC's use of it after IBM AT Technical Reference.
//! Behaviour: QEMU's `mc146818rtc`.

mod alarm;
mod calendar;
mod chip;

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::sync::Guarded;
use crate::{
    BusDevice, Clock, Error, IrqLine, Mapping, Notify, Pausable, PowerRequest, PowerSink,
    ResetType, Resettable, SaveRestore, Timed, WakeupReason,
};

/// Where the clock is on a PC: the index port and the data port. Its interrupt line is 8.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x70, 2)];

/// The index of the century, for the FADT's CENTURY.
pub const CENTURY: u8 = 0x32;

/// The index of the shutdown status.
const SHUTDOWN_STATUS: u8 = 0x0f;
/// The shutdown status of a machine that resumes from S3.
const RESUME: u8 = 0xfe;

const INDEX_OFFSET: u64 = 0;
const DATA_OFFSET: u64 = 1;

/// How much memory the machine has, for firmware to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Bytes from address 0 to the end of the memory below 4 GiB.
    pub below_4g: u64,
    /// Bytes from 4 GiB on.
    pub above_4g: u64,
}

impl Memory {
    /// The bytes of CMOS memory that say it: index and value.
    fn registers(self) -> [(u8, u8); 11] {
        const MIB: u64 = 1 << 20;
        let low = |value: u64, limit: u64| value.min(limit).to_le_bytes();
        let [base0, base1, ..] = low(self.below_4g >> 10, 640);
        let [ext0, ext1, ..] = low(self.below_4g.saturating_sub(MIB) >> 10, 0xffff);
        let [mid0, mid1, ..] = low(self.below_4g.saturating_sub(16 * MIB) >> 16, 0xffff);
        let [high0, high1, high2, ..] = low(self.above_4g >> 16, 0x00ff_ffff);
        [
            (0x15, base0),
            (0x16, base1),
            (0x17, ext0),
            (0x18, ext1),
            (0x30, ext0),
            (0x31, ext1),
            (0x34, mid0),
            (0x35, mid1),
            (0x5b, high0),
            (0x5c, high1),
            (0x5d, high2),
        ]
    }
}

/// What a [`CmosRtc`] is connected to.
#[derive(Clone)]
pub struct Wiring {
    /// Interrupt line 8.
    pub irq: Arc<dyn IrqLine>,
    /// Where an alarm's wakeup goes.
    pub power: Arc<dyn PowerSink>,
    /// The wall clock, in nanoseconds since 1970. It may be set, backwards too.
    pub clock: Arc<dyn Clock>,
    /// Called when [`next_deadline`](Timed::next_deadline) may have changed.
    pub rearm: Arc<dyn Notify>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

/// The state of a [`CmosRtc`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which byte the data port shows, 0 to 127.
    pub index: u8,
    /// The bytes. Those of the time are meaningful only while the guest holds the clock, and 0
    /// otherwise.
    pub cmos: [u8; 128],
    /// The guest's time minus the wall clock, in nanoseconds.
    pub offset_ns: i128,
    /// The wall clock up to which flags and alarms have been worked out.
    pub seen_ns: u64,
    /// The wall clock from which the periods of the periodic interrupt are counted. Not after
    /// `seen_ns`.
    pub period_start_ns: u64,
}

/// The clock.
pub struct CmosRtc {
    state: Guarded<State>,
    wiring: Wiring,
}

impl CmosRtc {
    /// A clock that shows the wall clock, with the machine's memory filled in.
    pub fn new(memory: Memory, wiring: Wiring) -> Self {
        let mut state = State::fresh(wiring.clock.now_ns());
        for (index, value) in memory.registers() {
            state.set(index, value);
        }
        Self {
            state: Guarded::new(state),
            wiring,
        }
    }

    /// Puts a byte into the memory, for firmware to find: the boot order, the number of processors.
    ///
    /// # Errors
    ///
    /// [`Error::BadConfig`] if `index` is not plain memory: 0x0E to 0x7F without the century, 0x32.
    pub fn set_byte(&self, index: u8, value: u8) -> Result<(), Error> {
        if !(0x0e..0x80).contains(&index) || index == CENTURY {
            return Err(Error::BadConfig {
                device: "cmos-rtc",
                field: "index",
                found: u64::from(index),
                expected: "0x0E to 0x7F, and not 0x32 (the century)",
            });
        }
        self.state.lock().set(index, value);
        Ok(())
    }

    /// Marks that the VM enters S3, so that the firmware resumes instead of booting. Undone by
    /// every reset but the one of the wakeup.
    pub fn mark_suspend(&self) {
        self.state.lock().set(SHUTDOWN_STATUS, RESUME);
    }

    /// Does what firmware does first after a reset: reads the mark of
    /// [`mark_suspend`](Self::mark_suspend) and clears it. Returns whether to resume. For a VMM that
    /// resumes its guest without firmware.
    pub fn take_suspend_mark(&self) -> bool {
        let mut state = self.state.lock();
        let resumes = state.get(SHUTDOWN_STATUS) == RESUME;
        if resumes {
            state.set(SHUTDOWN_STATUS, 0);
        }
        resumes
    }

    /// Whether an alarm has gone off that the guest has enabled and not seen yet.
    ///
    /// A VMM asks when its VM has just been suspended. The alarm may have come after the guest's
    /// last look and before that: its wakeup then found a VM that was not asleep, and was dropped.
    /// Without the question, the guest would sleep on.
    pub fn alarm_stands(&self) -> bool {
        self.update(|state, _| state.alarm_stands())
    }

    /// Catches up, changes the state, sets the line as one with it, and then tells the others.
    fn update<T>(&self, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.state.lock();
        let now = self.wiring.clock.now_ns();
        let before = (state.interrupts(), state.next_deadline());
        let wakes = state.advance(now);
        let result = change(&mut state, now);
        let after = (state.interrupts(), state.next_deadline());
        if before.0 != after.0 {
            self.wiring.irq.set(after.0);
        }
        drop(state);
        if wakes {
            self.wiring
                .power
                .power(PowerRequest::Wakeup(WakeupReason::Rtc));
        }
        if before.1 != after.1 {
            self.wiring.rearm.notify();
        }
        result
    }

    fn read_byte(&self, offset: u64) -> u8 {
        match offset {
            DATA_OFFSET => self.update(State::read),
            _ => 0xff,
        }
    }

    fn write_byte(&self, offset: u64, value: u8) {
        match offset {
            // Bit 7 masks the NMI on a real board.
            INDEX_OFFSET => self.state.lock().index = value & 0x7f,
            DATA_OFFSET => self.update(|state, now| state.write(value, now)),
            _ => {}
        }
    }
}

impl Timed for CmosRtc {
    /// In nanoseconds of the wall clock.
    fn next_deadline(&self) -> Option<u64> {
        self.state.lock().next_deadline()
    }

    fn tick(&self) {
        self.update(|_, _| ());
    }
}

impl BusDevice for CmosRtc {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| self.read_byte(at));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for CmosRtc {
    fn enter(&self, kind: ResetType) {
        self.state.lock().reset(kind == ResetType::Wakeup);
    }

    fn hold(&self, _kind: ResetType) {
        self.wiring.irq.set(self.state.lock().interrupts());
        self.wiring.rearm.notify();
    }
}

impl SaveRestore for CmosRtc {
    type State = State;

    fn save(&self) -> State {
        self.update(|state, _| state.clone())
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if !state.is_sound() {
            return Err(Error::BadState {
                device: "cmos-rtc",
                field: "index, control registers or offset",
                found: u64::from(state.index),
                expected: "as `save` returned it",
            });
        }
        let mut current = self.state.lock();
        *current = state.clone();
        self.wiring.irq.set(current.interrupts());
        drop(current);
        self.wiring.rearm.notify();
        Ok(())
    }
}

impl Pausable for CmosRtc {}

impl fmt::Debug for CmosRtc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CmosRtc")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
