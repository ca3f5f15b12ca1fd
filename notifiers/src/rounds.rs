//! How many rounds of a list may be under way, one inside the other.

use core::cell::Cell;

use crate::error::NestingExceeded;

/// How many rounds of one list may be under way at a time, unless the list was made otherwise.
///
/// One is the round itself; the others are notifications that its callbacks make on the same list.
/// Eight is more than any known use needs, and few enough that a pair of notifiers that call each
/// other is found out long before the stack is.
pub const DEFAULT_MAX_NESTING: u32 = 8;

/// Counts the rounds that are under way.
#[derive(Debug)]
pub(crate) struct Rounds {
    under_way: Cell<u32>,
    limit: u32,
}

impl Rounds {
    pub(crate) const fn new(limit: u32) -> Self {
        Self {
            under_way: Cell::new(0),
            limit,
        }
    }

    pub(crate) fn under_way(&self) -> u32 {
        self.under_way.get()
    }

    /// Begins a round, which ends when the guard is dropped: also when a callback panics.
    pub(crate) fn begin(&self) -> Result<Round<'_>, NestingExceeded> {
        let under_way = self.under_way.get();
        if under_way >= self.limit {
            return Err(NestingExceeded { limit: self.limit });
        }
        self.under_way.set(under_way.saturating_add(1));
        Ok(Round { rounds: self })
    }
}

/// A round under way.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    rounds: &'a Rounds,
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        self.rounds
            .under_way
            .set(self.rounds.under_way.get().saturating_sub(1));
    }
}
