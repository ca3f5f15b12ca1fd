//! The kick signal: `SIGRTMIN`, with a handler that does nothing. Its arrival is what counts: it ends `KVM_RUN`.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// Proof that the kick signal has its handler in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KickSignal(libc::c_int);

extern "C" fn do_nothing(_: libc::c_int) {}

impl KickSignal {
    /// Installs the handler, once or again. A signal's disposition belongs to the process: a handler that somebody else
    /// put there is left alone, and is an error.
    pub(crate) fn install() -> io::Result<Self> {
        let signal = libc::SIGRTMIN();
        let ours = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        let mut old = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: a null `act` only asks; `old` is large enough and writable.
        check(unsafe { libc::sigaction(signal, ptr::null(), old.as_mut_ptr()) })?;
        // SAFETY: zeroes are a valid sigaction, and the call above filled it in.
        let old = unsafe { old.assume_init() };
        if old.sa_sigaction == ours {
            return Ok(Self(signal));
        }
        if old.sa_sigaction != libc::SIG_DFL {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "SIGRTMIN has a handler already; vCPU kicks need it",
            ));
        }
        // SAFETY: zeroes are a valid sigaction: no flags (so no SA_RESTART), an empty mask.
        let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        new.sa_sigaction = ours;
        // SAFETY: `new` is a valid sigaction, and its handler touches nothing: it is async-signal-safe.
        check(unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) })?;
        Ok(Self(signal))
    }

    /// Makes the calling thread a target: the kick signal can get in, the other asynchronous ones go to other threads.
    /// What a thread does wrong itself (SIGSEGV, SIGBUS...) stays its own.
    pub(crate) fn accept_on_this_thread(self) -> ThreadTarget {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: `mask` is writable and large enough.
        unsafe { libc::sigfillset(mask.as_mut_ptr()) };
        let own = [
            self.0,
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGSYS,
            libc::SIGABRT,
        ];
        for signal in own {
            // SAFETY: the set was initialised by sigfillset, and `signal` is a signal's number.
            unsafe { libc::sigdelset(mask.as_mut_ptr(), signal) };
        }
        // SAFETY: the set is initialised; a null old set is allowed. It cannot fail with SIG_SETMASK.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) };
        // SAFETY: no arguments, cannot fail.
        let process = unsafe { libc::getpid() };
        // SAFETY: no arguments, cannot fail.
        let thread = unsafe { libc::gettid() };
        ThreadTarget {
            process,
            thread,
            signal: self.0,
        }
    }
}

/// A thread that accepts the kick signal, by number: no pointer to anything of the thread's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadTarget {
    process: libc::pid_t,
    thread: libc::pid_t,
    signal: libc::c_int,
}

impl ThreadTarget {
    /// Sends the signal. Async-signal-safe. Who calls it knows that the thread has not ended: the control word counts
    /// the kicks under way, and a thread waits for them before it ends.
    pub(crate) fn signal(self) {
        // SAFETY: plain numbers; the handler does nothing, so even a wrong thread would see no more than an EINTR.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, self.signal) };
        debug_assert!(sent == 0, "tgkill: {}", io::Error::last_os_error());
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
