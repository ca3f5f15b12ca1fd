//! Sleeping until a control word changes: Linux's futex, on the word's low half.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The place where threads sleep on a word. On Linux the kernel finds the sleepers by the word's
/// address: there is nothing to store.
#[derive(Debug)]
pub(crate) struct Futex;

impl Futex {
    pub(crate) const fn new() -> Self {
        Self
    }

    /// Sleeps while the low half of `word` equals that of `seen`, at most until `deadline`. May return early:
    /// the caller looks again.
    pub(crate) fn wait(&self, word: &AtomicU64, seen: u64, deadline: Option<Instant>) {
        if word.load(Ordering::Acquire) != seen {
            return;
        }
        let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => None,
            Some(left) if left.is_zero() => return,
            Some(left) => Some(libc::timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }),
        };
        let left = left.as_ref().map_or(ptr::null(), ptr::from_ref);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the futex compares the low half"
        )]
        let low = seen as u32;
        // SAFETY: the address is that of a live, aligned half of an atomic, borrowed for the call; `left` is null
        // or points to a timespec that outlives the call. The kernel only reads both. Every error
        // (EAGAIN, EINTR, ETIMEDOUT) means: look again, which the caller does.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                low_half(word),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                low,
                left,
            );
        }
    }

    /// Wakes every thread that sleeps on `word`.
    pub(crate) fn wake_all(&self, word: &AtomicU64) {
        // SAFETY: the address is that of a live, aligned half of an atomic; the kernel uses it as a key only.
        let woken = unsafe {
            libc::syscall(
                libc::SYS_futex,
                low_half(word),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            )
        };
        debug_assert!(woken >= 0, "FUTEX_WAKE: {}", io::Error::last_os_error());
    }
}

/// The address of the half that holds everything but the epoch.
fn low_half(word: &AtomicU64) -> *const u32 {
    let halves = ptr::from_ref(word).cast::<u32>();
    halves.wrapping_add(usize::from(cfg!(target_endian = "big")))
}
