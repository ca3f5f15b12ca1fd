//! The human monitor: on a terminal, shared with the guest's serial line, and at sockets.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use common::{DEADLINE, Directory, OnTerminal, Running, Vm, needs_kvm, program, wait_for};

const PROMPT: &str = "(qemu) ";

/// A person, or a program, at a socket.
struct Person<S> {
    stream: S,
    read: String,
}

impl<S: Read + Write> Person<S> {
    /// Waits for the greeting.
    fn new(stream: S) -> Self {
        let mut person = Self {
            stream,
            read: String::new(),
        };
        let greeting = person.answer();
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("vmm-bin {version} monitor - type 'help' for more information\r\n");
        assert_eq!(greeting, expected);
        person
    }

    /// What comes up to the next prompt.
    fn answer(&mut self) -> String {
        loop {
            if let Some((answer, rest)) = self.read.split_once(PROMPT) {
                let (answer, rest) = (answer.to_owned(), rest.to_owned());
                self.read = rest;
                return answer;
            }
            let mut buf = [0; 4096];
            let count = self.stream.read(&mut buf).unwrap();
            assert!(count > 0, "the end, after {:?}", self.read);
            self.read += std::str::from_utf8(&buf[..count]).unwrap();
        }
    }

    /// Sends a line; what it is answered with, without the echo.
    fn say(&mut self, line: &str) -> String {
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        let answer = self.answer();
        let echo = format!("{line}\r\n");
        answer
            .strip_prefix(&echo)
            .unwrap_or_else(|| panic!("{line}: {answer:?}"))
            .to_owned()
    }

    /// What is left until the end of the stream.
    fn rest(mut self) -> String {
        let mut rest = std::mem::take(&mut self.read);
        self.stream.read_to_string(&mut rest).unwrap();
        rest
    }
}

fn connect(path: &Path) -> UnixStream {
    let stream = wait_for("console", || UnixStream::connect(path).ok());
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A VM with the monitor at the socket `hmp` in a directory.
fn with_console(args: &[&str]) -> (Vm, Directory) {
    let consoles = Directory::new();
    let option = consoles.option("unix", "hmp");
    let vm = Vm::menu(&[&["--monitor", &option], args].concat());
    (vm, consoles)
}

#[test]
fn a_program_drives_the_vm_by_lines_of_text() {
    needs_kvm!();
    let (vm, consoles) = with_console(&["--name", "tested"]);
    let mut qmp = vm.qmp();
    let mut person = Person::new(connect(&consoles.path("hmp")));
    for (line, answer) in [
        ("info status", "VM status: running\r\n"),
        ("info name", "tested\r\n"),
        ("stop", ""),
        ("info status", "VM status: paused\r\n"),
        ("c", ""),
        ("info status", "VM status: running\r\n"),
        // Each line sees what the one before it has come to.
        ("system_reset", ""),
        ("info status", "VM status: running\r\n"),
        ("system_powerdown", ""),
        (
            "system_wakeup",
            "Error: Unable to wake up: guest is not in suspended state\r\n",
        ),
        ("bogus", "unknown command: 'bogus'\r\n"),
        ("info uuid", "00000000-0000-0000-0000-000000000000\r\n"),
        (
            "info version",
            concat!(env!("CARGO_PKG_VERSION"), "vmm-bin\r\n"),
        ),
        ("nmi", ""),
        ("help q", "quit|q  -- quit the emulator\r\n"),
    ] {
        assert_eq!(person.say(line), answer, "{line}");
    }
    let cpus = person.say("info cpus");
    assert!(cpus.starts_with("* CPU #0: thread_id="), "{cpus}");
    assert_eq!(qmp.event("RESET")["reason"], "host-qmp-system-reset");
    // Another one waits until this one has gone, and finds nothing of it.
    let next = connect(&consoles.path("hmp"));
    person.stream.write_all(b"half a li").unwrap();
    drop(person);
    let mut next = Person::new(next);
    assert_eq!(next.say("info name"), "tested\r\n");
    next.stream.write_all(b"quit\ninfo status\n").unwrap();
    assert_eq!(next.rest(), "quit\r\n", "the last words, and no prompt");
    assert_eq!(vm.wait().code, Some(0));
    assert_eq!(
        consoles.names(),
        Vec::<String>::new(),
        "the socket is removed"
    );
}

#[test]
fn what_was_sent_before_the_end_of_the_stream_is_executed() {
    needs_kvm!();
    let (vm, consoles) = with_console(&[]);
    let mut qmp = vm.qmp();
    // The sending side alone is closed: all is answered.
    let mut stream = connect(&consoles.path("hmp"));
    stream.write_all(b"stop\ninfo status\ncont\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("VM status: paused\r\n(qemu) cont"), "{text}");
    qmp.event("STOP");
    qmp.event("RESUME");
    // Both are: nobody reads, and it is executed all the same.
    let mut stream = connect(&consoles.path("hmp"));
    stream
        .write_all(b"stop\nsystem_reset\ncont\nquit\n")
        .unwrap();
    drop(stream);
    for event in ["STOP", "RESET", "RESUME", "SHUTDOWN"] {
        qmp.event(event);
    }
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_person_that_never_reads_holds_nobody_up() {
    needs_kvm!();
    let (vm, consoles) = with_console(&[]);
    let mut stream = connect(&consoles.path("hmp"));
    stream.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let mut sent = 0;
    // Until nothing more is taken for a while.
    let mut idle = Instant::now();
    while idle.elapsed().as_millis() < 500 && start.elapsed() < DEADLINE {
        match stream.write(&b"help\n".repeat(100)) {
            Ok(count) => {
                sent += count;
                idle = Instant::now();
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    }
    assert!(sent < 4 << 20, "{sent} bytes were taken, and no answer was");
    let mut qmp = vm.qmp();
    for _ in 0..100 {
        assert_eq!(qmp.status(), "running");
    }
    // Nor does the main loop spin.
    common::quiet(vm.child.id());
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_console_by_tcp_and_one_that_connects() {
    needs_kvm!();
    let directory = Directory::new();
    let listener = std::os::unix::net::UnixListener::bind(directory.path("far")).unwrap();
    let far = directory.option("unix", "far") + ",server=off";
    let vm = Vm::menu(&[
        "--monitor",
        "tcp::0",
        "--monitor",
        &far,
        "--monitor",
        "none",
    ]);
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut person = Person::new(stream);
    assert_eq!(person.say("info status"), "VM status: running\r\n");
    let port = wait_for("port", || {
        let log = vm.log();
        let port = log.split_once("listening on tcp:")?.1;
        Some(port.split_once('\n')?.0.to_owned())
    });
    let stream = TcpStream::connect(port).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut other = Person::new(stream);
    assert_eq!(other.say("info status"), "VM status: running\r\n");
    assert_eq!(
        other.say("\u{e9}\u{6f22}"),
        "unknown command: '\u{e9}\u{6f22}'\r\n"
    );
    other.stream.write_all(b"q\n").unwrap();
    assert_eq!(other.rest(), "q\r\n");
    assert_eq!(person.rest(), "\r\n");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn lines_through_pipes() {
    needs_kvm!();
    let mut child = Running::start(
        program()
            .args(["--monitor", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"info status\nquit\n").unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert!(
        text.contains("(qemu) info status\r\nVM status: running\r\n(qemu) quit\r\n"),
        "{text}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_person_edits_completes_and_recalls_on_a_terminal() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&["--monitor", "stdio"], PROMPT);
    assert!(vm.is_raw());
    vm.press(b"in\tst\t\r", "VM status: running\r\n(qemu) ");
    vm.press(b"stpo\x7f\x7fop\r", PROMPT);
    vm.press(b"\x1b[A\x1b[A\r", "VM status: paused\r\n(qemu) ");
    vm.press(b"system_\t", "system_wakeup\r\n(qemu) system_");
    vm.press(b"r\t\r", "RESET: the machine is reset");
    vm.press(b"info status\r", "VM status: paused (prelaunch)\r\n");
    // Ctrl-D deletes, and ends nothing.
    vm.press(b"\x04\x04info name\r", PROMPT);
    vm.keys(b"quit\r");
    let (status, screen) = vm.wait();
    assert_eq!(status.code(), Some(0), "{screen}");
}

#[test]
fn ctrl_c_ends_a_program_with_its_monitor_on_the_terminal() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&["--monitor", "stdio"], PROMPT);
    vm.keys(b"half a line\x03");
    let (status, screen) = vm.wait();
    assert_eq!(status.code(), Some(0));
    assert!(screen.contains("terminating on signal 2"), "{screen}");
}

#[test]
fn guest_and_monitor_share_a_terminal() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&["--serial", "mon:stdio"], "guest> ");
    assert!(!vm.screen.text().contains(PROMPT), "the guest has it first");
    vm.press(b"\x01c", "type 'help' for more information\r\n(qemu) ");
    vm.press(b"info status\r", "VM status: running\r\n(qemu) ");
    // Ctrl-A is a key of the editor too.
    vm.press(b"nfo status\x01\x01i\r", "VM status: running\r\n(qemu) ");
    // What was typed is there when one comes back; the guest gets nothing of it.
    vm.press(b"sto", "sto");
    vm.press(b"\x01cz", "no such key");
    vm.press(b"\x01c", "(qemu) sto");
    vm.press(b"p\rinfo status\r", "VM status: paused\r\n(qemu) ");
    vm.press(b"\x01h", "Ctrl-A c       turn to the monitor");
    // Ctrl-C gives a line up; with the guest, it is the guest's.
    vm.press(b"cont\x03", "cont\r\n(qemu) ");
    vm.press(b"cont\r", PROMPT);
    vm.press(b"\x01c\x03", "no such key");
    vm.press(b"\x01cq\r", "SHUTDOWN");
    let (status, screen) = vm.wait();
    assert_eq!(status.code(), Some(0), "{screen}");
    assert!(screen.contains("host-qmp-quit"), "{screen}");
}

#[test]
fn ctrl_a_x_ends_the_vm_from_the_monitor_and_past_a_guest_that_does_not_read() {
    needs_kvm!();
    for keys in [
        b"\x01chalf a line\x01x".to_vec(),
        [&b"b"[..], &[b'x'; 200], b"\x01x"].concat(),
    ] {
        let mut vm = OnTerminal::start(
            &["--serial", "mon:stdio", "--exit-codes", "cause"],
            "guest> ",
        );
        vm.keys(&keys);
        let (status, screen) = vm.wait();
        assert_eq!(status.code(), Some(85), "{screen}");
    }
}

#[test]
fn a_shared_terminal_is_given_back_by_signals() {
    needs_kvm!();
    for args in [["--serial", "mon:stdio"], ["--monitor", "stdio"]] {
        for signal in ["TERM", "HUP"] {
            let vm = OnTerminal::start(
                &args,
                if args[0] == "--serial" {
                    "guest> "
                } else {
                    PROMPT
                },
            );
            assert!(vm.is_raw());
            common::kill(vm.program(), signal);
            assert_eq!(vm.wait().0.code(), Some(0), "{args:?} {signal}");
        }
    }
}

#[test]
fn a_flooding_guest_does_not_keep_the_monitor_from_its_terminal() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&["--serial", "mon:stdio"], "guest> ");
    vm.press(b"n", "3");
    vm.press(b"\x01cinfo status\r", "VM status: running");
    vm.press(b"quit\r", "SHUTDOWN");
    assert_eq!(vm.wait().0.code(), Some(0));
}

/// What `socat` gets from the socket when it sends `input`; `None` if it is not installed.
fn socat(socket: &Path, input: &str) -> Option<String> {
    let child = std::process::Command::new("socat")
        .args(["-t", "10", "-"])
        .arg(format!("UNIX-CONNECT:{}", socket.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child.map(Running::from) else {
        eprintln!("skipped: socat is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    Some(text)
}

#[test]
fn socat_drives_both_monitors() {
    needs_kvm!();
    let (vm, consoles) = with_console(&[]);
    let Some(people) = socat(&consoles.path("hmp"), "stop\ninfo status\n") else {
        return;
    };
    assert!(
        people.ends_with("(qemu) stop\r\n(qemu) info status\r\nVM status: paused\r\n(qemu) "),
        "{people}"
    );
    let requests = "{'execute': 'qmp_capabilities'}\n{'execute': 'cont', 'id': 1}\n\
                    {'execute': 'query-status', 'id': 2}\n{'execute': 'quit', 'id': 3}\n";
    let programs = socat(&vm.directory.path("qmp"), requests).unwrap();
    let words: Vec<_> = programs
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|message| match message.get("event") {
            Some(event) => event.as_str().unwrap().to_owned(),
            None => message["id"].to_string(),
        })
        .collect();
    // The greeting, the negotiation, and then each reply behind the event that it caused.
    assert_eq!(
        words,
        ["null", "null", "RESUME", "1", "2", "SHUTDOWN", "3"],
        "{programs}"
    );
    assert_eq!(vm.wait().code, Some(0));
}

/// A text without its values: every hexadecimal digit is a 0, every flag a dash.
fn shape(text: &str) -> String {
    let flags = |line: &str| match line.split_once('[') {
        Some((before, after)) => {
            let (letters, rest) = after.split_once(']').unwrap();
            format!("{before}[{}]{rest}", "-".repeat(letters.len()))
        }
        None => line.to_owned(),
    };
    let zero = |c: char| if c.is_ascii_hexdigit() { '0' } else { c };
    let lines = text
        .lines()
        .map(|line| flags(line).chars().map(zero).collect::<String>() + "\n");
    lines.collect()
}

#[test]
fn registers_are_shown_as_in_qemu() {
    needs_kvm!();
    let (mut vm, consoles) = with_console(&["--cpus", "2"]);
    let mut person = Person::new(connect(&consoles.path("hmp")));
    // While it runs, while it spins, while it stands.
    let halted = person.say("info registers");
    assert!(halted.contains("HLT=1"), "{halted}");
    vm.keys("b");
    wait_for("spinning", || {
        person.say("info registers").contains("HLT=0").then_some(())
    });
    person.say("stop");
    let text = person.say("info registers");
    assert_eq!(text, person.say("info registers"), "it stands");
    assert!(text.starts_with("\r\nCPU#0\r\nEAX="), "{text}");
    let all = person.say("info registers -a");
    assert!(
        all.contains(&text) && all.contains("\r\nCPU#1\r\nEAX="),
        "{all}"
    );
    assert_eq!(person.say("info registers 7"), "CPU#7 not available\r\n");
    assert_eq!(vm.qmp().execute("quit"), serde_json::json!({}));
    assert_eq!(vm.wait().code, Some(0));

    let qemu = std::process::Command::new("qemu-system-x86_64")
        .args(["-M", "pc,accel=tcg", "-S", "-display", "none", "-monitor"])
        .arg(consoles.option("unix", "qemu") + ",server=on,wait=off")
        .stdout(Stdio::null())
        .spawn();
    let Ok(qemu) = qemu else {
        return eprintln!("skipped: no qemu-system-x86_64 to compare with");
    };
    let _qemu = Running::from(qemu);
    let mut stream = connect(&consoles.path("qemu"));
    stream.write_all(b"info registers\nquit\n").unwrap();
    let mut theirs = String::new();
    stream.read_to_string(&mut theirs).unwrap();
    let theirs = theirs.split_once("CPU#0\r\n").unwrap().1;
    let theirs = theirs.split_once(PROMPT).unwrap().0;
    let ours = text.split_once("CPU#0\r\n").unwrap().1;
    assert_eq!(shape(ours), shape(theirs));
}
