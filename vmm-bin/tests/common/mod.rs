//! Runs the program as a user does, and waits for what it says. Every wait has a deadline, so that
//! a hang is a failure.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and each test file needs other parts of this one"
)]

pub(crate) mod gdb;
mod pty;
mod qmp;
pub(crate) mod qtest;

use std::io::{ErrorKind, Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use pty::OnTerminal;
pub(crate) use qmp::Qmp;

/// No single step of a test takes longer, on a machine that is busy with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Firmware that resets the machine at once, from the reset vector on: by 0xcf9.
pub(crate) const RESETTING_FIRMWARE: [u8; 16] = [
    0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4, 0xf4,
];

/// The program.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmm-bin"));
    command.env_remove("RUST_LOG");
    // A profiled program opens a file at its end, which the sandbox forbids.
    if std::env::var_os("LLVM_PROFILE_FILE").is_some() {
        command.args(["--seccomp", "off", "--landlock", "off"]);
    }
    // What all runs have been through is looked at in the end.
    if let Some(traces) = std::env::var_os("LIFECYCLE_TRACES") {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vmm-bin-{}-{number}.trace", std::process::id());
        command.arg("--trace").arg(Path::new(&traces).join(name));
    }
    command
}

/// Ends the test where there is no KVM, and says so. Where KVM is, it must work.
macro_rules! needs_kvm {
    () => {
        if !$crate::common::kvm() {
            return;
        }
    };
}
pub(crate) use needs_kvm;

/// Whether there is a KVM for the test on this thread, which is named for it.
pub(crate) fn kvm() -> bool {
    let there = Path::new("/dev/kvm").exists();
    if !there {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or_default();
        // Past the test harness, which keeps what a test that passes has printed.
        let line = format!("skipped: {test}: this machine has no /dev/kvm\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    there
}

/// A directory that is removed with everything in it.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vmm-bin-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The path as the value of an option.
    pub(crate) fn option(&self, kind: &str, name: &str) -> String {
        format!("{kind}:{}", self.path(name).display())
    }

    /// What is in it.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Runs the program to its end, with nothing to read.
pub(crate) fn output(args: &[&str]) -> Output {
    let child = program()
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if ended.recv_timeout(DEADLINE).is_err() {
            kill(pid, "KILL");
        }
    });
    let output = child.wait_with_output().unwrap();
    // The watchdog may have given up already.
    let _gone = done.send(());
    watchdog.join().unwrap();
    output
}

/// A process that does not outlive its test, also when that fails.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl From<Child> for Running {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Deref for Running {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a signal.
pub(crate) fn kill(pid: u32, signal: &str) {
    Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(pid.to_string())
        .status()
        .unwrap();
}

/// Whether a process has a handler for SIGTERM by now.
pub(crate) fn handles_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught & 1 << (15 - 1) != 0
}

/// Calls `look` until it gives something.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "no {what} in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Everything that a stream has said so far.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<Mutex<Vec<u8>>>);

impl Transcript {
    /// Writes down what `stream` says until its end.
    pub(crate) fn of(mut stream: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let transcript = Self::default();
        let sink = transcript.clone();
        let thread = std::thread::spawn(move || {
            let mut buf = [0; 4096];
            loop {
                match stream.read(&mut buf) {
                    Ok(0) => break,
                    Ok(count) => sink.0.lock().unwrap().extend_from_slice(&buf[..count]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        });
        (transcript, thread)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// How often the threads of a process have been on a processor and off again, thread by thread.
pub(crate) fn switches(pid: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let mut counts: Vec<String> = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
        .flat_map(|status| {
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    counts.sort();
    counts
}

/// Waits until none of them runs for a while: what the last reply set off may still be under way.
pub(crate) fn quiet(pid: u32) {
    wait_for("quiet", || {
        let before = switches(pid);
        std::thread::sleep(Duration::from_millis(500));
        (switches(pid) == before).then_some(())
    });
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) log: String,
}

/// A VM whose serial line and monitor are sockets.
pub(crate) struct Vm {
    pub(crate) child: Running,
    pub(crate) directory: Directory,
    log: Transcript,
    logger: Option<JoinHandle<()>>,
    serial: UnixStream,
    heard: Transcript,
    /// How much of `heard` earlier calls have used up.
    used: usize,
}

impl Vm {
    /// Starts the embedded guest and waits for its menu.
    pub(crate) fn menu(args: &[&str]) -> Self {
        let mut vm = Self::start(args);
        vm.hear("guest> ");
        vm
    }

    /// A guest that has panicked and was stopped for it, with its monitor.
    pub(crate) fn panicked() -> (Self, Qmp) {
        let mut vm = Self::menu(&["--action", "panic=pause"]);
        let mut qmp = vm.qmp();
        vm.keys("p");
        let action = serde_json::json!({"action": "pause"});
        assert_eq!(qmp.event("GUEST_PANICKED"), action);
        qmp.event("STOP");
        assert_eq!(qmp.status(), "guest-panicked");
        (vm, qmp)
    }

    /// Starts the embedded guest with options of its serial line, and waits for its menu.
    pub(crate) fn menu_with_serial(options: &str, args: &[&str]) -> Self {
        let mut vm = Self::start_with_serial(options, args);
        vm.hear("guest> ");
        vm
    }

    /// Starts the program with a serial line and a monitor.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with_serial("", args)
    }

    fn start_with_serial(options: &str, args: &[&str]) -> Self {
        Self::launch(program(), Directory::new(), options, args)
    }

    /// Starts the program in a way of the test's own: `command` is what the options go to, and the
    /// sockets are in `directory`.
    pub(crate) fn launch(
        mut command: Command,
        directory: Directory,
        options: &str,
        args: &[&str],
    ) -> Self {
        let mut child = Running::start(
            command
                .args(["--serial", &(directory.option("unix", "serial") + options)])
                .args(["--qmp", &directory.option("unix", "qmp")])
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped()),
        );
        let (log, logger) = Transcript::of(child.stderr.take().unwrap());
        let path = directory.path("serial");
        let serial = wait_for("serial socket", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("vmm-bin ended at once, {status}: {}", log.text());
            }
            UnixStream::connect(&path).ok()
        });
        let (heard, _) = Transcript::of(serial.try_clone().unwrap());
        Self {
            child,
            directory,
            log,
            logger: Some(logger),
            serial,
            heard,
            used: 0,
        }
    }

    /// Waits until the guest says `text`, after what it said before.
    pub(crate) fn hear(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            let heard = self.heard.text();
            if let Some(at) = heard.get(self.used..).and_then(|new| new.find(text)) {
                self.used += at + text.len();
                return;
            }
            let rest = heard.get(self.used..).unwrap_or_default();
            assert!(
                start.elapsed() < DEADLINE,
                "the guest did not say {text:?} but {rest:?}; log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many bytes the guest has said so far.
    pub(crate) fn heard(&self) -> usize {
        self.heard.text().len()
    }

    /// Waits until the guest says nothing for a while: what it said before may still be on its way. Returns how many
    /// bytes it has said by then.
    pub(crate) fn silent(&self) -> usize {
        wait_for("silence", || {
            let before = self.heard();
            std::thread::sleep(Duration::from_millis(500));
            (self.heard() == before).then_some(before)
        })
    }

    /// How often the guest has said `text` so far.
    pub(crate) fn heard_times(&self, text: &str) -> usize {
        self.heard.text().matches(text).count()
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.serial.write_all(keys.as_bytes()).unwrap();
    }

    /// Types a key of the menu and waits for what the guest says.
    pub(crate) fn press(&mut self, keys: &str, answer: &str) {
        self.keys(keys);
        self.hear(answer);
    }

    /// Has the guest power itself off.
    pub(crate) fn power_off(mut self) {
        self.keys("s");
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line in the log.
    pub(crate) fn logged(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Ends the connection to the serial line.
    pub(crate) fn hang_up(&self) {
        self.serial.shutdown(std::net::Shutdown::Both).unwrap();
    }

    pub(crate) fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    pub(crate) fn qmp(&self) -> Qmp {
        Qmp::connect(&self.directory.path("qmp"))
    }

    /// Waits for the program to end.
    pub(crate) fn wait(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "vmm-bin does not end; log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(2));
        };
        self.logger.take().unwrap().join().unwrap();
        assert_eq!(
            self.directory.names(),
            Vec::<String>::new(),
            "something was left behind"
        );
        Ended {
            code: status.code(),
            signal: status.signal(),
            log: self.log(),
        }
    }
}
