//! The monitor's clients by every way that there is: several sockets, TCP, descriptors, the standard
//! streams, and a monitor that connects instead of listening.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use common::{
    DEADLINE, Directory, Qmp, Running, Transcript, Vm, needs_kvm, output, program, wait_for,
};
use serde_json::json;

/// The program with no serial line, and what it logs.
fn start(args: &[&str]) -> (Running, Transcript) {
    let mut child = Running::start(
        program()
            .args(["--serial", "none"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped()),
    );
    let (log, _) = Transcript::of(child.stderr.take().unwrap());
    (child, log)
}

fn ends_well(mut child: Running) {
    let status = wait_for("end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

/// What every client must be able to do; the last one ends the VM.
fn works(mut qmp: Qmp, quits: bool) {
    assert_eq!(qmp.status(), "running");
    qmp.execute("system_reset");
    assert_eq!(qmp.event("RESET")["reason"], "host-qmp-system-reset");
    if quits {
        qmp.execute("quit");
        assert_eq!(qmp.last_events(), ["SHUTDOWN"]);
    }
}

fn tcp(address: &str) -> Qmp {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    Qmp::over(stream)
}

#[test]
fn several_sockets_of_both_kinds_and_both_sides() {
    needs_kvm!();
    let directory = Directory::new();
    let unix = UnixListener::bind(directory.path("client")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let (child, log) = start(&[
        "--qmp",
        &directory.option("unix", "first"),
        "-qmp",
        &(directory.option("unix", "second") + ",server=on,wait=off"),
        "--qmp",
        &(directory.option("unix", "client") + ",server=off"),
        "--qmp",
        &format!("tcp:{address},server=off"),
        "--qmp",
        "tcp:localhost:0",
    ]);
    let connected = unix.accept().unwrap().0;
    connected.set_read_timeout(Some(DEADLINE)).unwrap();
    works(Qmp::over(connected), false);
    let connected = port.accept().unwrap().0;
    connected.set_read_timeout(Some(DEADLINE)).unwrap();
    works(Qmp::over(connected), false);
    let heard = wait_for("port", || {
        let text = log.text();
        let at = text.split_once("listening on tcp:")?.1;
        Some(at.split_once('\n')?.0.to_owned())
    });
    works(tcp(&heard), false);
    // Whoever connected has gone, which is nothing to the others.
    works(tcp(&heard), false);
    works(Qmp::connect(&directory.path("first")), false);
    works(Qmp::connect(&directory.path("second")), true);
    ends_well(child);
    assert_eq!(directory.names(), ["client"], "only its own are removed");
}

#[test]
fn who_listens_later_than_the_program_starts_is_found() {
    needs_kvm!();
    let directory = Directory::new();
    let (child, _log) = start(&["--qmp", &(directory.option("unix", "late") + ",server=off")]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    let listener = UnixListener::bind(directory.path("late")).unwrap();
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    works(Qmp::over(stream), true);
    ends_well(child);
}

#[test]
fn a_signal_ends_a_program_that_waits_for_somebody_to_listen() {
    let (mut child, log) = start(&["--qmp", "unix:/nonexistent/qmp,server=off"]);
    wait_for("handler", || {
        common::handles_sigterm(child.id()).then_some(())
    });
    common::kill(child.id(), "TERM");
    let status = wait_for("end", || child.try_wait().unwrap());
    assert!(!status.success());
    let text = wait_for("last words", || {
        Some(log.text()).filter(|text| text.contains("vmm-bin: "))
    });
    assert!(text.contains("--qmp: a signal ended"), "{text}");
}

/// The program, with `stream` as its descriptor 3.
fn with_descriptor_3(stream: OwnedFd, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3<&0 </dev/null", "sh"])
        .arg(env!("CARGO_BIN_EXE_vmm-bin"))
        .args(["--serial", "none"])
        .args(args)
        .stdin(stream)
        .stdout(Stdio::null());
    command
}

#[test]
fn a_socket_that_the_program_was_started_with() {
    needs_kvm!();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_read_timeout(Some(DEADLINE)).unwrap();
    let child = Running::start(&mut with_descriptor_3(far.into(), &["--qmp", "fd:3"]));
    works(Qmp::over(near), true);
    ends_well(child);
}

#[test]
fn clients_come_through_a_listener_that_the_program_was_started_with() {
    needs_kvm!();
    let directory = Directory::new();
    let path = directory.path("handed");
    let listener = UnixListener::bind(&path).unwrap();
    let child = Running::start(&mut with_descriptor_3(listener.into(), &["--qmp", "fd:3"]));
    for quits in [false, true] {
        works(Qmp::connect(&path), quits);
    }
    ends_well(child);
    assert_eq!(directory.names(), ["handed"], "it is its maker's");

    // The monitor for people, by TCP.
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let args = ["--monitor", "fd:3"];
    let child = Running::start(&mut with_descriptor_3(port.into(), &args));
    let mut person = TcpStream::connect(address).unwrap();
    person.set_read_timeout(Some(DEADLINE)).unwrap();
    person.write_all(b"info status\nquit\n").unwrap();
    let mut text = String::new();
    person.read_to_string(&mut text).unwrap();
    assert!(text.contains("VM status: running"), "{text}");
    ends_well(child);
}

/// Reads what the guest says until this.
fn hear(mut stream: impl Read, what: &str) {
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    while !String::from_utf8_lossy(&heard).contains(what) {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "the serial line has ended: {heard:?}");
        heard.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn the_serial_line_connects_and_takes_sockets_of_every_kind() {
    needs_kvm!();
    let directory = Directory::new();
    let unix = UnixListener::bind(directory.path("serial")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    let qmp = directory.option("unix", "qmp");
    let wheres = [
        directory.option("unix", "serial") + ",server=off",
        format!("tcp:{address},server=off"),
    ];
    for (number, option) in wheres.iter().enumerate() {
        let (child, log) = start(&["--serial", option, "--qmp", &qmp]);
        let mut stream: Box<dyn ReadWrite> = match number {
            0 => Box::new(unix.accept().unwrap().0),
            _ => Box::new(port.accept().unwrap().0),
        };
        hear(&mut stream, "guest> ");
        stream.write_all(b"n").unwrap();
        hear(&mut stream, "counting");
        // Who has gone does not come again; the guest goes on, and speaks to nobody.
        drop(stream);
        wait_for("line in the log", || {
            log.text().contains("the other end has gone").then_some(())
        });
        let path = directory.path("qmp");
        works(Qmp::connect(&path), true);
        ends_well(child);
    }

    let (near, far) = UnixStream::pair().unwrap();
    let args = ["--serial", "fd:3", "--qmp", &qmp];
    let child = Running::start(&mut with_descriptor_3(far.into(), &args));
    near.set_read_timeout(Some(DEADLINE)).unwrap();
    hear(&near, "guest> ");
    (&near).write_all(b"s").unwrap();
    ends_well(child);

    let (child, log) = start(&["--serial", "tcp::0"]);
    let heard = wait_for("port", || {
        let text = log.text();
        let at = text.split_once("listening on tcp:")?.1;
        Some(at.split_once('\n')?.0.to_owned())
    });
    // One after the other. The menu's prompt comes again when a key was served.
    let client = || {
        let stream = TcpStream::connect(&heard).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    };
    let mut first = client();
    hear(&mut first, "guest> ");
    first.write_all(b"l").unwrap();
    hear(&mut first, "guest> ");
    drop(first);
    let mut second = client();
    second.write_all(b"s").unwrap();
    hear(&mut second, "\n");
    ends_well(child);
}

/// A stream of any kind.
trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn a_descriptor_that_is_none_or_leads_to_nobody_is_refused() {
    let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for (fd, number, part) in [
        (OwnedFd::from(file), "3", "fd:3: is no socket"),
        (datagram.into(), "3", "fd:3: is a socket, but no stream"),
        (
            io::pipe().unwrap().0.into(),
            "9",
            "fd:9: cannot be used: Bad file",
        ),
    ] {
        let args = ["--qmp", &format!("fd:{number}")];
        let output = with_descriptor_3(fd, &args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("vmm-bin: --qmp: fd:"), "{text}");
        assert!(text.contains(part), "{text}");
        assert!(text.contains("start the program with"), "{text}");
    }
}

/// The two ends of the standard streams.
struct Pipes(ChildStdout, ChildStdin);

impl Read for Pipes {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Pipes {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.1.write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

#[test]
fn the_standard_streams_are_the_monitors() {
    needs_kvm!();
    let mut child = Running::start(
        program()
            .args(["--qmp", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    );
    let pipes = Pipes(child.stdout.take().unwrap(), child.stdin.take().unwrap());
    works(Qmp::over(pipes), true);
    ends_well(child);
}

#[test]
fn what_cannot_be_opened_leaves_nothing_behind() {
    let directory = Directory::new();
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().to_string();
    let first = directory.option("unix", "first");
    for (bad, parts) in [
        (
            format!("tcp::{port}"),
            ["--qmp: cannot listen on", "free port"],
        ),
        (
            "tcp:no.such.host.invalid:1".to_owned(),
            [
                "--qmp: cannot listen on no.such.host.invalid:1",
                "address of this host",
            ],
        ),
        (
            "tcp:no.such.host.invalid:1,server=off".to_owned(),
            [
                "--qmp: cannot connect to no.such.host.invalid:1",
                "listens there",
            ],
        ),
        (
            "stdio".to_owned(),
            [
                "--qmp: standard input cannot be used",
                "a terminal, a pipe or a socket",
            ],
        ),
        ("fd:77".to_owned(), ["--qmp: fd:77", "Bad file descriptor"]),
        (first.clone() + "/x", ["--qmp", "first/x"]),
    ] {
        let output = output(&["--serial", "none", "--qmp", &first, "--qmp", &bad]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{bad}: {text}");
        for part in parts {
            assert!(text.contains(part), "{bad}: {text:?} lacks {part:?}");
        }
        assert_eq!(directory.names(), Vec::<String>::new(), "{bad}");
    }
}

#[test]
fn a_connected_client_that_goes_ends_nothing() {
    needs_kvm!();
    let (near, far) = UnixStream::pair().unwrap();
    let directory = Directory::new();
    let option = directory.option("unix", "qmp");
    let args = ["--qmp", "fd:3", "--qmp", &option];
    let child = Running::start(&mut with_descriptor_3(far.into(), &args));
    drop(near);
    let mut qmp = Qmp::connect(&directory.path("qmp"));
    let reply = qmp.reply("query-status", json!({}));
    assert_eq!(reply["return"]["status"], "running");
    works(qmp, true);
    ends_well(child);
}

#[test]
fn a_vm_of_the_tests_has_one_monitor_and_no_more_descriptors_than_it_needs() {
    needs_kvm!();
    let vm = Vm::menu(&[]);
    let sockets = || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", vm.child.id())).unwrap();
        fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter(|link| link.to_string_lossy().starts_with("socket:"))
            .count()
    };
    let before = sockets();
    drop(vm.qmp());
    wait_for("close", || (sockets() == before).then_some(()));
    let mut qmp = vm.qmp();
    qmp.execute("quit");
    assert_eq!(vm.wait().code, Some(0), "expected a good end");
}
