//! What the filters let through and what they do not. A filter stays on its thread, and what it
//! stops ends the process: so a process of its own tries each call.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{SeccompFilter, TargetArch};

use super::*;

/// Tells the process that tries what to try, and in which role.
const TRY: &str = "VMM_BIN_SANDBOX_TRY";

/// Something that a thread may want of the kernel.
type Attempt = (&'static str, fn());

/// What no thread may do.
const FORBIDDEN: &[Attempt] = &[
    ("open a file", || drop(std::fs::File::open("/dev/null"))),
    ("make a socket", || {
        drop(std::os::unix::net::UnixDatagram::unbound());
    }),
    ("execute a program", || {
        drop(Command::new("/bin/true").spawn());
    }),
    ("start a thread", || drop(std::thread::spawn(|| ()))),
    ("map code", || map(libc::PROT_READ | libc::PROT_EXEC)),
    ("signal a process", || {
        let parent = rustix::process::getppid().unwrap_or(rustix::process::Pid::INIT);
        let _sent = rustix::process::test_kill_process(parent);
    }),
    ("make an ioctl that is not listed", || {
        let _size = rustix::termios::tcgetwinsize(rustix::stdio::stdin());
    }),
    ("remove a directory", || {
        drop(std::fs::remove_dir("/nonexistent"));
    }),
    ("change an attribute of the process", || {
        let _set = rustix::thread::set_no_new_privs(true);
    }),
    ("execve", || call(libc::SYS_execve, [0; 4])),
    ("fork", || call(libc::SYS_clone, [CLONE_REFUSED, 0, 0, 0])),
    ("socket", || call(libc::SYS_socket, [-1, -1, -1, 0])),
    ("connect", || call(libc::SYS_connect, [-1, 0, 0, 0])),
    ("ptrace", || call(libc::SYS_ptrace, [-1, 0, 0, 0])),
    ("make memory executable", || {
        let protection = c_long::from(libc::PROT_READ | libc::PROT_EXEC);
        call(libc::SYS_mprotect, [0, 0, protection, 0]);
    }),
    ("signal a thread of another process", || {
        call(libc::SYS_tgkill, [1, 1, 0, 0]);
    }),
    ("change the protection of memory", || {
        call(libc::SYS_mprotect, [0, 0, 0, 0]);
    }),
    ("read another process's memory", || {
        call(libc::SYS_process_vm_readv, [-1, 0, 0, 0]);
    }),
    ("make a ring of requests", || {
        call(libc::SYS_io_uring_setup, [0; 4]);
    }),
];

/// Flags of clone(2) that exclude each other.
const CLONE_REFUSED: c_long = libc::CLONE_SIGHAND as c_long;

/// Makes a system call that would fail, or do nothing.
#[expect(
    unsafe_code,
    reason = "no library makes these calls with arguments that fail"
)]
fn call(number: c_long, arguments: [c_long; 4]) {
    let [first, second, third, fourth] = arguments;
    // SAFETY: no argument is a valid pointer to anything, and the kernel checks those that should be.
    unsafe { libc::syscall(number, first, second, third, fourth) };
}

/// What every thread may do.
const ALLOWED: &[Attempt] = &[
    ("allocate", || {
        for size in [1 << 10, 1 << 20, 1 << 26] {
            let mut some = vec![1_u8; size];
            some.reserve(size);
            some.shrink_to_fit();
        }
        map(libc::PROT_READ | libc::PROT_WRITE);
    }),
    ("write", || eprintln!("written")),
    ("read the clocks", || {
        let _now = (Instant::now(), std::time::SystemTime::now());
    }),
    ("wait", || {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _late = receiver.recv_timeout(Duration::from_millis(1));
    }),
];

/// What ends the process by another signal than the filter's.
const CRASH: Attempt = ("crash", || std::process::abort());

/// Maps a page.
fn map(protection: i32) {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    drop(vm_memory::MmapRegion::<()>::build(
        None, 4096, protection, flags,
    ));
}

fn role(name: &str) -> &'static Role {
    match name {
        "main loop" => &lists::MAIN_LOOP,
        "vCPU" => &lists::VCPU,
        "writer" => &lists::WRITER,
        "dumper" => &lists::DUMPER,
        "sender" => &lists::SENDER,
        other => panic!("{other} is no role"),
    }
}

/// Not a test: what [`attempt`] starts.
#[test]
#[ignore = "only as the process that another test starts"]
fn try_it() {
    let Ok(what) = std::env::var(TRY) else { return };
    let (name, what) = what.split_once('/').unwrap();
    let mut all = FORBIDDEN.iter().chain(ALLOWED).chain([&CRASH]);
    let action = all.find(|(is, _)| *is == what);
    let (_, action) = action.unwrap();
    let filter = compile(role(name), &[], SeccompAction::KillProcess).unwrap();
    install(&filter).unwrap();
    action();
    // Each thread ends as it does in the program: the main loop's with the process.
    if name == "main loop" {
        crate::sys::exit_now(0);
    }
}

/// Tries `what` in a process whose thread is confined to `role`; gives the signal that ended it.
fn attempt(role: &str, what: &str) -> Option<i32> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .args(["--test-threads", "2", "sandbox::tests::try_it"])
        .env(TRY, format!("{role}/{what}"))
        // What `sys::one_heap` does in the program, which has no thread then.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("running 1 test"), "{text}");
    let signal = output.status.signal();
    assert_eq!(
        output.status.success(),
        signal.is_none(),
        "{role}: {what}: {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    signal
}

#[test]
fn what_is_not_listed_ends_the_process() {
    for role in ["main loop", "vCPU", "writer", "dumper", "sender"] {
        for (what, _) in FORBIDDEN {
            assert_eq!(attempt(role, what), Some(libc::SIGSYS), "{role}: {what}");
        }
    }
}

#[test]
fn what_a_thread_needs_goes_on() {
    for role in ["main loop", "vCPU", "writer", "dumper", "sender"] {
        for (what, _) in ALLOWED {
            assert_eq!(attempt(role, what), None, "{role}: {what}");
        }
    }
}

#[test]
fn a_crash_looks_like_one() {
    for role in ["main loop", "vCPU", "writer", "dumper", "sender"] {
        assert_eq!(attempt(role, CRASH.0), Some(libc::SIGABRT), "{role}");
    }
}

/// From now on the kernel of this test's thread has no such system call, because a filter says so.
fn lose(call: c_long) {
    let absent = BTreeMap::from([(call, Vec::new())]);
    let errno = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(absent, SeccompAction::Allow, errno, TargetArch::x86_64);
    let filter: BpfProgram = filter.unwrap().try_into().unwrap();
    install(&filter).unwrap();
}

#[test]
fn a_kernel_without_landlock_will_do_unless_it_is_required() {
    std::thread::spawn(|| {
        lose(libc::SYS_landlock_create_ruleset);
        let wanted = |landlock| Wanted {
            seccomp: Seccomp::Off,
            landlock,
            firmware: false,
            shared_log: false,
        };
        enter_writer(wanted(Landlock::On)).unwrap();
        let vcpus = VcpuSet::new(|_, _| ());
        let status = enter(wanted(Landlock::On), &vcpus, &Paths::default()).unwrap();
        assert_eq!(status.landlock.abi, 0);
        assert_eq!(status.landlock.restricts, []);
        let refused = enter(wanted(Landlock::Required), &vcpus, &Paths::default());
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("Landlock (none)"), "{text}");
    })
    .join()
    .unwrap();
}

#[test]
fn a_kernel_without_filters_is_named_with_what_to_do() {
    let text = std::thread::spawn(|| {
        lose(libc::SYS_seccomp);
        let list = compile(&lists::VCPU, &[], SeccompAction::KillProcess).unwrap();
        install(&list).unwrap_err().to_string()
    });
    let text = text.join().unwrap();
    for part in ["--seccomp: ", "CONFIG_SECCOMP_FILTER", "--seccomp off"] {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

/// How many system calls a role has at most, in a build without debug assertions or with them: ioctl(2)
/// is one, and one is counted once, however many rules it has.
const MOST: [(&str, usize); 5] = [
    ("main loop", 40),
    ("vCPU", 20),
    ("writer", 20),
    ("dumper", 26),
    ("sender", 22),
];

#[test]
fn lists_contradict_themselves_nowhere_and_are_short() {
    for (name, most) in MOST {
        let mut calls: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for allowed in role(name).calls.iter().copied().flatten() {
            calls
                .entry(allowed.call)
                .or_default()
                .push(allowed.conditions);
        }
        for (call, entries) in &calls {
            let conditional = entries.iter().all(|conditions| !conditions.is_empty());
            assert!(
                entries.len() == 1 || conditional,
                "{name}: call {call} is listed with and without conditions"
            );
        }
        let requests = usize::from(!role(name).requests.is_empty());
        // Only a build with debug assertions looks before it closes.
        let looks = calls.get(&libc::SYS_fcntl).is_some_and(|e| e.len() == 1);
        let count = calls.len() + requests - usize::from(looks && cfg!(debug_assertions));
        assert_eq!(count, most, "{name}: system calls");
    }
}

#[test]
fn a_vcpu_may_do_more_only_in_a_vm_that_needs_it() {
    let wanted = |firmware, shared_log| Wanted {
        seccomp: Seccomp::On,
        landlock: Landlock::On,
        firmware,
        shared_log,
    };
    assert!(wanted(false, false).besides().is_empty());
    for (wanted, calls) in [
        (wanted(true, false), &[libc::SYS_pread64][..]),
        (wanted(false, true), &[libc::SYS_ppoll]),
        (wanted(true, true), &[libc::SYS_pread64, libc::SYS_ppoll]),
    ] {
        let besides = wanted.besides().into_iter().flatten();
        assert!(
            besides
                .map(|allowed| allowed.call)
                .eq(calls.iter().copied())
        );
    }
}
