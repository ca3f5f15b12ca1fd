//! How many rounds of a list may be under way, one inside the other.
//!
//! The rule that must never be broken: every round that was entered is left, also when a callback
//! panics. The guard does it.

use core::cell::Cell;

use crate::error::NestingExceeded;

/// How many rounds of one list may be under way at a time, unless the list was made otherwise.
///
/// One is the round itself; the others are notifications that its callbacks make on the same list.
/// Eight is more than any known use needs, and few enough that a pair of notifiers that call each
/// other is found out long before the stack is used up.
pub const DEFAULT_MAX_NESTING: u32 = 8;

/// Counts the rounds that are under way.
#[derive(Debug)]
pub(crate) struct Nesting {
    depth: Cell<u32>,
    limit: u32,
}

impl Nesting {
    pub(crate) const fn new(limit: u32) -> Self {
        Self {
            depth: Cell::new(0),
            limit,
        }
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth.get()
    }

    /// Enters a round, which is left when the guard is dropped.
    pub(crate) fn enter(&self) -> Result<Entered<'_>, NestingExceeded> {
        let depth = self.depth.get();
        if depth >= self.limit {
            return Err(NestingExceeded { limit: self.limit });
        }
        self.depth.set(depth.saturating_add(1));
        Ok(Entered { nesting: self })
    }
}

/// Leaves the round when it is dropped.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    nesting: &'a Nesting,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.nesting
            .depth
            .set(self.nesting.depth.get().saturating_sub(1));
    }
}
