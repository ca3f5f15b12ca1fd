//! No list of system calls is longer than it must be: VMs run while strace writes down what each of their
//! threads asks the kernel for once it is confined. What is in a list and nobody asked for fails the
//! test, unless [`unused`] has the reason why it is in the list all the same.
//!
//! Where no process may be traced, the test says so and does nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "../src/sandbox/lists.rs"]
mod lists;
#[path = "../src/sandbox/requests.rs"]
mod requests;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use common::{DEADLINE, Directory, Qmp, Vm, gdb, needs_kvm, wait_for};
use libc::c_long;
use lists::{Allowed, Condition, Role};
use serde_json::json;

/// The threads by their names, without numbers, with their lists and what they have in some VMs besides.
const ROLES: [(&str, &Role, &[&[Allowed]]); 5] = [
    ("vmm-bin", &lists::MAIN_LOOP, &[]),
    ("vcpu", &lists::VCPU, &[lists::FIRMWARE, lists::LOOK_FIRST]),
    ("trace", &lists::WRITER, &[]),
    ("dump", &lists::DUMPER, &[]),
    ("sender", &lists::SENDER, &[]),
];

/// A system call, or a request of ioctl(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    Call(c_long),
    Request(u64),
}

/// What is in a list although no thread is sure to ask for it here: of which thread (of all of them, if
/// that is empty), and why. A change that takes one of these reasons away takes the rules away.
fn unused() -> Vec<(&'static str, Vec<Rule>, &'static str)> {
    let calls = |calls: &[c_long]| calls.iter().copied().map(Rule::Call).collect();
    let requests = |requests: &[requests::Request]| {
        let numbers = requests.iter().map(|number| Rule::Request(number()));
        numbers.collect()
    };
    vec![
        (
            "",
            calls(&[
                libc::SYS_brk,
                libc::SYS_mmap,
                libc::SYS_mremap,
                libc::SYS_madvise,
                libc::SYS_munmap,
            ]),
            "the allocator asks for memory, and gives it back, when it has not enough, or too much",
        ),
        (
            "",
            calls(&[
                libc::SYS_getpid,
                libc::SYS_gettid,
                libc::SYS_tgkill,
                libc::SYS_rt_sigaction,
                libc::SYS_rt_sigprocmask,
                libc::SYS_rt_sigreturn,
            ]),
            "a panic and a crash: `a_crash_looks_like_one`",
        ),
        (
            "",
            calls(&[libc::SYS_restart_syscall]),
            "a wait that SIGSTOP has interrupted: `a_program_that_was_stopped_and_continued_goes_on`",
        ),
        (
            "",
            calls(&[libc::SYS_clock_gettime]),
            "a host whose clock the vDSO cannot read",
        ),
        (
            "",
            calls(&[libc::SYS_futex, libc::SYS_sched_yield]),
            "two threads meet at the same place, or wait for each other for a moment only",
        ),
        (
            "",
            calls(&[libc::SYS_write]),
            "the log: most threads have something to say only when something fails",
        ),
        (
            "",
            calls(&[libc::SYS_ppoll]),
            "a log on a stream that others share: `nobody_with_the_device_and_a_directory_goes_through_a_vms_life`",
        ),
        (
            "",
            calls(&[libc::SYS_sigaltstack, libc::SYS_exit]),
            "a thread may find no time to end before the process does",
        ),
        (
            "vcpu",
            calls(&[libc::SYS_close, libc::SYS_fcntl]),
            "a vCPU that leaves the guest later than the tear-down waits is dropped by its own thread",
        ),
        (
            "vcpu",
            calls(&[libc::SYS_pread64]),
            "firmware that boots a kernel: whole_vm/firmware.py",
        ),
        (
            "vcpu",
            requests(&[requests::KVM_SET_FPU]),
            "a debugger that writes a register of the FPU",
        ),
        (
            "vcpu",
            requests(&[requests::KVM_GET_MSRS]),
            "Hyper-V's crash registers, which not every KVM has",
        ),
        (
            "vcpu",
            requests(&[
                requests::KVM_GET_DEVICE_ATTR,
                requests::KVM_SET_DEVICE_ATTR,
                requests::KVM_KVMCLOCK_CTRL,
                requests::KVM_SET_XCRS,
            ]),
            "a KVM that can do it: not every one can",
        ),
        (
            "vmm-bin",
            requests(&[requests::TCSETS, requests::TCSETS2]),
            "a terminal is restored: tests/terminal.rs; with the older request if the C library prefers it",
        ),
        (
            "vmm-bin",
            calls(&[libc::SYS_timerfd_settime]),
            "an event that comes more often than once a second waits in the monitor",
        ),
        (
            "vmm-bin",
            calls(&[libc::SYS_fstat]),
            "std, where a container's filter refuses statx",
        ),
        (
            "vmm-bin",
            calls(&[libc::SYS_epoll_create1]),
            "clients that are owed something at the end and do not read",
        ),
        (
            "vmm-bin",
            calls(&[libc::SYS_clock_nanosleep]),
            "the trace's thread is not done when it is asked to end",
        ),
        (
            "sender",
            calls(&[libc::SYS_statx, libc::SYS_newfstatat]),
            "a signal by another user's process; the second one where a container's filter refuses the first",
        ),
        (
            "dump",
            calls(&[libc::SYS_unlinkat]),
            "a dump that fails: whole_vm/dump.py",
        ),
    ]
}

/// A system call that a thread made after it was confined, and its arguments.
struct Call {
    thread: String,
    number: c_long,
    arguments: Vec<u64>,
}

impl Call {
    fn meets(&self, condition: &Condition) -> bool {
        // The filters look at 32 bits of an argument.
        let has = |index: u8, mask: u32| {
            let argument = self.arguments.get(usize::from(index));
            argument.map(|argument| argument & u64::from(mask))
        };
        let bits = |value: i32| u64::from(value.cast_unsigned());
        match *condition {
            Condition::Is(index, value) => has(index, u32::MAX) == Some(bits(value)),
            Condition::Has(index, mask) => has(index, mask.cast_unsigned()) == Some(bits(mask)),
            Condition::Lacks(index, mask) => has(index, mask.cast_unsigned()) == Some(0),
            // The filters that let it through have compared it.
            Condition::OwnProcess(index) => has(index, u32::MAX).is_some(),
        }
    }
}

/// A program under strace, which writes a file for each thread. It is the program that is the child here:
/// strace is a process apart.
fn traced(program: &str, into: &Path) -> Command {
    let mut command = Command::new("strace");
    // Numbers of calls and arguments as they are, but the names of threads as text.
    command
        .args(["-D", "-q", "-ff", "-n", "-e", "raw=!prctl", "-o"])
        .arg(into.join("thread"))
        .arg(program);
    command
}

/// What strace has written, once it is complete.
fn written(directory: &Directory) -> Option<Vec<String>> {
    let read = |name: String| std::fs::read_to_string(directory.path(&name)).unwrap();
    let files: Vec<_> = directory.names().into_iter().map(read).collect();
    let ended = |text: &String| text.trim_end().ends_with("+++");
    (!files.is_empty() && files.iter().all(ended)).then_some(files)
}

/// Whether processes can be traced here; if not, says so.
fn can_trace() -> bool {
    let records = Directory::new();
    let tried = traced("true", &records.path("")).output();
    let why = match tried {
        Err(error) => format!("strace: {error}"),
        Ok(output) if output.status.success() => {
            let start = std::time::Instant::now();
            while start.elapsed() < DEADLINE {
                if written(&records).is_some() {
                    return true;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            "strace has written nothing".to_owned()
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).replace('\n', "; "),
    };
    // Past the test harness, which keeps what a test that passes has printed.
    let line = format!("skipped: every_rule_is_needed: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    false
}

/// The calls of a thread's file, after it was confined.
fn calls(text: &str) -> Vec<Call> {
    let mut thread = "vmm-bin".to_owned();
    let mut confined = false;
    let mut calls = Vec::new();
    for line in text.lines() {
        let call = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] "));
        let Some((number, call)) = call else { continue };
        let Some((name, arguments)) = call.split_once('(') else {
            continue;
        };
        if name == "prctl" && arguments.starts_with("PR_SET_NAME") {
            let name = arguments.split('"').nth(1).unwrap();
            thread = name
                .trim_end_matches(|c: char| c.is_ascii_digit())
                .to_owned();
        }
        if confined && !name.contains(' ') {
            let arguments = arguments.split([')', '<']).next().unwrap().split(", ");
            let number_of = |text: &str| match text.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            };
            calls.push(Call {
                thread: thread.clone(),
                number: number.trim().parse().unwrap(),
                arguments: arguments.map_while(|text| number_of(text.trim())).collect(),
            });
        }
        confined |= name == "seccomp" && line.ends_with("= 0") && arguments.starts_with("0x1,");
    }
    calls
}

/// A connection to the one socket of the VM that listens on TCP.
fn by_tcp(vm: &Vm) -> TcpStream {
    vm.logged("listening on tcp:");
    let log = vm.log();
    let address = log.split_once("listening on tcp:").unwrap().1;
    let stream = TcpStream::connect(address.lines().next().unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A VM with everything that needs no file of its own, until its monitor ends it.
fn a_life(records: &Path) {
    let files = Directory::new();
    let [trace, pid, dumps] = ["trace", "pid", ""].map(|name| files.path(name));
    let [trace, pid, dumps] = [&trace, &pid, &dumps].map(|path| path.to_str().unwrap());
    let gdb_socket = files.option("unix", "gdb");
    let mut vm = Vm::launch(
        traced(env!("CARGO_BIN_EXE_vmm-bin"), records),
        Directory::new(),
        "",
        &[
            &["--cpus", "2", "--trace", trace, "--pidfile", pid][..],
            &["--dump-dir", dumps, "--gdb", &gdb_socket],
            &["--monitor", "tcp::0", "--watchdog", "ib700"],
        ]
        .concat(),
    );
    vm.hear("guest> ");
    let mut qmp = vm.qmp();
    for _ in 0..5 {
        qmp.execute("stop");
        qmp.execute("cont");
    }
    vm.press("r", "guest> ");
    qmp.execute("inject-nmi");
    let registers = json!({"command-line": "info registers -a"});
    assert!(
        qmp.reply("human-monitor-command", registers)
            .get("return")
            .is_some()
    );
    let dump = json!({"paging": false, "protocol": "file:core"});
    assert!(qmp.reply("dump-guest-memory", dump).get("return").is_some());

    // A guest that waits for an interrupt would keep a single step waiting.
    vm.press("b", "spinning");
    let mut debugger = wait_for("debugger's socket", || {
        UnixStream::connect(files.path("gdb")).ok()
    });
    debugger.set_read_timeout(Some(DEADLINE)).unwrap();
    gdb::ask(&mut debugger, "?", gdb::STOPPED);
    gdb::ask(&mut debugger, "m0,4", &["$"]);
    gdb::ask(&mut debugger, "g", &["$"]);
    gdb::ask(&mut debugger, "s", gdb::STOPPED);
    gdb::ask(&mut debugger, "D", &["$OK"]);
    drop(debugger);

    let mut person = by_tcp(&vm);
    person.write_all(b"info status\nquit\n").unwrap();
    let _said = person.read_to_end(&mut Vec::new());
    assert_eq!(vm.wait().code, Some(0));
}

/// Firmware from a file that resets the machine without end, until a signal ends it.
fn resets_from_a_file(records: &Path) {
    let files = Directory::new();
    let firmware = files.path("resets");
    std::fs::write(&firmware, common::RESETTING_FIRMWARE).unwrap();
    let vm = Vm::launch(
        traced(env!("CARGO_BIN_EXE_vmm-bin"), records),
        Directory::new(),
        "",
        &["--firmware", firmware.to_str().unwrap(), "--qmp", "tcp::0"],
    );
    let mut qmp = Qmp::over(by_tcp(&vm));
    qmp.event("RESET");
    qmp.event("RESET");
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn every_rule_is_needed() {
    needs_kvm!();
    if !can_trace() {
        return;
    }
    let mut made = Vec::new();
    for run in [a_life, resets_from_a_file] {
        let records = Directory::new();
        run(&records.path(""));
        let files = wait_for("end of the records", || written(&records));
        made.extend(files.iter().flat_map(|text| calls(text)));
    }
    let unused = unused();
    let mut reasons_taken: BTreeSet<(usize, Rule)> = BTreeSet::new();
    let mut idle = Vec::new();
    for (thread, role, besides) in ROLES {
        let made: Vec<_> = made.iter().filter(|call| call.thread == thread).collect();
        assert!(
            !made.is_empty(),
            "{thread}: there is none, or it is not confined"
        );
        let mut excused = |rule: Rule| {
            let excuses = unused.iter().enumerate().filter(|(_, (of, rules, _))| {
                (of.is_empty() || *of == thread) && rules.contains(&rule)
            });
            let excuses: Vec<_> = excuses.map(|(index, _)| (index, rule)).collect();
            reasons_taken.extend(excuses.iter().copied());
            !excuses.is_empty()
        };
        for allowed in role.calls.iter().chain(besides).copied().flatten() {
            let fits = |call: &&&Call| {
                call.number == allowed.call && allowed.conditions.iter().all(|c| call.meets(c))
            };
            let excused = excused(Rule::Call(allowed.call));
            if !excused && !made.iter().any(|call| fits(&call)) {
                idle.push(format!("{thread}: {allowed:?}"));
            }
        }
        for request in role.requests {
            let number = request();
            let asks = |call: &&Call| {
                call.number == libc::SYS_ioctl && call.arguments.get(1) == Some(&number)
            };
            if !excused(Rule::Request(number)) && !made.iter().any(asks) {
                idle.push(format!("{thread}: ioctl {number:#x}"));
            }
        }
    }
    assert!(
        idle.is_empty(),
        "no thread needs these: take them out of the list, or give the reason in `unused`: {idle:#?}"
    );
    for (index, (thread, rules, why)) in unused.iter().enumerate() {
        for rule in rules {
            assert!(
                reasons_taken.contains(&(index, *rule)) || cfg!(not(debug_assertions)),
                "{thread}: {rule:?} is in no list, but has a reason to be there: {why}"
            );
        }
    }
}
