//! SIGINT, SIGTERM and SIGHUP: the first asks for an orderly end, a later one may force it.
//!
//! ```text
//!   1st             posts to the lifecycle: SHUTDOWN, tear-down, exit
//!   2nd in tear-    restores the terminal and ends the process at once,
//!   down, or 3rd    with 128 + the signal's number
//! ```
//!
//! SIGPIPE is ignored (Rust's start-up code does that): a reader that has gone is an error of the
//! write.
//!
//! The rule that must never be broken: a handler does atomic loads and stores and plain system
//! calls, nothing else.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use lifecycle::Requests;

use crate::{sys, terminal};

/// The signals that end the program.
const TERMINATING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// After this many signals the program ends whatever it is doing.
const PATIENCE: u32 = 3;

// What a process does on a signal is one thing for the whole process, and so are these.
static REQUESTS: OnceLock<Arc<Requests>> = OnceLock::new();
static SEEN: AtomicU32 = AtomicU32::new(0);
static TEARING_DOWN: AtomicBool = AtomicBool::new(false);

/// Has the terminating signals posted to `requests` from now on.
///
/// # Errors
/// What the system says.
pub(crate) fn install(requests: &Arc<Requests>) -> io::Result<()> {
    let _ = REQUESTS.get_or_init(|| Arc::clone(requests));
    sys::handle_signals(&TERMINATING, on_signal)
}

/// The program is tearing down: a signal that comes on top of another one ends it at once.
pub(crate) fn tearing_down() {
    TEARING_DOWN.store(true, Ordering::Release);
}

/// What the program of a process is called: the name of its file. `None` if the process has gone,
/// or is another user's.
///
/// The sandbox lets no file be opened, so `/proc/PID/cmdline` is out of reach; a link can be read.
pub(crate) fn sender_name(pid: u32) -> Option<String> {
    let link = rustix::fs::readlink(format!("/proc/{pid}/exe"), Vec::new()).ok()?;
    let path = link.to_string_lossy();
    path.rsplit('/').next().map(str::to_owned)
}

/// Runs in a signal handler.
fn on_signal(signal: i32, pid: i32) {
    let seen = SEEN.fetch_add(1, Ordering::AcqRel).saturating_add(1);
    if seen >= PATIENCE || (seen > 1 && TEARING_DOWN.load(Ordering::Acquire)) {
        terminal::restore();
        sys::exit_now(signal.saturating_add(128));
    }
    if let Some(requests) = REQUESTS.get() {
        requests.killed(signal.unsigned_abs(), pid.unsigned_abs());
    }
}
