//! The 24 inputs of the I/O APIC: their levels, for a test client that asks to be told of changes.
//!
//! An interrupt line of the PC is reported under its own number, the timer's as 0.
//!
//! The rule that must never be broken: a level that does not change is not reported.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::ioapic::PINS as COUNT;

/// How many changes wait for a client: of each timer that one request runs, if need be. Who drives a
/// pin more often between two looks has the oldest changes forgotten; the guest decides how often that
/// is.
const MOST_CHANGES: usize = 1 << 19;

/// A pin's new level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which pin, 0 to 23.
    pub(crate) pin: u32,
    /// Its level.
    pub(crate) level: bool,
}

/// The pins.
#[derive(Debug, Default)]
pub(crate) struct Pins(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    watched: bool,
    /// One bit a pin: its level as it was last reported.
    reported: u32,
    changes: VecDeque<Change>,
}

impl Pins {
    /// From now on, changes are kept for the client.
    pub(crate) fn watch(&self) {
        self.lock().watched = true;
    }

    /// All pins count as low, and no change is waiting: a new client has come.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.reported = 0;
        state.changes.clear();
    }

    /// Drives a pin. `false` if there is no such pin.
    pub(crate) fn set(&self, pin: u32, level: bool) -> bool {
        if pin >= COUNT {
            return false;
        }
        let mut state = self.lock();
        let bit = 1_u32 << pin;
        if !state.watched || (state.reported & bit != 0) == level {
            return true;
        }
        state.reported ^= bit;
        if state.changes.len() == MOST_CHANGES {
            state.changes.pop_front();
        }
        state.changes.push_back(Change { pin, level });
        true
    }

    /// The changes since the last call, in their order.
    pub(crate) fn take(&self) -> VecDeque<Change> {
        std::mem::take(&mut self.lock().changes)
    }

    /// A panic elsewhere does not make the levels wrong.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pins: &Pins) -> Vec<(u32, bool)> {
        let changes = pins.take().into_iter();
        changes.map(|change| (change.pin, change.level)).collect()
    }

    #[test]
    fn changes_are_kept_once_somebody_watches() {
        let pins = Pins::default();
        pins.set(8, true);
        assert_eq!(taken(&pins), []);
        pins.set(8, false);
        pins.watch();
        for level in [true, true, false, false, true] {
            pins.set(8, level);
        }
        assert_eq!(taken(&pins), [(8, true), (8, false), (8, true)]);
        assert_eq!(taken(&pins), []);
    }

    #[test]
    fn a_new_client_begins_with_low_pins() {
        let pins = Pins::default();
        pins.watch();
        assert!(pins.set(9, true));
        pins.forget();
        assert_eq!(taken(&pins), []);
        pins.set(9, true);
        assert_eq!(taken(&pins), [(9, true)]);
    }

    #[test]
    fn there_is_no_twenty_fifth_pin_and_no_endless_memory() {
        let pins = Pins::default();
        pins.watch();
        assert!(!pins.set(COUNT, true));
        assert!(!pins.set(u32::MAX, true));
        for turn in 0..MOST_CHANGES + 3 {
            pins.set(0, turn % 2 == 0);
        }
        assert_eq!(pins.take().len(), MOST_CHANGES);
    }
}
