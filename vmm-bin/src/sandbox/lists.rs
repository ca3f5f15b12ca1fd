//! What each kind of thread may ask of the kernel, as data.
//!
//! `tests/system_calls.rs` runs VMs and holds what their threads have asked for against these lists: what
//! nobody asks for fails it, unless the test has the reason why it must be allowed all the same.
//!
//! An entry that is not obvious says who needs it. An entry that nobody needs any more goes.
//!
//! The rule that must never be broken: nothing here connects, starts or executes anything, nothing makes
//! memory executable, and nothing opens a file but the thread that writes dumps, which serves no guest and
//! no client, and which there is only if the command line names a directory for dumps.

use Condition::{Has, Is, Lacks, OwnProcess};
use libc::c_long;

use super::requests::{self, Request};

/// One system call, and what its arguments must be: all conditions hold. A call with several entries
/// is allowed if one of them fits, and each has conditions.
#[derive(Debug)]
pub(super) struct Allowed {
    pub(super) call: c_long,
    pub(super) conditions: &'static [Condition],
}

/// What an argument must be. All of these are 32 bits wide: the kernel looks at no more.
#[derive(Debug, Clone, Copy)]
pub(super) enum Condition {
    /// Argument `.0` is `.1`.
    Is(u8, i32),
    /// Argument `.0` has all bits of `.1`.
    Has(u8, i32),
    /// Argument `.0` has no bit of `.1`.
    Lacks(u8, i32),
    /// Argument `.0` is the number of this process.
    OwnProcess(u8),
}

/// What one kind of thread may do.
#[derive(Debug)]
pub(super) struct Role {
    /// Lists of system calls.
    pub(super) calls: &'static [&'static [Allowed]],
    /// Requests of ioctl(2), the most frequent first.
    pub(super) requests: &'static [Request],
}

/// The thread of the main loop, from its first turn to the end of the process.
pub(super) const MAIN_LOOP: Role = Role {
    calls: &[
        MEMORY, THREADS, OUTPUT, LOOK_FIRST, CLOSE, EVENTS, STREAMS, FILES, TEAR_DOWN, MUSL,
    ],
    requests: &[
        requests::KVM_IRQ_LINE,
        // The guest's time: stop, start, reset.
        requests::KVM_GET_CLOCK,
        requests::KVM_SET_CLOCK,
        requests::KVM_GET_PIT2,
        requests::KVM_SET_PIT2,
        requests::KVM_SET_IRQCHIP,
        // The terminal is restored, with the older one where the newer one is unknown.
        requests::TCSETS2,
        requests::TCSETS,
    ],
};

/// A vCPU's thread, from before its first entry into the guest to its end. Some VMs' do more:
/// [`Wanted::besides`](super::Wanted::besides).
pub(super) const VCPU: Role = Role {
    calls: &[MEMORY, THREADS, OUTPUT, CLOSE, THREAD_END, MUSL],
    requests: &[
        requests::KVM_RUN,
        requests::KVM_IRQ_LINE,
        // The guest's time goes on.
        requests::KVM_GET_DEVICE_ATTR,
        requests::KVM_SET_DEVICE_ATTR,
        requests::KVM_KVMCLOCK_CTRL,
        // An NMI from the monitor.
        requests::KVM_GET_MP_STATE,
        requests::KVM_NMI,
        // `info registers`; the others of it are here for another reason.
        requests::KVM_GET_REGS,
        requests::KVM_GET_FPU,
        requests::KVM_GET_DEBUGREGS,
        requests::KVM_GET_VCPU_EVENTS,
        // What a guest that crashed has said of it.
        requests::KVM_GET_MSRS,
        // A reset.
        requests::KVM_GET_SREGS,
        requests::KVM_SET_SREGS,
        requests::KVM_SET_REGS,
        requests::KVM_SET_XCRS,
        requests::KVM_SET_XSAVE,
        requests::KVM_SET_FPU,
        requests::KVM_SET_LAPIC,
        requests::KVM_SET_MSRS,
        requests::KVM_SET_MP_STATE,
        requests::KVM_SET_DEBUGREGS,
        requests::KVM_SET_VCPU_EVENTS,
        // gdb, besides: paging, breakpoints.
        requests::KVM_GET_XSAVE,
        requests::KVM_TRANSLATE,
        requests::KVM_SET_GUEST_DEBUG,
    ],
};

/// A thread that writes to a file: the trace.
pub(super) const WRITER: Role = Role {
    calls: &[MEMORY, THREADS, OUTPUT, LOOK_FIRST, CLOSE, THREAD_END, MUSL],
    requests: &[],
};

/// The thread that writes dumps, and the only one that opens a file: below the directory that the
/// command line names for them.
pub(super) const DUMPER: Role = Role {
    calls: &[
        MEMORY, THREADS, OUTPUT, LOOK_FIRST, CLOSE, DUMPS, THREAD_END, MUSL,
    ],
    requests: &[],
};

/// The thread that looks up who has sent a signal.
pub(super) const SENDER: Role = Role {
    calls: &[
        MEMORY, THREADS, OUTPUT, LOOK_FIRST, PROCESSES, THREAD_END, MUSL,
    ],
    requests: &[],
};

/// The allocator's. What it maps is its own, and never code. That there is one heap for all threads
/// ([`crate::sys::one_heap`]) spares them mprotect and sched_getaffinity.
const MEMORY: &[Allowed] = &[
    any(libc::SYS_brk),
    only(
        libc::SYS_mmap,
        &[Lacks(2, libc::PROT_EXEC), Has(3, libc::MAP_ANONYMOUS)],
    ),
    any(libc::SYS_mremap),
    any(libc::SYS_madvise),
    any(libc::SYS_munmap),
];

/// What threads do with each other, and with time.
const THREADS: &[Allowed] = &[
    any(libc::SYS_futex),
    any(libc::SYS_sched_yield),
    // A kick of a vCPU; and abort(3), after the message of a panic.
    only(libc::SYS_tgkill, &[OwnProcess(0)]),
    any(libc::SYS_getpid),
    any(libc::SYS_gettid),
    any(libc::SYS_rt_sigreturn),
    any(libc::SYS_rt_sigprocmask),
    // A crash is to look like one: the handler of SIGSEGV and abort(3) give the signal back.
    any(libc::SYS_rt_sigaction),
    // The kernel's own, after SIGSTOP and SIGCONT in the middle of a wait.
    any(libc::SYS_restart_syscall),
    // Where the vDSO has no usable clock.
    any(libc::SYS_clock_gettime),
    // The stack for signal handlers goes when its thread ends.
    any(libc::SYS_sigaltstack),
];

/// The log, and the bells that wake the main loop.
const OUTPUT: &[Allowed] = &[any(libc::SYS_write)];

/// Whether a stream that is shared with others would block.
pub(super) const LOOK_FIRST: &[Allowed] = &[any(libc::SYS_ppoll)];

/// What a thread owns goes with it. That includes a vCPU, if it leaves the guest too late for who
/// waits for its end.
const CLOSE: &[Allowed] = if cfg!(debug_assertions) {
    &[
        any(libc::SYS_close),
        // Such a build looks whether what it closes is open.
        only(libc::SYS_fcntl, &[Is(1, libc::F_GETFD)]),
    ]
} else {
    &[any(libc::SYS_close)]
};

/// The event loop's.
const EVENTS: &[Allowed] = &[
    any(libc::SYS_epoll_wait),
    any(libc::SYS_epoll_ctl),
    any(libc::SYS_timerfd_settime),
    any(libc::SYS_read),
];

/// Clients of the sockets.
const STREAMS: &[Allowed] = &[
    any(libc::SYS_accept4),
    // A client of the monitor does not block; its flags are read first.
    only(libc::SYS_fcntl, &[Is(1, libc::F_GETFL)]),
    only(libc::SYS_fcntl, &[Is(1, libc::F_SETFL)]),
    any(libc::SYS_recvfrom),
    any(libc::SYS_sendto),
    any(libc::SYS_shutdown),
    // A client's TCP connection sends at once.
    only(
        libc::SYS_setsockopt,
        &[Is(1, libc::IPPROTO_TCP), Is(2, libc::TCP_NODELAY)],
    ),
];

/// Firmware reads the kernel that it is to boot, from files that are open.
pub(super) const FIRMWARE: &[Allowed] = &[any(libc::SYS_pread64)];

/// A dump: a file of another name, which gets its own when it is complete, or is removed.
const DUMPS: &[Allowed] = &[
    any(libc::SYS_openat2),
    any(libc::SYS_newfstatat),
    any(libc::SYS_pwrite64),
    any(libc::SYS_ftruncate),
    any(libc::SYS_renameat2),
    // Files only.
    only(libc::SYS_unlinkat, &[Is(2, 0)]),
];

/// Images that are loaded again at a reset, from files that are open.
const FILES: &[Allowed] = &[
    any(libc::SYS_statx),
    // Where the kernel has no statx.
    any(libc::SYS_fstat),
    any(libc::SYS_lseek),
];

/// What a process is called: /proc/PID/exe, and whose that is.
const PROCESSES: &[Allowed] = &[
    any(libc::SYS_readlinkat),
    any(libc::SYS_statx),
    // Where the kernel has no statx.
    any(libc::SYS_newfstatat),
];

/// Sockets and the PID file are removed, clients get their last words.
const TEAR_DOWN: &[Allowed] = &[
    any(libc::SYS_epoll_create1),
    any(libc::SYS_newfstatat),
    any(libc::SYS_renameat2),
    // Files only.
    only(libc::SYS_unlinkat, &[Is(2, 0)]),
    any(libc::SYS_unlink),
    // The end of the trace's thread is waited for.
    any(libc::SYS_clock_nanosleep),
    any(libc::SYS_exit_group),
];

/// The end of a thread.
const THREAD_END: &[Allowed] = &[any(libc::SYS_exit)];

/// What another C library does by other calls: it waits, and keeps the unused part of a heap inaccessible.
const MUSL: &[Allowed] = if cfg!(target_env = "musl") {
    &[
        any(libc::SYS_epoll_pwait),
        only(libc::SYS_mprotect, &[Lacks(2, libc::PROT_EXEC)]),
    ]
} else {
    &[]
};

const fn any(call: c_long) -> Allowed {
    only(call, &[])
}

const fn only(call: c_long, conditions: &'static [Condition]) -> Allowed {
    Allowed { call, conditions }
}
