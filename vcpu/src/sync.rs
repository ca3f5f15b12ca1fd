//! The one place that knows which threads, locks and atomics are in use: the real ones, loom's or
//! shuttle's. The models have no clock: there, no deadline ever passes.

use std::sync::PoisonError;
use std::time::Instant;

#[cfg(not(any(loom, shuttle)))]
pub(crate) use real::*;
#[cfg(not(any(loom, shuttle)))]
mod real {
    #[cfg(feature = "test-utilities")]
    pub(crate) use std::sync::Condvar;
    pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::{Builder, JoinHandle, ThreadId, current, yield_now};

    pub(crate) use crate::sys::Futex;
}

#[cfg(loom)]
pub(crate) use self::loom_types::*;
#[cfg(loom)]
mod loom_types {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{Builder, JoinHandle, ThreadId, current, yield_now};

    pub(crate) use super::model::Futex;
}

#[cfg(shuttle)]
pub(crate) use self::shuttle_types::*;
#[cfg(shuttle)]
mod shuttle_types {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::{Builder, JoinHandle, ThreadId, current, yield_now};

    pub(crate) use super::model::Futex;
}

/// A futex as the models see it: the comparison and the falling asleep are one step.
#[cfg(any(loom, shuttle))]
mod model {
    use std::time::Instant;

    use super::{AtomicU64, Condvar, Mutex, Ordering, lock};

    #[derive(Debug)]
    pub(crate) struct Futex {
        bucket: Mutex<()>,
        sleepers: Condvar,
        wakes_one: bool,
    }

    impl Futex {
        pub(crate) fn new() -> Self {
            Self {
                bucket: Mutex::new(()),
                sleepers: Condvar::new(),
                wakes_one: false,
            }
        }

        /// A seeded bug: wakes one sleeper where all must wake.
        pub(crate) fn waking_one() -> Self {
            Self {
                wakes_one: true,
                ..Self::new()
            }
        }

        pub(crate) fn wait(&self, word: &AtomicU64, seen: u64, _deadline: Option<Instant>) {
            let bucket = lock(&self.bucket);
            // The kernel compares the low half: the phase, the flags and the counts.
            if word.fetch_or(0, Ordering::AcqRel) & 0xffff_ffff == seen & 0xffff_ffff {
                drop(self.sleepers.wait(bucket));
            }
        }

        pub(crate) fn wake_all(&self, _word: &AtomicU64) {
            let _bucket = lock(&self.bucket);
            if self.wakes_one {
                self.sleepers.notify_one();
            } else {
                self.sleepers.notify_all();
            }
        }
    }
}

/// Takes a lock whatever became of its last holder: no holder in this crate leaves the data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `deadline` has passed.
pub(crate) fn passed(deadline: Option<Instant>) -> bool {
    if cfg!(any(loom, shuttle)) {
        return false;
    }
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}
