//! Where a device's bytes go: a sink that never makes a vCPU wait.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::counter::Counter;
use crate::sync::Guarded;
use crate::{NoNotify, Notify};

/// A sink for bytes that a guest writes.
///
/// Thread safety: called from vCPU threads with the device's lock held. It must not block: a sink
/// in front of a file descriptor sets it non-blocking or queues (see [`OutputRing`]).
pub trait Output: Send + Sync {
    /// Takes as many of `bytes` as it can at once and returns how many. The rest is lost, and the
    /// device counts it.
    fn write(&self, bytes: &[u8]) -> usize;
}

impl<O: Output + ?Sized> Output for Arc<O> {
    fn write(&self, bytes: &[u8]) -> usize {
        (**self).write(bytes)
    }
}

/// A bounded queue between a device and whoever writes its bytes out. What does not fit is dropped
/// and counted.
pub struct OutputRing {
    queue: Guarded<VecDeque<u8>>,
    capacity: usize,
    dropped: Counter,
    ready: Arc<dyn Notify>,
}

impl OutputRing {
    /// A queue of at most `capacity` bytes; the reader polls.
    pub fn new(capacity: usize) -> Self {
        Self::with_notify(capacity, Arc::new(NoNotify))
    }

    /// A queue of at most `capacity` bytes that calls `ready` when it stops being empty.
    pub fn with_notify(capacity: usize, ready: Arc<dyn Notify>) -> Self {
        Self {
            queue: Guarded::default(),
            capacity,
            dropped: Counter::new(),
            ready,
        }
    }

    /// Moves the oldest bytes into `buf` and returns how many.
    pub fn read(&self, buf: &mut [u8]) -> usize {
        let mut queue = self.queue.lock();
        let mut taken = 0_usize;
        for slot in buf.iter_mut() {
            let Some(byte) = queue.pop_front() else { break };
            *slot = byte;
            taken = taken.saturating_add(1);
        }
        taken
    }

    /// How many bytes wait.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes did not fit, since the queue was made.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Output for OutputRing {
    fn write(&self, bytes: &[u8]) -> usize {
        let (taken, was_empty) = {
            let mut queue = self.queue.lock();
            let was_empty = queue.is_empty();
            let taken = self.capacity.saturating_sub(queue.len()).min(bytes.len());
            queue.extend(bytes.iter().take(taken));
            (taken, was_empty)
        };
        let lost = bytes.len().saturating_sub(taken);
        self.dropped.add(u64::try_from(lost).unwrap_or(u64::MAX));
        if was_empty && taken > 0 {
            self.ready.notify();
        }
        taken
    }
}

impl fmt::Debug for OutputRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputRing")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
