//! A machine that executes nothing, and the client that plays its guest.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use super::{DEADLINE, Directory, Ended, Qmp, Running, Transcript, program, wait_for};

/// A change of an interrupt pin, as the client is told: its number and its level.
pub(crate) type Pin = (u32, bool);

/// The pin of the interval timer.
const TIMER: u32 = 0;

/// The client's end of the protocol.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    pins: Vec<Pin>,
    timer: Vec<bool>,
}

impl Client {
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self {
            stream: BufReader::new(stream),
            pins: Vec::new(),
            timer: Vec::new(),
        }
    }

    /// The same connection, to write at the same time.
    pub(crate) fn try_clone(&self) -> Self {
        Self::over(self.stream.get_ref().try_clone().unwrap())
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next answer; the changes of pins before it are kept.
    pub(crate) fn answer(&mut self) -> String {
        self.answer_or_end().expect("an answer")
    }

    /// The next answer; `None` if the machine has ended.
    fn answer_or_end(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                read => read.unwrap(),
            };
            let line = line.strip_suffix('\n')?.to_owned();
            let Some(change) = line.strip_prefix("IRQ ") else {
                return Some(line);
            };
            let (verb, pin) = change.split_once(' ').unwrap();
            let level = match verb {
                "raise" => true,
                "lower" => false,
                _ => panic!("{line}"),
            };
            match pin.parse().unwrap() {
                TIMER => self.timer.push(level),
                pin => self.pins.push((pin, level)),
            }
        }
    }

    /// Sends a request and returns the answer.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.send(format!("{request}\n").as_bytes());
        self.answer()
    }

    /// Sends a request to a machine that may have ended; `None` if it has.
    pub(crate) fn ask_or_end(&mut self, request: &str) -> Option<String> {
        let sent = self
            .stream
            .get_mut()
            .write_all(format!("{request}\n").as_bytes());
        sent.ok().and_then(|()| self.answer_or_end())
    }

    /// Sends a request that succeeds with nothing to say.
    pub(crate) fn tell(&mut self, request: &str) {
        assert_eq!(self.ask(request), "OK", "{request}");
    }

    /// Sends a request that succeeds with a number.
    pub(crate) fn number(&mut self, request: &str) -> u64 {
        let answer = self.ask(request);
        let number = answer
            .strip_prefix("OK ")
            .unwrap_or_else(|| panic!("{request}: {answer}"));
        let parsed = match number.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => number.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("{request}: {answer}"))
    }

    pub(crate) fn outb(&mut self, port: u16, value: u8) {
        self.tell(&format!("outb {port:#x} {value:#x}"));
    }

    pub(crate) fn outw(&mut self, port: u16, value: u16) {
        self.tell(&format!("outw {port:#x} {value:#x}"));
    }

    pub(crate) fn inb(&mut self, port: u16) -> u8 {
        self.number(&format!("inb {port:#x}")).try_into().unwrap()
    }

    pub(crate) fn inw(&mut self, port: u16) -> u16 {
        self.number(&format!("inw {port:#x}")).try_into().unwrap()
    }

    /// Moves the virtual clock on, and returns what it shows then.
    pub(crate) fn step(&mut self, ns: u64) -> u64 {
        self.number(&format!("clock_step {ns}"))
    }

    /// The changes of pins since the last call, but for the interval timer's.
    pub(crate) fn pins(&mut self) -> Vec<Pin> {
        std::mem::take(&mut self.pins)
    }

    /// The levels of the interval timer's line since the last call.
    pub(crate) fn timer(&mut self) -> Vec<bool> {
        std::mem::take(&mut self.timer)
    }

    /// Has the interval timer wait for a count, so that it is no timer that a step goes to.
    pub(crate) fn stop_timer(&mut self) {
        self.outb(0x43, 0x30);
    }

    /// Waits for the other end to close the connection.
    pub(crate) fn closed(&mut self) {
        let mut rest = Vec::new();
        // A connection that is reset is closed as well.
        drop(self.stream.read_to_end(&mut rest));
    }
}

/// The machine, its client and its monitor.
pub(crate) struct Machine {
    pub(crate) child: Running,
    pub(crate) directory: Directory,
    pub(crate) guest: Client,
    pub(crate) qmp: Qmp,
    log: Transcript,
}

impl Machine {
    /// Starts the machine as test clients do: they listen, it connects.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_from(&mut program(), args)
    }

    /// The same, with a program that has its environment.
    pub(crate) fn start_from(program: &mut Command, args: &[&str]) -> Self {
        let directory = Directory::new();
        let guests = UnixListener::bind(directory.path("qtest")).unwrap();
        let monitors = UnixListener::bind(directory.path("qmp")).unwrap();
        let mut child = Running::start(
            program
                .args(["--accel", "qtest", "--serial", "none", "--memory", "4M"])
                .args(["--qtest", &directory.option("unix", "qtest")])
                .args(["--qmp", &(directory.option("unix", "qmp") + ",server=off")])
                .args(args)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped()),
        );
        let (log, _) = Transcript::of(child.stderr.take().unwrap());
        let accepted = |listener: &UnixListener| {
            listener.set_nonblocking(true).unwrap();
            let stream = wait_for("connection", || listener.accept().ok()).0;
            stream.set_nonblocking(false).unwrap();
            stream
        };
        let mut guest = Client::over(accepted(&guests));
        let monitor = accepted(&monitors);
        assert_eq!(guest.ask("endianness"), "OK little", "{}", log.text());
        monitor.set_read_timeout(Some(DEADLINE)).unwrap();
        let qmp = Qmp::over(monitor);
        // They have been accepted: nobody else will be.
        drop((guests, monitors));
        for name in ["qtest", "qmp"] {
            std::fs::remove_file(directory.path(name)).unwrap();
        }
        Self {
            child,
            directory,
            guest,
            qmp,
            log,
        }
    }

    /// What the monitor's client still hears, and the exit status.
    pub(crate) fn ending(mut self) -> (Vec<(String, serde_json::Value)>, Option<i32>) {
        let events = self.qmp.events_to_the_end();
        (events, self.wait().code)
    }

    /// Waits for the program to end.
    pub(crate) fn wait(mut self) -> Ended {
        let status = wait_for("end of the program", || self.child.try_wait().unwrap());
        assert_eq!(self.directory.names(), Vec::<String>::new());
        Ended {
            code: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            log: self.log.text(),
        }
    }

    /// Ends it as test clients do, and expects what they expect.
    pub(crate) fn end(self) {
        super::kill(self.child.id(), "TERM");
        let ended = self.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.log);
    }
}
