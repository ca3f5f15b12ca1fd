//! What a pause of one vCPU takes at the least: a small program of its own, without the crate.
//!
//! Store a request, set `immediate_exit`, signal; the vCPU's KVM_RUN returns EINTR, and it acknowledges with a store and
//! a futex wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use kvm_ioctls::{KvmRunWrapper, VcpuFd};

use crate::real_guest::Machine;

const RUN: u32 = 0;
const STOP: u32 = 1;
const STOPPED: u32 = 2;
const END: u32 = 3;

/// One vCPU of the floor, and its thread.
pub(crate) struct Floor {
    shared: Arc<(AtomicU32, AtomicI32, AtomicU32)>,
    page: KvmRunWrapper,
    signal: i32,
    thread: Option<JoinHandle<()>>,
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    // SAFETY: the address is that of a live atomic; no timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation | libc::FUTEX_PRIVATE_FLAG,
            value,
            std::ptr::null::<libc::timespec>(),
        );
    }
}

extern "C" fn nothing(_: libc::c_int) {}

impl Floor {
    /// A vCPU that will run `code`, once it is let.
    pub(crate) fn new(machine: &Machine, id: u64, code: &[u8]) -> Self {
        let mut fd: VcpuFd = machine.descriptor(id, code);
        let page = KvmRunWrapper::mmap_from_fd(&fd, machine.run_size()).unwrap();
        let shared = Arc::new((
            AtomicU32::new(STOPPED),
            AtomicI32::new(0),
            AtomicU32::new(0),
        ));
        let inside = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let (state, thread, in_guest) = &*inside;
            // SAFETY: no arguments.
            thread.store(unsafe { libc::gettid() }, Ordering::SeqCst);
            loop {
                fd.set_kvm_immediate_exit(0);
                match state.load(Ordering::SeqCst) {
                    RUN => {
                        in_guest.store(1, Ordering::SeqCst);
                        drop(fd.run());
                        in_guest.store(0, Ordering::SeqCst);
                    }
                    STOP => {
                        state.store(STOPPED, Ordering::SeqCst);
                        futex(state, libc::FUTEX_WAKE, u32::MAX >> 1);
                    }
                    STOPPED => futex(state, libc::FUTEX_WAIT, STOPPED),
                    _ => return,
                }
            }
        });
        while shared.1.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
        // Not the crate's, which stands beside it.
        let signal = libc::SIGRTMIN().saturating_add(1);
        let handler: extern "C" fn(libc::c_int) = nothing;
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        Self {
            shared,
            page,
            signal,
            thread: Some(thread),
        }
    }

    /// Whether its thread has gone to the guest.
    pub(crate) fn in_guest(&self) -> bool {
        self.shared.2.load(Ordering::SeqCst) != 0
    }

    /// Asks for a pause.
    pub(crate) fn request(&mut self) {
        self.shared.0.store(STOP, Ordering::SeqCst);
        self.page.as_mut_ref().immediate_exit = 1;
        self.signal();
    }

    /// Waits for the pause that was asked for.
    pub(crate) fn wait(&self) {
        while self.shared.0.load(Ordering::SeqCst) == STOP {
            futex(&self.shared.0, libc::FUTEX_WAIT, STOP);
        }
    }

    /// Has KVM_RUN return.
    pub(crate) fn signal(&self) {
        let thread = self.shared.1.load(Ordering::SeqCst);
        // SAFETY: plain numbers; the handler does nothing.
        unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), thread, self.signal) };
    }

    /// Lets the guest run.
    pub(crate) fn go_on(&self) {
        self.set(RUN);
    }

    fn set(&self, how: u32) {
        self.shared.0.store(how, Ordering::SeqCst);
        futex(&self.shared.0, libc::FUTEX_WAKE, u32::MAX >> 1);
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.set(END);
        self.thread.take().map(JoinHandle::join);
    }
}
