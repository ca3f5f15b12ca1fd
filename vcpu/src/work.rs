//! Closures on their way to a vCPU's thread, and the answers on their way back.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::error::Failure;
use crate::sync::{AtomicU64, Futex, Mutex, Ordering, lock, passed};

/// At most so many closures wait for one vCPU.
const CAPACITY: usize = 1024;

/// A closure on its way.
pub(crate) type Job<R> = Box<dyn FnOnce(&mut R) + Send>;

/// Why a closure was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Closed,
    Full,
}

/// The closures that wait for one vCPU, oldest first. `None` once it is closed.
pub(crate) struct WorkQueue<R> {
    jobs: Mutex<Option<VecDeque<Job<R>>>>,
}

impl<R> WorkQueue<R> {
    pub(crate) fn new() -> Self {
        Self {
            jobs: Mutex::new(Some(VecDeque::new())),
        }
    }

    pub(crate) fn push(&self, job: Job<R>) -> Result<(), Refused> {
        let mut jobs = lock(&self.jobs);
        let jobs = jobs.as_mut().ok_or(Refused::Closed)?;
        if jobs.len() >= CAPACITY {
            return Err(Refused::Full);
        }
        jobs.push_back(job);
        Ok(())
    }

    /// The oldest closure. The lock is not held while it runs.
    pub(crate) fn pop(&self) -> Option<Job<R>> {
        lock(&self.jobs).as_mut()?.pop_front()
    }

    /// Takes no more; what was waiting is dropped, and whoever waits for it is told.
    pub(crate) fn close(&self) {
        let left = lock(&self.jobs).take();
        drop(left);
    }
}

/// Where the answer of a synchronous closure is put.
pub(crate) struct Reply<T> {
    state: AtomicU64,
    futex: Futex,
    value: Mutex<Option<Result<T, Failure>>>,
}

/// The life of a synchronous closure.
const WAITING: u64 = 0;
const STARTED: u64 = 1;
const DONE: u64 = 2;
const WITHDRAWN: u64 = 3;

/// What became of a synchronous closure.
pub(crate) enum Outcome<T> {
    Done(T),
    Panicked(Failure),
    /// The vCPU ended first: it did not run.
    Abandoned,
    /// The deadline passed. It did not run and will not, unless it had already started.
    Late,
}

impl<T: Send + 'static> Reply<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(WAITING),
            futex: Futex::new(),
            value: Mutex::new(None),
        })
    }

    /// The job that runs `f` and answers here.
    pub(crate) fn job<R: 'static>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut R) -> T + Send + 'static,
    ) -> Job<R> {
        let answer = Answer(Arc::clone(self));
        Box::new(move |vcpu| {
            if answer.0.advance(WAITING, STARTED) {
                let value = catch_unwind(AssertUnwindSafe(|| f(vcpu)))
                    .map_err(|payload| Failure::panic("the closure", &*payload));
                *lock(&answer.0.value) = Some(value);
            }
        })
    }

    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Outcome<T> {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state == DONE {
                return match lock(&self.value).take() {
                    Some(Ok(value)) => Outcome::Done(value),
                    Some(Err(failure)) => Outcome::Panicked(failure),
                    None => Outcome::Abandoned,
                };
            }
            if passed(deadline) && (state == STARTED || self.advance(WAITING, WITHDRAWN)) {
                return Outcome::Late;
            }
            self.futex.wait(&self.state, state, deadline);
        }
    }

    fn advance(&self, from: u64, to: u64) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// Says "done" when the job has run, or was dropped without running.
struct Answer<T>(Arc<Reply<T>>);

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.0.state.store(DONE, Ordering::Release);
        self.0.futex.wake_all(&self.0.state);
    }
}
