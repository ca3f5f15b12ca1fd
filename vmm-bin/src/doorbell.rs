//! A bell that any thread or signal handler rings and the main loop hears: an eventfd.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A bell. Ringing it twice before it is heard is as ringing it once.
#[derive(Debug)]
pub(crate) struct Doorbell(EventFd);

impl Doorbell {
    /// A silent bell.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map(Self)
    }

    /// Rings. Never blocks; async-signal-safe (one `write(2)`).
    pub(crate) fn ring(&self) {
        // It can fail only when the counter is full, and then the bell is ringing already.
        drop(self.0.write(1));
    }

    /// Silences the bell; says whether it rang.
    pub(crate) fn silence(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsRawFd for Doorbell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
