//! Counting what a guest does wrong.
//!
//! A guest chooses how often it misbehaves, so a misdeed is counted and never logged.

use std::sync::atomic::{AtomicU64, Ordering};

/// An event counter that any thread may raise. It wraps after 2^64 events.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn count(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
