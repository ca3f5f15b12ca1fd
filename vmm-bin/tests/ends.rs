//! How the program ends when the host wants it: signals, a terminal that goes away, input that
//! ends; and what it leaves behind, which is nothing.

mod common;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use common::{
    DEADLINE, Directory, Qmp, Running, Transcript, Vm, kill, needs_kvm, program, wait_for,
};
use serde_json::json;

#[test]
fn a_signal_ends_the_vm_in_order() {
    needs_kvm!();
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let vm = Vm::menu(&["--no-shutdown"]);
        let mut qmp = vm.qmp();
        vm.signal(name);
        assert_eq!(
            qmp.event("SHUTDOWN"),
            json!({"guest": false, "reason": "host-signal"})
        );
        assert_eq!(qmp.last_events(), Vec::<String>::new());
        let ended = vm.wait();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "SIG{name}");
        let line = format!("terminating on signal {number} from pid ");
        assert!(ended.log.contains(&line), "{}", ended.log);
        // The program that sends it may have gone by then.
        let mut said = ["(kill)", "(of user ", "(<unknown process>)"].into_iter();
        assert!(
            said.any(|sender| ended.log.contains(sender)),
            "{}",
            ended.log
        );
    }
}

#[test]
fn the_sender_of_a_signal_is_named() {
    needs_kvm!();
    let vm = Vm::menu(&[]);
    // Who sends it lives on, so there is no excuse.
    let pid = rustix::process::Pid::from_child(&vm.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = vm.wait();
    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_string_lossy();
    let line = format!(
        "terminating on signal 15 from pid {} ({own})",
        std::process::id()
    );
    assert!(ended.log.contains(&line), "{}", ended.log);
}

#[test]
fn a_signal_ends_the_vm_whatever_it_does() {
    needs_kvm!();
    let vm = Vm::start(&["-S"]);
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0), "not started");
    for (keys, says) in [
        ("b", "spinning"),
        ("d", "interrupts off"),
        ("n", "counting"),
    ] {
        let mut vm = Vm::menu(&[]);
        vm.press(keys, says);
        vm.signal("TERM");
        assert_eq!(vm.wait().code, Some(0), "{says}");
    }
    let vm = Vm::menu(&[]);
    vm.qmp().execute("stop");
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0), "stopped");
}

/// A console that nobody reads keeps the tear-down busy for a second. A signal that comes then does
/// not wait for that.
#[test]
fn a_second_signal_during_tear_down_ends_the_program() {
    needs_kvm!();
    let ended_at_once = (0..10).any(|_| {
        let mut child = Running::start(
            program()
                .env("RUST_LOG", "trace")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let mut keys = child.stdin.take().unwrap();
        let _unread = child.stdout.take().unwrap();
        let (log, logger) = Transcript::of(child.stderr.take().unwrap());
        // Menus enough to fill the pipe and more.
        keys.write_all(&[b'?'; 200]).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        kill(child.id(), "TERM");
        wait_for("tear-down", || {
            log.text().contains("tear-down: qemu_chr").then_some(())
        });
        kill(child.id(), "TERM");
        let status = wait_for("end", || child.try_wait().unwrap());
        logger.join().unwrap();
        assert!(matches!(status.code(), Some(0 | 143)), "{status}");
        // On a machine that is very busy the tear-down may have ended before the signal came.
        status.code() == Some(143)
    });
    assert!(ended_at_once);
}

/// Any number of signals at any time: it ends, and in one of the two ways.
#[test]
fn signals_at_any_time_end_the_program() {
    needs_kvm!();
    for pause in [0, 1, 5, 20, 50] {
        let mut vm = Vm::menu(&[]);
        vm.signal("TERM");
        std::thread::sleep(Duration::from_millis(pause));
        vm.signal("TERM");
        vm.signal("TERM");
        let status = wait_for("end", || vm.child.try_wait().unwrap());
        assert!(matches!(status.code(), Some(0 | 143)), "{status}");
    }
}

#[test]
fn a_client_that_never_reads_does_not_keep_the_program_alive() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--action", "panic=none"]);
    let lazy = vm.qmp();
    for _ in 0..20 {
        vm.press("p", "The guest goes on.");
    }
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
    drop(lazy);
}

#[test]
fn sockets_are_private_and_everything_is_removed() {
    needs_kvm!();
    let directory = Directory::new();
    let pidfile = directory.path("pid");
    let mut vm = Vm::menu(&["--pidfile", pidfile.to_str().unwrap()]);
    for name in ["qmp", "serial"] {
        let mode = vm
            .directory
            .path(name)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let text = std::fs::read_to_string(&pidfile).unwrap();
    assert_eq!(text, format!("{}\n", vm.child.id()));
    // The next one with the same PID file is refused, and does not take it away.
    let second = common::output(&["--pidfile", pidfile.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&second.stderr).contains(&vm.child.id().to_string()));
    assert!(pidfile.exists());
    vm.keys("s");
    vm.wait();
    assert_eq!(directory.names(), Vec::<String>::new());
}

/// Killed, it cannot clean up; and the next start is not kept from its work.
#[test]
fn what_a_killed_process_left_is_taken_over() {
    needs_kvm!();
    let directory = Directory::new();
    let pidfile = directory.path("pid");
    let start = || {
        Running::start(
            program()
                .args(["--serial", &directory.option("unix", "serial")])
                .args(["--qmp", &directory.option("unix", "qmp")])
                .args(["--pidfile", pidfile.to_str().unwrap()])
                .stdin(Stdio::null())
                .stderr(Stdio::null()),
        )
    };
    let mut first = start();
    wait_for("socket", || UnixStream::connect(directory.path("qmp")).ok());
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(directory.names(), ["pid", "qmp", "serial"]);
    let mut second = start();
    Qmp::connect(&directory.path("qmp")).execute("quit");
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(directory.names(), Vec::<String>::new());
}

/// `vmm-bin < /dev/null` and `vmm-bin <&-` run on, and do not spin.
#[test]
fn the_end_of_input_is_no_end_of_the_vm() {
    needs_kvm!();
    for shell in [
        "exec \"$0\" </dev/null",
        "exec \"$0\" <&-",
        "exec \"$0\" <\"$1\"",
    ] {
        let directory = Directory::new();
        let keys = directory.path("keys");
        std::fs::write(&keys, "zzz").unwrap();
        let mut child = Running::start(
            std::process::Command::new("sh")
                .args([
                    "-c",
                    shell,
                    env!("CARGO_BIN_EXE_vmm-bin"),
                    keys.to_str().unwrap(),
                ])
                .stdout(Stdio::piped())
                .stderr(Stdio::null()),
        );
        let (said, reader) = Transcript::of(child.stdout.take().unwrap());
        wait_for("menu", || said.text().contains("guest> ").then_some(()));
        if shell.contains("$1") {
            wait_for("answer", || {
                (said.text().matches("no such key").count() == 3).then_some(())
            });
        }
        common::quiet(child.id());
        kill(child.id(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{shell}");
        reader.join().unwrap();
    }
}

/// A reader that stops reading costs the guest bytes, not time; one that goes away, nothing.
#[test]
fn a_reader_of_the_console_may_stop_or_go() {
    needs_kvm!();
    let directory = Directory::new();
    let mut child = Running::start(
        program()
            .args(["--qmp", &directory.option("unix", "qmp")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null()),
    );
    let mut keys = child.stdin.take().unwrap();
    let console = child.stdout.take().unwrap();
    let mut qmp = Qmp::connect(&directory.path("qmp"));
    // Nobody reads; the pipe and the ring fill up, and the guest goes on: it says so by another way, now and then.
    for _ in 0..20 {
        keys.write_all(b"??????????l").unwrap();
        qmp.event("GUEST_CRASHLOADED");
    }
    keys.write_all(b"9").unwrap();
    assert_eq!(
        qmp.event("RESET"),
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(qmp.status(), "running");
    drop(console);
    keys.write_all(b"??9").unwrap();
    qmp.event("RESET");
    keys.write_all(b"s").unwrap();
    qmp.event("SHUTDOWN");
    assert_eq!(
        wait_for("end", || child.try_wait().unwrap()).code(),
        Some(0)
    );
}

#[test]
fn the_console_in_a_file_is_complete() {
    needs_kvm!();
    let directory = Directory::new();
    let mut child = Running::start(
        program()
            .args(["--serial", &directory.option("file", "console")])
            .args(["--qmp", &directory.option("unix", "qmp")])
            .stdin(Stdio::null())
            .stderr(Stdio::null()),
    );
    let console = || std::fs::read_to_string(directory.path("console")).unwrap_or_default();
    wait_for("menu in the file", || {
        console().contains("guest> ").then_some(())
    });
    Qmp::connect(&directory.path("qmp")).execute("quit");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(console().ends_with("guest> "));
}

/// One client after the other; what the guest says in between is there for the next one.
#[test]
fn clients_of_the_serial_socket_take_turns() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let path = vm.directory.path("serial");
    let second = UnixStream::connect(&path).unwrap();
    let (said, _) = Transcript::of(second.try_clone().unwrap());
    vm.press("z", "no such key");
    assert_eq!(said.text(), "", "the second client waits for its turn");
    vm.hang_up();
    let mut second = second;
    second.set_write_timeout(Some(DEADLINE)).unwrap();
    second.write_all(b"z").unwrap();
    wait_for("answer", || {
        said.text().contains("no such key").then_some(())
    });
    second.write_all(b"s").unwrap();
    assert_eq!(vm.wait().code, Some(0));
}

/// A client that types and goes at once has typed: `printf ... | socat - UNIX:serial`.
#[test]
fn what_a_client_typed_before_it_went_is_not_lost() {
    needs_kvm!();
    let mut vm = Vm::menu(&[]);
    let path = vm.directory.path("serial");
    // More than the UART's FIFO holds, and than the guest has read by then.
    vm.keys(&"z".repeat(300));
    vm.hang_up();
    let next = UnixStream::connect(&path).unwrap();
    let (said, _) = Transcript::of(next.try_clone().unwrap());
    let mut next = next;
    next.write_all(b"w").unwrap();
    wait_for("last answer", || {
        said.text().contains("waiting for the power").then_some(())
    });
    // One answer may have been cut in two when the client went.
    wait_for("answer to each key", || {
        let before = vm.heard_times("no such key");
        let after = said.text().matches("no such key").count();
        (before + after >= 299).then_some(())
    });
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
}

/// A log that nobody reads costs lines, and neither the guest nor the monitor waits for its reader.
#[test]
fn a_reader_of_the_log_may_stop() {
    needs_kvm!();
    let directory = Directory::new();
    let mut child = Running::start(
        program()
            .args(["--qmp", &directory.option("unix", "qmp")])
            .args(["--serial", "none"])
            .env("RUST_LOG", "trace")
            .stdin(Stdio::null())
            .stderr(Stdio::piped()),
    );
    let _unread = child.stderr.take().unwrap();
    let mut qmp = Qmp::connect(&directory.path("qmp"));
    // More than a pipe holds: two lines for each stop, and two for each cont.
    for _ in 0..1000 {
        qmp.execute("stop");
        qmp.execute("cont");
    }
    qmp.execute("quit");
    let status = wait_for("end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
