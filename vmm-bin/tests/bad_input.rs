//! What cannot be understood or done is refused with one line that says what would do, exit code
//! 2, and nothing left behind.

mod common;

use std::os::unix::net::UnixListener;

use common::{Directory, needs_kvm, output};

/// Runs the program and checks that it refuses with one line that has all of `parts`.
fn refused(args: &[&str], parts: &[&str]) {
    let output = output(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
    assert!(output.stdout.is_empty(), "{args:?}: something was printed");
    for part in parts {
        assert!(error.contains(part), "{args:?}: {error:?} lacks {part:?}");
    }
    assert!(error.starts_with("vmm-bin: "), "{args:?}: {error:?}");
    assert_eq!(error.lines().count(), 1, "{args:?}: {error:?}");
}

#[test]
fn a_command_line_that_cannot_be_understood() {
    for (args, parts) in [
        (&["--bogus"][..], &["--bogus", "--help"][..]),
        (&["kernel"], &["'kernel'", "--kernel FILE"]),
        (&["--kernel"], &["--kernel", "FILE"]),
        (&["--memory", "much"], &["--memory much", "512M"]),
        (&["--cpus", "0"], &["--cpus 0", "1 to 254"]),
        (
            &["--serial", "tty"],
            &[
                "--serial tty",
                "stdio, mon:stdio, unix:PATH, tcp:HOST:PORT, fd:N, file:PATH or none",
            ],
        ),
        (&["--qmp", "null"], &["--qmp null", "unix:PATH"]),
        (&["--debugcon", "x"], &["--debugcon x", "file:PATH"]),
        (&["--uuid", "x"], &["--uuid x", "xxxxxxxx-"]),
        (
            &["--action", "shutdown=bogus"],
            &[
                "-action shutdown=bogus: ",
                "Parameter 'shutdown' does not accept value 'bogus'",
                "poweroff or pause",
            ],
        ),
        (
            &["-action", "foo=bar"],
            &["-action foo=bar: Invalid parameter 'foo'"],
        ),
        (&["--exit-codes", "x"], &["--exit-codes x", "qemu or cause"]),
        (&["--seccomp", "x"], &["--seccomp x", "on, off or log"]),
        (&["--initrd", "a"], &["--initrd", "add --kernel FILE"]),
        (&["--append", "a"], &["--append", "add --kernel FILE"]),
    ] {
        refused(args, parts);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (args, part) in [
        (&["--help"][..], "EXIT CODES"),
        (&["-h"], "EXAMPLES"),
        (
            &["--version"],
            concat!("vmm-bin ", env!("CARGO_PKG_VERSION")),
        ),
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        assert!(
            String::from_utf8_lossy(&output.stdout).contains(part),
            "{args:?}"
        );
    }
}

#[test]
fn files_that_are_not_what_they_should_be() {
    let directory = Directory::new();
    let text = directory.path("text");
    std::fs::write(&text, "this is no kernel, whatever it is\n".repeat(100)).unwrap();
    let text = text.to_str().unwrap();
    let empty = directory.path("empty");
    std::fs::write(&empty, "").unwrap();
    let empty = empty.to_str().unwrap();
    refused(
        &["--kernel", "/nonexistent/vmlinuz"],
        &["/nonexistent/vmlinuz"],
    );
    refused(&["--kernel", "/"], &["/"]);
    refused(&["--kernel", text], &[text]);
    refused(&["--kernel", empty], &[empty]);
    refused(&["--firmware", "/nonexistent/bios"], &["/nonexistent/bios"]);
    refused(&["--firmware", empty], &[empty]);
    assert_eq!(directory.names(), ["empty", "text"]);
}

#[test]
fn sockets_and_files_that_cannot_be_made() {
    let directory = Directory::new();
    let _listener = UnixListener::bind(directory.path("used")).unwrap();
    std::fs::write(directory.path("file"), "somebody's").unwrap();
    std::os::unix::fs::symlink("/nonexistent", directory.path("link")).unwrap();
    for option in ["--qmp", "--serial"] {
        for (name, part) in [("used", "use"), ("file", "socket"), ("link", "socket")] {
            refused(
                &[option, &directory.option("unix", name)],
                &[option, name, part],
            );
        }
        refused(
            &[option, "unix:/nonexistent/socket"],
            &[option, "/nonexistent/socket"],
        );
    }
    let holder = directory.path("link").to_str().unwrap().to_owned();
    refused(&["--pidfile", &holder], &["--pidfile", "link"]);
    assert_eq!(
        directory.names(),
        ["file", "link", "used"],
        "nothing is removed, nothing is left"
    );
    assert_eq!(
        std::fs::read_to_string(directory.path("file")).unwrap(),
        "somebody's"
    );
}

#[test]
fn output_files_that_cannot_be_written() {
    needs_kvm!();
    refused(
        &["--serial", "file:/nonexistent/log"],
        &["--serial", "/nonexistent/log"],
    );
    refused(&["--debugcon", "file:/"], &["--debugcon", "file:/"]);
}

#[test]
fn a_machine_that_cannot_be() {
    needs_kvm!();
    refused(&["--memory", "4K"], &["4"]);
    refused(
        &["--memory", "8000000G"],
        &["8192000000 MiB", "the most is"],
    );
    // Few hosts have set 64 GiB aside.
    refused(
        &["--memory", "64G,hugepages=on"],
        &["huge pages of 2 MiB", "give no hugepages=on"],
    );
    let directory = Directory::new();
    // What came up before the failure is gone again.
    let pidfile = directory.path("pid");
    refused(
        &[
            "--memory",
            "4K",
            "--qmp",
            &directory.option("unix", "qmp"),
            "--serial",
            &directory.option("unix", "serial"),
            "--pidfile",
            pidfile.to_str().unwrap(),
        ],
        &["4"],
    );
    assert_eq!(directory.names(), Vec::<String>::new());
}
