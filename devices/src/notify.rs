//! Telling the main loop to look again.

/// A hint to the VMM's main loop: a deadline moved, output waits, input fits again. An eventfd
/// write in most VMMs.
///
/// Every `Fn() + Send + Sync` is one. It carries nothing; who is notified looks at the device. It
/// may come once too often, never too rarely.
///
/// Thread safety: called from vCPU threads, by an [`OutputRing`](crate::OutputRing) also with its
/// device's lock held. It must not block and must not call back into a device.
pub trait Notify: Send + Sync {
    /// Asks to be looked at soon.
    fn notify(&self);
}

impl<F: Fn() + Send + Sync> Notify for F {
    fn notify(&self) {
        self();
    }
}

/// Nobody is to be told: for a VMM that polls, and for tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoNotify;

impl Notify for NoNotify {
    fn notify(&self) {}
}
