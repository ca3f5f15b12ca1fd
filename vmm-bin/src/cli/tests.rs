//! What the command line becomes.

use lifecycle::{PanicAction, RebootAction, ShutdownAction, WatchdogAction};

use super::*;

fn run(args: &[&str]) -> Config {
    match parse(
        std::iter::once("vmm-bin")
            .chain(args.iter().copied())
            .map(OsString::from),
    ) {
        Ok(Invocation::Run(config)) => *config,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    match parse(
        std::iter::once("vmm-bin")
            .chain(args.iter().copied())
            .map(OsString::from),
    ) {
        Err(error) => error.to_string(),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn no_arguments_run_the_embedded_guest_on_the_terminal() {
    let config = run(&[]);
    assert_eq!(config.guest, Guest::Embedded);
    assert_eq!(config.serial, SerialTarget::Stdio);
    assert_eq!((config.memory, config.cpus), (256 << 20, 1));
    assert_eq!(config.actions, Actions::default());
    assert_eq!(config.seccomp, Seccomp::On);
    assert_eq!(config.landlock, Landlock::On);
    assert_eq!((config.accel, config.kvm_descriptor), (Accel::Kvm, None));
    assert!(config.autostart);
}

#[test]
fn every_option_has_its_effect() {
    let config = run(&[
        "--kernel",
        "k",
        "--initrd",
        "i",
        "--append",
        "-- console=ttyS0",
        "--memory",
        "1G",
        "--cpus",
        "2",
        "--serial",
        "unix:/tmp/s",
        "--qmp",
        "unix:/tmp/q",
        "-S",
        "--name",
        "n",
        "--uuid",
        "01234567-89AB-cdef-0123-456789abcdef",
        "--pidfile",
        "p",
        "--debugcon",
        "file:d",
        "--seccomp",
        "log",
        "--landlock",
        "required",
        "--accel",
        "kvm,fd=7",
    ]);
    assert_eq!(
        config.guest,
        Guest::Kernel {
            firmware: None,
            image: "k".into(),
            initrd: Some("i".into()),
            append: "-- console=ttyS0".into()
        }
    );
    assert_eq!((config.memory, config.cpus), (1 << 30, 2));
    assert_eq!(config.serial, serial_socket("/tmp/s"));
    let qmp = Address::Unix {
        path: "/tmp/q".into(),
        side: Side::Server,
    };
    assert_eq!(config.qmp, [qmp]);
    assert_eq!(config.name.as_deref(), Some("n"));
    assert_eq!(
        config.uuid.as_deref(),
        Some("01234567-89ab-cdef-0123-456789abcdef")
    );
    let bytes = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128;
    assert_eq!(config.uuid_bytes(), bytes.to_be_bytes());
    assert_eq!(config.pidfile, Some("p".into()));
    assert_eq!(config.debugcon, Some("d".into()));
    assert_eq!(config.seccomp, Seccomp::Log);
    assert_eq!(config.landlock, Landlock::Required);
    assert_eq!(config.descriptors().collect::<Vec<_>>(), [7]);
    assert!(!config.autostart);
}

#[test]
fn later_actions_win_as_in_qemu() {
    let actions = run(&["--no-reboot", "--action", "reboot=reset"]).actions;
    assert_eq!(actions.reboot, RebootAction::Reset);
    let actions = run(&["--action", "reboot=reset,shutdown=poweroff", "--no-reboot"]).actions;
    assert_eq!(actions.reboot, RebootAction::Shutdown);
    let actions = run(&["--no-shutdown", "--action=panic=none,watchdog=pause"]).actions;
    assert_eq!(actions.shutdown, ShutdownAction::Pause);
    assert_eq!(actions.panic, PanicAction::None);
    assert_eq!(actions.watchdog, WatchdogAction::Pause);
    let actions = run(&[
        "--action",
        "shutdown=pause",
        "--action",
        "shutdown=poweroff",
    ])
    .actions;
    assert_eq!(actions.shutdown, ShutdownAction::Poweroff);
}

#[test]
fn one_dash_is_as_good_as_two() {
    let config = run(&[
        "-no-reboot",
        "-kernel",
        "k",
        "-append",
        "-name",
        "-memory=64",
    ]);
    assert_eq!(config.actions.reboot, RebootAction::Shutdown);
    assert_eq!(config.memory, 64 << 20);
    let Guest::Kernel { append, .. } = config.guest else {
        panic!()
    };
    assert_eq!(append, "-name", "the value of an option is left alone");
}

#[test]
fn the_last_of_an_option_given_twice_counts() {
    assert_eq!(
        run(&["--memory", "64", "--memory", "128"]).memory,
        128 << 20
    );
}

#[test]
fn firmware_may_have_a_kernel_to_boot() {
    let guest = run(&["--firmware", "f", "--kernel", "k", "--append", "x"]).guest;
    let expected = Guest::Kernel {
        firmware: Some("f".into()),
        image: "k".into(),
        initrd: None,
        append: "x".into(),
    };
    assert_eq!(guest, expected);
    assert_eq!(run(&["--firmware", "f"]).guest, Guest::Firmware("f".into()));
}

#[test]
fn memory_has_a_size_and_a_backing() {
    for (text, bytes, backing) in [
        ("64", 64 << 20, Backing::Private),
        ("size=64", 64 << 20, Backing::Private),
        ("4K,shared=off,hugepages=off", 4 << 10, Backing::Private),
        ("1G,shared=on", 1 << 30, Backing::Shared),
        ("shared=on,size=1G", 1 << 30, Backing::Shared),
        ("2M,hugepages=on", 2 << 20, Backing::HugePages),
        ("2M,hugepages=on,shared=on", 2 << 20, Backing::HugePages),
        ("2M,shared=on,shared=off", 2 << 20, Backing::Private),
    ] {
        let config = run(&["--memory", text]);
        assert_eq!((config.memory, config.backing), (bytes, backing), "{text}");
    }
}

#[test]
fn bad_values_are_named_with_what_would_do() {
    for (args, parts) in [
        (&["--memory", "12Q"][..], &["--memory 12Q", "K, M or G"][..]),
        (&["--memory", "0"], &["--memory 0", "512M"]),
        (&["--memory", ""], &["--memory", "512M"]),
        (
            &["--memory", "99999999999999999999G"],
            &["--memory 999", "512M"],
        ),
        (&["--memory", "17179869184G"], &["--memory 17179869184G"]),
        (&["--memory", "shared=on"], &["no size", "512M"]),
        (
            &["--memory", "512M,prealloc"],
            &["unknown part", "shared=on|off"],
        ),
        (&["--memory", "size=512M,512M"], &["unknown part"]),
        (&["--memory", "size=,shared=on"], &["no size", "512M"]),
        (&["--memory", "512M,shared=yes"], &["shared", "on or off"]),
        (
            &["--memory", "512M,hugepages="],
            &["hugepages", "on or off"],
        ),
        (
            &["--memory", "512M,hugepages=on,shared=off"],
            &["always shared", "leave shared=off out"],
        ),
        (&["--cpus", "0"], &["--cpus 0", "1 to 254"]),
        (&["--cpus", "two"], &["--cpus two", "1 to 254"]),
        (&["--cpus", "-1"], &["--cpus -1", "1 to 254"]),
        (
            &["--serial", "pty"],
            &[
                "--serial pty",
                "stdio, mon:stdio, unix:PATH, tcp:HOST:PORT, fd:N, file:PATH or none",
            ],
        ),
        (&["--serial", "unix:"], &["--serial unix:", "unix:PATH"]),
        (
            &["--serial", "stdio,wakeup=yes"],
            &["--serial stdio,wakeup=yes", "on or off"],
        ),
        (
            &["--serial", "none,wakeup=on"],
            &["no input", "stdio or a socket"],
        ),
        (&["--qmp", "udp:1:2"], &["--qmp udp:1:2", "unix:PATH"]),
        (&["--gdb", "1234"], &["--gdb 1234", "tcp:HOST:PORT"]),
        (
            &["--gdb", "tcp:1234"],
            &["lacks a host or a port", "tcp:HOST:PORT"],
        ),
        (
            &["--gdb", "stdio"],
            &["--gdb", "tcp:HOST:PORT or unix:PATH"],
        ),
        (
            &["--gdb", "unix:/g,server=off"],
            &["waits for gdb", "tcp:HOST:PORT or unix:PATH"],
        ),
        (&["--gdb", "unix:"], &["lacks the path"]),
        (&["--gdb", "unix:/g,arch=arm"], &["arch", "i386 or x86-64"]),
        (
            &["--qmp", "unix:/tmp/q,serve=on"],
            &["--qmp", "'serve=on'", "server=on or server=off"],
        ),
        (
            &["--serial", "tcp:host:0,server=off"],
            &["--serial", "names no port"],
        ),
        (
            &["--serial", "fd:2"],
            &["--serial fd:2", "is no descriptor"],
        ),
        (&["--debugcon", "stdio"], &["--debugcon stdio", "file:PATH"]),
        (&["--exit-codes", "9"], &["--exit-codes 9", "qemu or cause"]),
        (&["--uuid", "1-2"], &["--uuid 1-2", "xxxxxxxx-xxxx"]),
        (&["--seccomp", "1"], &["--seccomp 1", "on, off or log"]),
        (&["--landlock", "1"], &["--landlock 1", "off or required"]),
        (&["--accel", "tcg"], &["--accel tcg", "kvm,fd=N or qtest"]),
        (&["--accel", "kvm,fd=2"], &["no descriptor", "from 3 on"]),
        (&["--accel", "kvm,3"], &["unknown part", "use kvm,fd=N"]),
        (&["--accel", "qtest,fd=3"], &["is not known"]),
        (
            &["--action", "shutdown=bogus"],
            &[
                "-action shutdown=bogus: Parameter 'shutdown' does not accept value 'bogus'",
                "poweroff or pause",
            ],
        ),
        (
            &["--action", "foo=1"],
            &["-action foo=1: Invalid parameter 'foo'", "reboot, "],
        ),
        (
            &["--action", "reboot"],
            &["--action reboot", "reboot=VALUE"],
        ),
        (&["--kernel"], &["--kernel", "FILE"]),
        (&["--bogus"], &["--bogus", "--help"]),
        (&["-x"], &["-x", "--help"]),
        (&["disk.img"], &["disk.img", "--kernel"]),
        (
            &["--no-reboot=1"],
            &["--no-reboot", "takes no value", "leave it out"],
        ),
        (&["--initrd", "i"], &["--initrd", "add --kernel"]),
        (&["--append", "x"], &["--append", "add --kernel"]),
        (
            &["--firmware", "f", "--append", "x"],
            &["--append", "add --kernel"],
        ),
        (
            &["--serial", "unix:/a", "--qmp", "unix:/a"],
            &["--serial unix:/a: --qmp has it already"],
        ),
        (
            &["--qmp", "tcp::1234", "--qmp", "tcp:127.0.0.1:1234,server"],
            &["--qmp tcp:127.0.0.1:1234: --qmp has it already"],
        ),
        (
            &["--qmp", "fd:3", "--qmp", "fd:3"],
            &["--qmp fd:3: --qmp has it already"],
        ),
        (
            &["--qmp", "stdio", "--serial", "stdio"],
            &["--serial stdio: --qmp has it already"],
        ),
    ] {
        let text = refused(args);
        for part in parts {
            assert!(text.contains(part), "{args:?}: {text:?} lacks {part:?}");
        }
        assert!(
            !text.contains('\n'),
            "{args:?}: more than one line: {text:?}"
        );
    }
}

#[test]
fn several_monitors_and_the_standard_streams_have_one_user() {
    let config = run(&["--qmp", "stdio", "--qmp", "unix:/a", "--qmp", "fd:7"]);
    assert_eq!(config.qmp.len(), 3);
    assert_eq!(config.serial, SerialTarget::Null);
    assert_eq!(config.descriptors().collect::<Vec<_>>(), [7]);
    // Two may connect to one place.
    let twice = ["--qmp", "unix:/a,server=off", "--qmp", "unix:/a,server=off"];
    let config = run(&twice);
    assert_eq!(config.qmp.len(), 2);
    assert_eq!(config.serial, SerialTarget::Stdio);
}

#[test]
fn a_socket_path_that_no_socket_can_have_is_refused() {
    let path = format!("unix:/{}", "x".repeat(107));
    assert!(refused(&["--qmp", &path]).contains("at most 107"));
}

#[test]
fn bytes_that_are_no_text_are_refused_without_panic() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'-', b'-', 0xff]);
    assert!(parse([OsString::from("vmm-bin"), odd.clone()]).is_err());
    assert!(parse(["vmm-bin".into(), "--memory".into(), odd]).is_err());
}

#[test]
fn help_and_version_are_shown() {
    for (arg, part) in [
        ("--help", "EXIT CODES"),
        ("-h", "Ctrl-A x"),
        ("--version", "vmm-bin"),
    ] {
        match parse(["vmm-bin".into(), arg.into()]) {
            Ok(Invocation::Show(text)) => assert!(text.contains(part), "{arg}: {text}"),
            other => panic!("{arg}: {other:?}"),
        }
    }
}
proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(512))]

    #[test]
    fn any_words_are_understood_or_refused_in_one_line(
        words in proptest::collection::vec(word(), 0..6),
    ) {
        let args = std::iter::once("vmm-bin").chain(words.iter().map(String::as_str));
        if let Err(error) = parse(args.map(OsString::from)) {
            let text = error.to_string();
            proptest::prop_assert_eq!(text.lines().count(), 1, "{:?}: {:?}", words, text);
        }
    }
}

/// An option, a value that some option takes, or anything at all.
fn word() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let command = Options::command();
    let longs = command
        .get_arguments()
        .filter_map(|option| option.get_long());
    let longs: Vec<_> = longs.map(|name| format!("--{name}")).collect();
    let values = [
        "unix:/x",
        "tcp:",
        "fd:3",
        "server=off",
        "file:",
        "none",
        "1",
        "1G",
        "reboot=reset",
        "panic=",
        "-S",
        "=",
    ];
    prop_oneof![
        prop::sample::select(longs),
        prop::sample::select(values.to_vec()).prop_map(str::to_owned),
        ".{0,12}",
        "--?[a-z-]{1,12}(=.{0,8})?",
    ]
}

#[test]
fn a_serial_line_has_any_socket() {
    let tcp = |side| Address::Tcp {
        host: "localhost".into(),
        port: 1,
        side,
    };
    for (text, address) in [
        ("tcp:localhost:1", tcp(Side::Server)),
        ("tcp:localhost:1,server=off", tcp(Side::Client)),
        ("fd:5", Address::Descriptor(5)),
    ] {
        let config = run(&["--serial", text]);
        assert_eq!(config.serial, SerialTarget::Socket(address), "{text}");
    }
    let config = run(&["--serial", "fd:5", "--qmp", "fd:6"]);
    assert_eq!(config.descriptors().collect::<Vec<_>>(), [6, 5]);
}

/// A serial line whose clients come through a socket at `path`.
fn serial_socket(path: &str) -> SerialTarget {
    SerialTarget::Socket(Address::Unix {
        path: path.into(),
        side: Side::Server,
    })
}

#[test]
fn a_serial_line_may_wake_the_guest() {
    for (text, wakes) in [
        ("unix:/s", false),
        ("unix:/s,wakeup=on", true),
        ("unix:/s,wakeup=off", false),
    ] {
        let config = run(&["--serial", text]);
        assert_eq!(config.serial, serial_socket("/s"), "{text}");
        assert_eq!(config.serial_wakes, wakes, "{text}");
    }
}

#[test]
fn a_shutdown_timeout_has_a_unit() {
    use std::time::Duration;
    assert_eq!(run(&[]).shutdown_timeout, None);
    let time = |text| run(&["--shutdown-timeout", text]).shutdown_timeout;
    assert_eq!(time("30s"), Some(Duration::from_secs(30)));
    assert_eq!(time("1m 30s"), Some(Duration::from_secs(90)));
    assert_eq!(time("0s"), Some(Duration::ZERO));
    for wrong in [
        "30",
        "",
        "s",
        "-1s",
        "soon",
        "1e9s",
        "99999999999999999999s",
    ] {
        let text = refused(&["--shutdown-timeout", wrong]);
        assert!(
            text.contains("is no time; give a number with its unit, such as 30s"),
            "{text}"
        );
    }
    let text = refused(&["--shutdown-timeout", "25h"]);
    assert!(text.contains("is too long"), "{text}");
}

#[test]
fn a_trace_is_written_or_looked_at() {
    use crate::trace::View;
    assert_eq!(run(&["--trace", "t"]).trace, Some("t".into()));
    let look = |args: &[&str]| {
        let args = ["vmm-bin", "trace"].iter().chain(args);
        match parse(args.map(OsString::from)) {
            Ok(Invocation::Look(look)) => look,
            other => panic!("{other:?}"),
        }
    };
    let shown = look(&["show", "t", "--from", "3"]);
    assert_eq!((shown.view, shown.records), (View::Table, 3..=u64::MAX));
    assert_eq!(look(&["svg", "t"]).view, View::Picture);
    assert_eq!(look(&["check", "t"]).view, View::Check);
    for wrong in [&["trace"][..], &["trace", "paint", "t"], &["trace", "svg"]] {
        assert!(refused(wrong).contains("trace svg FILE"), "{wrong:?}");
    }
    assert!(refused(&["trace", "show", "t", "--to", "x"]).contains("--to"));
}

#[test]
fn gdb_is_waited_for_where_it_was_said() {
    let gdb = |args: &[&str]| run(args).gdb.unwrap();
    let side = Side::Server;
    let tcp = |host: &str, port| Address::Tcp {
        host: host.into(),
        port,
        side,
    };
    assert_eq!(run(&[]).gdb, None);
    assert_eq!(gdb(&["-s"]).address, tcp("127.0.0.1", 1234));
    assert_eq!(gdb(&["-gdb", "tcp::1"]).address, tcp("127.0.0.1", 1));
    assert_eq!(gdb(&["--gdb", "tcp:[::1]:0"]).address, tcp("::1", 0));
    let path = "/tmp/g".into();
    let unix = Address::Unix { path, side };
    assert_eq!(gdb(&["-s", "--gdb", "unix:/tmp/g"]).address, unix);
    // What the guest is, unless it is said.
    assert_eq!(gdb(&["-s"]).description, Description::I386);
    let kernel = gdb(&["-s", "--kernel", "k"]);
    assert_eq!(kernel.description, Description::X86_64);
    let told = gdb(&["--gdb", "tcp::1,arch=i386", "--kernel", "k"]);
    assert_eq!(told.description, Description::I386);
    let told = gdb(&["--gdb", "unix:/tmp/g,arch=x86-64"]);
    assert_eq!(
        (told.address, told.description),
        (unix, Description::X86_64)
    );
    let both = refused(&["--gdb", "unix:/a", "--qmp", "unix:/a"]);
    assert!(both.contains("--qmp has it already"), "{both}");
    assert!(refused(&["-s", "--accel", "qtest"]).contains("executes nothing"));
}
