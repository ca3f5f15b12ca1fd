//! SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a later one may force it.
//!
//! ```text
//!   1st             posts to the lifecycle: SHUTDOWN, tear-down, exit
//!   2nd in tear-    restores the terminal and ends the process at once,
//!   down, or 3rd    with 128 + the signal's number
//! ```
//!
//! With `--shutdown-timeout` a first SIGTERM is noted instead, and the main loop asks the guest.
//!
//! SIGXFSZ does nothing: a file that may not get longer (`ulimit -f`) is an error of the write.
//! SIGPIPE is ignored (Rust's start-up code does that): a reader that has gone is an error of the
//! write.
//!
//! The handlers of these three run on the main loop's thread: the others block them.
//!
//! The rule that must never be broken: a handler does atomic loads and stores and plain system
//! calls, nothing else.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use lifecycle::{Requests, Signal};
use vmm_sys_util::signal::block_signal;

use crate::doorbell::Doorbell;
use crate::{sys, terminal};

/// The signals that end the program.
const TERMINATING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// After this many signals the program ends whatever it is doing.
const PATIENCE: u32 = 3;

// What a process does on a signal is one thing for the whole process, and so are these.
static REQUESTS: OnceLock<Arc<Requests>> = OnceLock::new();
static SEEN: AtomicU32 = AtomicU32::new(0);
/// Who asks for an end that the guest may have a say in: the process in the upper half, the signal
/// in the lower one. 0 is nobody.
static ASKED: AtomicU64 = AtomicU64::new(0);
/// Rung for who asks. Empty: nobody is asked first.
static BELL: OnceLock<Arc<Doorbell>> = OnceLock::new();
static TEARING_DOWN: AtomicBool = AtomicBool::new(false);

/// Has the terminating signals posted to `requests` from now on.
///
/// # Errors
/// What the system says.
pub(crate) fn install(requests: &Arc<Requests>) -> io::Result<()> {
    let _ = REQUESTS.get_or_init(|| Arc::clone(requests));
    sys::handle_signals(&TERMINATING, on_signal)?;
    sys::handle_signals(&[libc::SIGXFSZ], on_signal)
}

/// From now on a first SIGTERM is only noted, and `bell` rung: see [`asked`].
pub(crate) fn ask_first(bell: &Arc<Doorbell>) {
    let _ = BELL.get_or_init(|| Arc::clone(bell));
}

/// The SIGTERM that was noted, if one was.
pub(crate) fn asked() -> Option<Signal> {
    let asked = ASKED.load(Ordering::Acquire);
    let number = u32::try_from(asked & u64::from(u32::MAX)).ok()?;
    let pid = u32::try_from(asked >> 32).ok()?;
    (number != 0).then_some(Signal { number, pid })
}

/// The calling thread is not interrupted by the terminating signals any more: the thread of the main loop
/// is. A handler that ends the program does what the other threads' sandbox does not let through.
pub(crate) fn leave_to_the_main_loop() {
    for signal in TERMINATING {
        // Who started the program may have blocked it already; nothing else can go wrong.
        drop(block_signal(signal));
    }
}

/// The program is tearing down: a signal that comes on top of another one ends it at once.
pub(crate) fn tearing_down() {
    TEARING_DOWN.store(true, Ordering::Release);
}

/// Runs in a signal handler.
fn on_signal(signal: i32, pid: i32) {
    if signal == libc::SIGXFSZ {
        return;
    }
    let seen = SEEN.fetch_add(1, Ordering::AcqRel).saturating_add(1);
    if seen >= PATIENCE || (seen > 1 && TEARING_DOWN.load(Ordering::Acquire)) {
        terminal::restore();
        sys::exit_now(signal.saturating_add(128));
    }
    if let (libc::SIGTERM, 1, Some(bell)) = (signal, seen, BELL.get()) {
        let asked = (u64::from(pid.unsigned_abs()) << 32) | u64::from(signal.unsigned_abs());
        ASKED.store(asked, Ordering::Release);
        bell.ring();
        return;
    }
    if let Some(requests) = REQUESTS.get() {
        requests.killed(signal.unsigned_abs(), pid.unsigned_abs());
    }
}
