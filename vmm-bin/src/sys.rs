//! What the front of the program needs and the safe crates do not offer: the bytes that the
//! assembler left for the embedded guest, signal handlers that learn who sent the signal, and the
//! immediate end of the process.
//!
//! The rule that must never be broken: nothing here decides anything.

#![expect(
    unsafe_code,
    reason = "symbols of the assembler and signal handlers have no safe form"
)]

use std::io;
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use libc::{c_int, c_void, siginfo_t};

use crate::platform::layout;

/// The i8042's command port.
const I8042_COMMAND: u16 = 0x64;
/// System control port A.
const PORT_92: u16 = 0x92;

core::arch::global_asm!(
    include_str!("guest/menu.s"),
    com1 = const layout::COM1,
    i8042_command = const I8042_COMMAND,
    port92 = const PORT_92,
    reset_control = const layout::RESET_CONTROL,
    debug_exit = const layout::DEBUG_EXIT,
    pvpanic = const layout::PVPANIC,
    pm1_base = const layout::PM_BASE,
    rtc = const layout::RTC,
    options(att_syntax)
);

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

/// Ends the process at once: no destructor runs. Async-signal-safe.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory.
    unsafe { libc::_exit(code) }
}
