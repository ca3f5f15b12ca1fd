//! On a terminal: the keys that end the program, and the terminal as it was before, whatever ends
//! it.

#![expect(clippy::unwrap_used, reason = "a test fails by unwrapping")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use common::{Running, Transcript, kill, kvm, wait_for};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

/// The program on a terminal of its own.
struct OnTerminal {
    child: Running,
    /// The user's side: the keyboard.
    keyboard: File,
    /// The program's side, kept open so that it can be looked at.
    terminal: OwnedFd,
    before: String,
    screen: Transcript,
}

/// Everything about a terminal that can be compared.
fn settings(terminal: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}

fn modes(terminal: &OwnedFd) -> Termios {
    tcgetattr(terminal).unwrap()
}

impl OnTerminal {
    /// Starts the program and waits for `ready`.
    fn start(args: &[&str], ready: &str) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        let before = settings(&terminal);
        let stream = || File::from(terminal.try_clone().unwrap());
        // `setsid --ctty` makes it the terminal that Ctrl-C comes from.
        let child = Running::start(
            Command::new("setsid")
                .args(["--ctty", "--wait", env!("CARGO_BIN_EXE_vmm-bin")])
                .args(args)
                .stdin(stream())
                .stdout(stream())
                .stderr(stream()),
        );
        let keyboard = File::from(master);
        let (screen, _) = Transcript::of(keyboard.try_clone().unwrap());
        wait_for(ready, || screen.text().contains(ready).then_some(()));
        Self {
            child,
            keyboard,
            terminal,
            before,
            screen,
        }
    }

    fn keys(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    fn is_raw(&self) -> bool {
        let raw = !modes(&self.terminal)
            .local_modes
            .intersects(LocalModes::ICANON);
        raw && settings(&self.terminal) != self.before
    }

    /// Waits for the end, and compares the terminal with what it was.
    fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("end", || self.child.try_wait().unwrap());
        assert_eq!(
            settings(&self.terminal),
            self.before,
            "the terminal was not restored"
        );
        (status, self.screen.text())
    }

    /// The program itself, below `setsid`.
    fn program(&self) -> u32 {
        let pid = self.child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        wait_for("process", || {
            let children = std::fs::read_to_string(&children).ok()?;
            // `setsid` forks only if it must; otherwise it is the program.
            Some(
                children
                    .split_whitespace()
                    .next()
                    .map_or(pid, |child| child.parse().unwrap()),
            )
        })
    }
}

#[test]
fn ctrl_a_x_ends_the_program() {
    if !kvm("ctrl_a_x_ends_the_program") {
        return;
    }
    let mut vm = OnTerminal::start(&["--exit-codes", "cause"], "guest> ");
    assert!(vm.is_raw());
    vm.keys(b"\x01x");
    let (status, screen) = vm.wait();
    assert_eq!(status.code(), Some(85), "{screen}");
    assert!(screen.contains("SHUTDOWN: the machine is shut down, cause: host-ui"));
}

#[test]
fn ctrl_a_x_ends_a_guest_that_spins_and_one_that_is_kept() {
    if !kvm("ctrl_a_x_ends_a_guest_that_spins_and_one_that_is_kept") {
        return;
    }
    for keys in [b"b", b"d", b"s"] {
        let mut vm = OnTerminal::start(&["--no-shutdown"], "guest> ");
        vm.keys(keys);
        vm.keys(b"\x01x");
        assert_eq!(vm.wait().0.code(), Some(0));
    }
}

#[test]
fn ctrl_a_h_helps_and_ctrl_a_ctrl_a_is_for_the_guest() {
    if !kvm("ctrl_a_h_helps_and_ctrl_a_ctrl_a_is_for_the_guest") {
        return;
    }
    let mut vm = OnTerminal::start(&[], "guest> ");
    vm.keys(b"\x01h");
    wait_for("help", || {
        vm.screen.text().contains("Ctrl-A Ctrl-A").then_some(())
    });
    vm.keys(b"\x01\x01");
    wait_for("answer", || {
        vm.screen.text().contains("no such key").then_some(())
    });
    vm.keys(b"\x01qs");
    assert_eq!(vm.wait().0.code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_embedded_guest() {
    if !kvm("ctrl_c_ends_the_embedded_guest") {
        return;
    }
    for keys in [&b"\x03"[..], b"b\x03"] {
        let mut vm = OnTerminal::start(&[], "guest> ");
        vm.keys(keys);
        let (status, screen) = vm.wait();
        assert_eq!(status.code(), Some(0));
        assert!(screen.contains("terminating on signal 2"), "{screen}");
    }
}

#[test]
fn a_guest_that_ends_by_itself_gives_the_terminal_back() {
    if !kvm("a_guest_that_ends_by_itself_gives_the_terminal_back") {
        return;
    }
    let mut vm = OnTerminal::start(&[], "guest> ");
    vm.keys(b"e2");
    assert_eq!(vm.wait().0.code(), Some(5));
}

#[test]
fn signals_give_the_terminal_back() {
    if !kvm("signals_give_the_terminal_back") {
        return;
    }
    for signals in [&["TERM"][..], &["HUP"], &["TERM", "TERM", "TERM"]] {
        let vm = OnTerminal::start(&[], "guest> ");
        assert!(vm.is_raw());
        let pid = vm.program();
        for signal in signals {
            kill(pid, signal);
        }
        let (status, _) = vm.wait();
        assert!(
            matches!(status.code(), Some(0 | 143)),
            "{status} {:?}",
            status.signal()
        );
    }
}

#[test]
fn a_start_that_fails_does_not_touch_the_terminal() {
    if !kvm("a_start_that_fails_does_not_touch_the_terminal") {
        return;
    }
    let vm = OnTerminal::start(&["--memory", "4K"], "vmm-bin: ");
    assert_eq!(vm.wait().0.code(), Some(2));
}
