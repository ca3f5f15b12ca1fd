//! The block as a pure function of its registers and the timer's count: no lock, no line, no clock.

use super::timer;
use super::{GLOBAL, POWER_BUTTON, RTC, State, TIMER};

/// Control: ACPI is on.
const SCI_EN: u16 = 0x0001;
/// Control: enter the sleep state.
const SLP_EN: u16 = 0x2000;
/// Control: which.
const SLP_TYP_SHIFT: u32 = 10;
/// The largest SLP_TYP.
pub(super) const SLP_TYP_MAX: u8 = 7;

/// What raises the SCI.
const SCI_SOURCES: u16 = TIMER | GLOBAL | POWER_BUTTON | RTC;

/// What a write asks of the outside.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asks {
    /// Enter the sleep state of this SLP_TYP.
    pub(super) sleep: Option<u8>,
    /// The enable bits were written: the wakeup sources follow them.
    pub(super) enables: bool,
}

/// The registers, and what has been done about the timer.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) state: State,
    /// The timer's wakeup was posted for the status bit that stands now.
    timer_told: bool,
}

impl Block {
    pub(super) const fn fresh() -> Self {
        let state = State {
            status: 0,
            enable: 0,
            control: SCI_EN,
            overflow_at: 0,
        };
        Self {
            state,
            timer_told: false,
        }
    }

    pub(super) const fn restored(state: State) -> Self {
        Self {
            state,
            timer_told: false,
        }
    }

    /// Whether what a saved PM1_CNT holds can be.
    pub(super) fn is_sound(state: &State) -> bool {
        state.control & (SLP_EN | SCI_EN) == SCI_EN
    }

    /// Whether the SCI is high.
    pub(super) fn sci(&self, ticks: u64) -> bool {
        self.status(ticks) & self.state.enable & SCI_SOURCES != 0
    }

    /// When the timer is to interrupt, in ticks: never while its bit is not enabled, or stands and
    /// was told.
    pub(super) fn deadline(&self, ticks: u64) -> Option<u64> {
        let State {
            status,
            enable,
            overflow_at,
            ..
        } = self.state;
        let waits = enable & TIMER != 0 && status & TIMER == 0;
        let told = self.timer_told && ticks >= overflow_at;
        (waits && !told).then_some(overflow_at)
    }

    /// Whether the timer's interrupt is due. Says so once for each time that its bit is set.
    pub(super) fn take_timer(&mut self, ticks: u64) -> bool {
        let due = self.deadline(ticks).is_some_and(|due| due <= ticks);
        self.timer_told |= due;
        due
    }

    pub(super) fn press(&mut self) -> bool {
        let heeded = self.state.enable & POWER_BUTTON != 0;
        if heeded {
            self.state.status |= POWER_BUTTON;
        }
        heeded
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8], ticks: u64) {
        for (index, slot) in (0_u64..).zip(data) {
            let at = offset.wrapping_add(index);
            let [low, high] = self.word(at & !1, ticks).to_le_bytes();
            *slot = if at & 1 == 0 { low } else { high };
        }
    }

    /// Takes an access of any width: as many 16-bit registers as it reaches, each with a mask of
    /// the bytes written.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], ticks: u64) -> Asks {
        let mut asks = Asks::default();
        let mut bytes = (0_u64..).map(|index| offset.wrapping_add(index)).zip(data);
        while let Some((at, &first)) = bytes.next() {
            let (value, mask) = if at & 1 == 1 {
                (u16::from_le_bytes([0, first]), 0xff00)
            } else if let Some((_, &second)) = bytes.next() {
                (u16::from_le_bytes([first, second]), 0xffff)
            } else {
                (u16::from(first), 0x00ff)
            };
            match at & !1 {
                0 => self.clear(value & mask, ticks),
                2 => {
                    self.state.enable = self.state.enable & !mask | value & mask;
                    asks.enables = true;
                }
                4 => asks.sleep = self.control(value, mask).or(asks.sleep),
                _ => {}
            }
        }
        asks
    }

    fn status(&self, ticks: u64) -> u16 {
        let timer = if ticks >= self.state.overflow_at {
            TIMER
        } else {
            0
        };
        self.state.status | timer
    }

    /// The register at an even offset.
    fn word(&self, offset: u64, ticks: u64) -> u16 {
        let [t0, t1, t2, ..] = ticks.to_le_bytes();
        match offset {
            0 => self.status(ticks),
            2 => self.state.enable,
            4 => self.state.control,
            8 => u16::from_le_bytes([t0, t1]),
            10 => u16::from(t2),
            _ => 0,
        }
    }

    fn clear(&mut self, bits: u16, ticks: u64) {
        if self.status(ticks) & bits & TIMER != 0 {
            self.state.overflow_at = timer::next_overflow(ticks);
            self.timer_told = false;
        }
        self.state.status &= !bits;
    }

    /// Writes some bytes of PM1_CNT. The sleep type is that of the whole register, after the write.
    fn control(&mut self, value: u16, mask: u16) -> Option<u8> {
        let merged = self.state.control & !mask | value & mask;
        self.state.control = merged & !SLP_EN | SCI_EN;
        let [kind, _] = (merged >> SLP_TYP_SHIFT).to_le_bytes();
        (value & mask & SLP_EN != 0).then_some(kind & SLP_TYP_MAX)
    }
}
