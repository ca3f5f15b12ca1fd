//! What the front of the program needs and the safe crates do not offer: the bytes that the
//! assembler left for the embedded guest, signal handlers that learn who sent the signal,
//! descriptors that the program was started with, one heap for all threads, and the immediate end of the
//! process.
//!
//! The rule that must never be broken: nothing here decides anything.

#![expect(
    unsafe_code,
    reason = "symbols of the assembler, signal handlers and inherited descriptors have no safe form"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_void, siginfo_t};

use crate::platform::layout;

/// The i8042's command port.
const I8042_COMMAND: u16 = 0x64;
/// System control port A.
const PORT_92: u16 = 0x92;

/// The embedded guest's source: its files in the order of the image.
macro_rules! embedded_guest_source {
    () => {
        concat!(
            include_str!("guest/menu.s"),
            include_str!("guest/entries.s"),
            include_str!("guest/routines.s"),
            include_str!("guest/interrupts.s"),
            include_str!("guest/data.s"),
            include_str!("guest/reset_vector.s"),
        )
    };
}

core::arch::global_asm!(
    embedded_guest_source!(),
    com1 = const layout::COM1,
    i8042_command = const I8042_COMMAND,
    port92 = const PORT_92,
    reset_control = const layout::RESET_CONTROL,
    debug_exit = const layout::DEBUG_EXIT,
    pvpanic = const layout::PVPANIC,
    ib700 = const layout::IB700,
    pm1_base = const layout::PM_BASE,
    rtc = const layout::RTC,
    options(att_syntax)
);

#[cfg(test)]
pub(crate) const EMBEDDED_GUEST_SOURCE: &str = embedded_guest_source!();

unsafe extern "C" {
    static embedded_guest_image: u8;
    static embedded_guest_image_end: u8;
}

/// The embedded guest's image, as the assembler made it.
pub(crate) fn embedded_guest() -> &'static [u8] {
    let start = &raw const embedded_guest_image;
    let end = &raw const embedded_guest_image_end;
    let len = end.addr().saturating_sub(start.addr());
    // SAFETY: both symbols bound one section of initialised, read-only bytes that is part of this
    // program and is never unloaded (`guest/menu.s`).
    unsafe { slice::from_raw_parts(start, len) }
}

/// What is called for a signal: its number and the sender's process, 0 if there is none.
///
/// It runs in a signal handler and may do only what is async-signal-safe.
pub(crate) type SignalHandler = fn(signal: c_int, pid: i32);

static HANDLER: OnceLock<SignalHandler> = OnceLock::new();

/// Has `handler` called for each of `signals` from now on. Only the first handler ever given
/// counts: what a process does on a signal is one thing for the whole process.
///
/// # Errors
/// What `sigaction(2)` says.
pub(crate) fn handle_signals(signals: &[c_int], handler: SignalHandler) -> io::Result<()> {
    let _ = HANDLER.get_or_init(|| handler);
    let entry: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_signal;
    // SAFETY: all zeroes is a valid `sigaction`: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = entry as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    for &signal in signals {
        // SAFETY: `action` is complete, and `on_signal` has the signature that SA_SIGINFO asks for.
        let result = unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

extern "C" fn on_signal(signal: c_int, info: *mut siginfo_t, _context: *mut c_void) {
    // SAFETY: the location of this thread's errno is always valid.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; it is read before anything can change it.
    let saved = unsafe { errno.read() };
    // SAFETY: the kernel passes a valid `siginfo_t` to a handler with SA_SIGINFO; it lives until
    // the handler returns.
    let info = unsafe { &*info };
    // SAFETY: for the signals that processes and terminals send, the union holds the sender.
    let pid = unsafe { info.si_pid() };
    if let Some(handler) = HANDLER.get() {
        handler(signal, pid);
    }
    // SAFETY: as above.
    unsafe { errno.write(saved) };
}

/// Takes over the descriptors with these numbers, which the program was started with, and closes all
/// others but the standard streams. Only the first call does anything, and `main` makes it before
/// anything else is opened.
pub(crate) fn take_over_descriptors(
    numbers: BTreeSet<c_int>,
) -> BTreeMap<c_int, io::Result<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return BTreeMap::new();
    }
    close_others(&numbers);
    let own = |number| (number, take_over(number));
    numbers.into_iter().map(own).collect()
}

/// Closes what the program was started with and does not know. Nobody meant it for this program:
/// what it leads to would be in reach of whoever breaks out of the guest, past every sandbox.
fn close_others(known: &BTreeSet<c_int>) {
    let mut first = libc::STDERR_FILENO.saturating_add(1);
    for &number in known {
        close_range(first, number.saturating_sub(1));
        first = number.saturating_add(1);
    }
    close_range(first, c_int::MAX);
}

/// Closes these descriptors and those between them. A kernel that cannot do that (before Linux 5.9)
/// leaves them open.
fn close_range(first: c_int, last: c_int) {
    if first <= last {
        // SAFETY: the call takes no pointer. Nobody in this process owns one of these descriptors:
        // nothing was opened before, and the standard streams are not among them.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

fn take_over(number: c_int) -> io::Result<OwnedFd> {
    // It is not for programs that are started from here, if there ever are any.
    // SAFETY: F_SETFD takes any number, and no pointer.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, or F_SETFD would have failed. Nobody in this process owns it: each number
    // comes here at most once, the standard streams never do, and nothing was opened before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has all threads share one heap, from which large buffers are kept out: they go back to the system
/// when they are freed.
///
/// By itself glibc would give each thread its own, of which it changes the protection as it grows, and
/// those threads next to never allocate. And the first large buffer that is freed (a dump's, say) would
/// have it take later ones from the heap, which then grows with the holes that they leave.
/// Call it before there is a second thread.
pub(crate) fn one_heap() {
    /// What glibc begins with, in bytes. That it is set keeps it so.
    #[cfg(target_env = "gnu")]
    const LARGE: c_int = 128 << 10;
    #[cfg(target_env = "gnu")]
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, LARGE)] {
        // SAFETY: the call takes two numbers, and sets one of the allocator's.
        let _known = unsafe { libc::mallopt(option, value) };
    }
}

/// Ends the process at once: no destructor runs. Async-signal-safe.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory.
    unsafe { libc::_exit(code) }
}
