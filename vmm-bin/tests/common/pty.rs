//! The program on a terminal.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use super::{DEADLINE, Running, Transcript, wait_for};

/// The program on a terminal of its own.
pub(crate) struct OnTerminal {
    child: Running,
    /// The user's side: the keyboard.
    keyboard: File,
    /// The program's side, kept open so that it can be looked at.
    terminal: OwnedFd,
    before: String,
    pub(crate) screen: Transcript,
    /// How much of `screen` earlier calls have used up.
    seen: usize,
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
    pub(crate) fn start(args: &[&str], ready: &str) -> Self {
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
            seen: 0,
        }
    }

    pub(crate) fn keys(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub(crate) fn is_raw(&self) -> bool {
        let raw = !modes(&self.terminal)
            .local_modes
            .intersects(LocalModes::ICANON);
        raw && settings(&self.terminal) != self.before
    }

    /// Waits for the end, and compares the terminal with what it was.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = wait_for("end", || self.child.try_wait().unwrap());
        assert_eq!(
            settings(&self.terminal),
            self.before,
            "the terminal was not restored"
        );
        (status, self.screen.text())
    }

    /// The program itself, below `setsid`.
    pub(crate) fn program(&self) -> u32 {
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

impl OnTerminal {
    /// Waits until the screen has shown `text`, after what earlier calls have waited for.
    pub(crate) fn see(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            // The terminal puts a carriage return before each line feed, where there is one already too.
            let shown = self.screen.text().replace("\r\r\n", "\r\n");
            if let Some(at) = shown.get(self.seen..).and_then(|new| new.find(text)) {
                self.seen += at + text.len();
                return;
            }
            let rest = shown.get(self.seen..).unwrap_or_default();
            assert!(start.elapsed() < DEADLINE, "no {text:?} but {rest:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Types, and waits for what the screen shows then.
    pub(crate) fn press(&mut self, keys: &[u8], answer: &str) {
        self.keys(keys);
        self.see(answer);
    }
}
