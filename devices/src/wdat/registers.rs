//! The watchdog as a pure function of its registers and the time: no lock, no clock, no sink.

use super::{
    COUNT_OFFSET, CURRENT_OFFSET, DEFAULT_COUNT, PERIOD_MS, PERIOD_OFFSET, REBOOT_OFFSET,
    RESTART_OFFSET, RUN_OFFSET, STATUS_OFFSET, State,
};
use crate::watchdog::Registers;

const PERIOD_NS: u64 = 1_000_000 * PERIOD_MS as u64;
/// The one bit of the registers that have one.
const BIT: u8 = 1;

impl Registers for State {
    fn expires_at(&mut self) -> &mut Option<u64> {
        &mut self.expires_at
    }

    fn expire(&mut self) -> bool {
        self.expired |= self.reboot;
        self.reboot
    }
}

impl State {
    pub(super) const fn fresh() -> Self {
        Self {
            running: false,
            reboot: true,
            expired: false,
            count: DEFAULT_COUNT,
            expires_at: None,
        }
    }

    /// What a reset leaves.
    pub(super) const fn after_reset(self) -> Self {
        Self {
            expired: self.expired,
            ..Self::fresh()
        }
    }

    /// Whether what a saved state holds can be.
    pub(super) const fn is_sound(&self) -> bool {
        self.running || self.expires_at.is_none()
    }

    pub(super) fn read(&self, offset: u64, now: u64) -> u8 {
        match offset {
            RUN_OFFSET => u8::from(self.running),
            REBOOT_OFFSET => u8::from(self.reboot),
            STATUS_OFFSET => u8::from(self.expired),
            COUNT_OFFSET.. => {
                let word = match offset & !1 {
                    COUNT_OFFSET => self.count,
                    CURRENT_OFFSET => self.current(now),
                    PERIOD_OFFSET => PERIOD_MS,
                    _ => 0,
                };
                let [low, high] = word.to_le_bytes();
                if offset & 1 == 0 { low } else { high }
            }
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u8, now: u64) {
        let [low, high] = self.count.to_le_bytes();
        match offset {
            RUN_OFFSET if value & BIT == 0 => {
                self.running = false;
                self.stop();
            }
            RUN_OFFSET if !self.running => {
                self.running = true;
                self.start_over(now);
            }
            RESTART_OFFSET if self.running => self.start_over(now),
            REBOOT_OFFSET => self.reboot = value & BIT != 0,
            STATUS_OFFSET => self.expired &= value & BIT == 0,
            COUNT_OFFSET => self.count = u16::from_le_bytes([value, high]),
            COUNT_HIGH => self.count = u16::from_le_bytes([low, value]),
            _ => {}
        }
    }

    fn start_over(&mut self, now: u64) {
        self.start(now, u64::from(self.count).saturating_mul(PERIOD_NS));
    }

    /// How many periods are left, begun ones included.
    fn current(&self, now: u64) -> u16 {
        match self.expires_at {
            Some(at) => {
                let periods = at.saturating_sub(now).div_ceil(PERIOD_NS);
                u16::try_from(periods).unwrap_or(u16::MAX)
            }
            None if self.running => 0,
            None => self.count,
        }
    }
}

/// The high byte of the countdown.
const COUNT_HIGH: u64 = COUNT_OFFSET + 1;
