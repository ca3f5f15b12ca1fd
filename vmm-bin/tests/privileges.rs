//! What the program needs of its user, and what it keeps of what it is started with: nearly nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Directory, Vm, needs_kvm, output};

/// `nobody`, who owns nothing.
const NOBODY: u32 = 65534;

/// The flag of a descriptor that a program started from here does not get, in `/proc/PID/fdinfo`.
const CLOEXEC: u32 = 0o2_000_000;

/// Becomes another user who may nothing, for ever, and executes the rest of its words.
const DROP: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
                    --inh-caps=-all --bounding-set=-all";

/// A shell that executes `prefix` and then the program with the options that follow.
fn shell(prefix: &str, redirections: &str, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("exec {prefix} \"$@\" {redirections}"), "sh"])
        .arg(program);
    command
}

/// Whether a test can become `nobody`; if not, says so.
fn can_drop(test: &str) -> bool {
    let tried = shell(DROP, "", Path::new("true")).output().unwrap();
    if !tried.status.success() {
        // Past the test harness, which keeps what a test that passes has printed.
        let why = String::from_utf8_lossy(&tried.stderr);
        let line = format!("skipped: {test}: cannot become another user: {why}\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
    tried.status.success()
}

/// A field of the status of a process.
fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.unwrap().trim_start_matches(':').trim().to_owned()
}

/// The descriptors of a process, what they lead to, and their flags.
fn descriptors(pid: u32) -> Vec<(u32, PathBuf, u32)> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let described = folder.filter_map(|entry| {
        let number: u32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
        Some((number, target, flags))
    });
    described.collect()
}

#[test]
fn nobody_with_the_device_and_a_directory_goes_through_a_vms_life() {
    needs_kvm!();
    if !can_drop("nobody_with_the_device_and_a_directory_goes_through_a_vms_life") {
        return;
    }
    let (place, home) = (Directory::new(), Directory::new());
    // Where it was built, nobody may not look.
    let program = home.path("vmm-bin");
    std::fs::copy(env!("CARGO_BIN_EXE_vmm-bin"), &program).unwrap();
    let files = Directory::new();
    for directory in [&place, &files] {
        chown(directory.path(""), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (pidfile, trace) = (place.path("pid"), files.path("trace"));
    let mut vm = Vm::launch(
        shell(DROP, "3<>/dev/kvm", &program),
        place,
        "",
        &[
            "--accel",
            "kvm,fd=3",
            "--pidfile",
            pidfile.to_str().unwrap(),
            "--trace",
            trace.to_str().unwrap(),
            "--action",
            "panic=pause",
            "--cpus",
            "2",
        ],
    );
    vm.hear("guest> ");
    let pid = vm.child.id();
    assert_eq!(status(pid, "Uid"), ["65534"; 4].join("\t"));
    assert_eq!(status(pid, "Groups"), "");
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status(pid, capabilities), "0".repeat(16), "{capabilities}");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1");

    let mut qmp = vm.qmp();
    for key in ["r", "9", "c"] {
        vm.press(key, "guest> ");
        assert_eq!(qmp.event("RESET")["reason"], "guest-reset");
    }
    qmp.execute("system_reset");
    assert_eq!(qmp.event("RESET")["reason"], "host-qmp-system-reset");
    vm.hear("guest> ");
    qmp.execute("stop");
    assert_eq!(qmp.status(), "paused");
    qmp.execute("cont");
    vm.press("u", "suspend: S3");
    qmp.event("SUSPEND");
    qmp.execute("system_wakeup");
    qmp.event("WAKEUP");
    vm.hear("guest> ");
    vm.keys("p");
    qmp.event("GUEST_PANICKED");
    assert_eq!(qmp.status(), "guest-panicked");
    qmp.execute("system_reset");
    qmp.execute("cont");
    vm.hear("guest> ");
    vm.keys("s");
    assert_eq!(qmp.event("SHUTDOWN")["reason"], "guest-shutdown");
    let ended = vm.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!std::fs::read(trace).unwrap().is_empty());
}

#[test]
fn what_no_option_names_is_closed_and_nothing_is_passed_on() {
    needs_kvm!();
    let (home, place) = (Directory::new(), Directory::new());
    let secret = home.path("secret");
    drop(File::create(&secret).unwrap());
    let open = format!(
        "3<{0} 4<>/dev/kvm 5<{0} 9<{0} 0</dev/null",
        secret.display()
    );
    let path = |name: &str| home.path(name).to_str().unwrap().to_owned();
    let mut vm = Vm::launch(
        shell("", &open, Path::new(env!("CARGO_BIN_EXE_vmm-bin"))),
        place,
        "",
        &[
            "--accel",
            "kvm,fd=4",
            "--pidfile",
            &path("pid"),
            "--trace",
            &path("trace"),
            "--debugcon",
            &format!("file:{}", path("debug")),
            "--gdb",
            &format!("unix:{}", path("gdb")),
            "--monitor",
            "tcp::0",
            "--memory",
            "64M,shared=on",
            "--cpus",
            "2",
        ],
    );
    vm.hear("guest> ");
    let _client = vm.qmp();
    for (number, target, flags) in descriptors(vm.child.id()) {
        assert_ne!(target, secret, "descriptor {number} is still open");
        let kept = number <= 2 || flags & CLOEXEC != 0;
        assert!(
            kept,
            "descriptor {number} is passed on: {}",
            target.display()
        );
    }
    vm.keys("s");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_descriptor_that_is_not_the_device_is_refused() {
    let program = Path::new(env!("CARGO_BIN_EXE_vmm-bin"));
    for (open, part) in [
        (
            "3<&-",
            "--accel kvm: fd=3: cannot be used: Bad file descriptor",
        ),
        ("3</dev/null", "fd=3 speaks KVM API version -1"),
    ] {
        let mut command = shell("", open, program);
        let ended = command.args(["--serial", "none", "--accel", "kvm,fd=3"]);
        let ended = ended.output().unwrap();
        let text = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{text}");
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
    let ended = output(&["--accel", "kvm,fd=3", "--qmp", "fd:3"]);
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(text.contains("--accel kvm has it already"), "{text}");
}
