//! The command line: from what a person typed to a [`Config`], or to one line that says what is
//! wrong and what would be right.
//!
//! The words are QEMU's where QEMU has one, and a single dash does as well (`-no-reboot`).
//!
//! The rule that must never be broken: nothing is opened, made or changed here.

mod actions;
mod error;
mod help;
mod options;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use lifecycle::Actions;

pub(crate) use error::UsageError;
use options::Options;

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Print this text and end well.
    Show(String),
    /// Run a VM.
    Run(Box<Config>),
}

/// What the guest is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// The one that is part of this program.
    Embedded,
    /// A kernel.
    Kernel {
        /// bzImage or ELF.
        image: PathBuf,
        /// Its initial RAM disk.
        initrd: Option<PathBuf>,
        /// Its command line.
        append: String,
    },
    /// A flat firmware image.
    Firmware(PathBuf),
}

/// What is at the other end of the serial line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SerialTarget {
    /// Standard input and output.
    Stdio,
    /// A socket at this path, for one client at a time.
    Unix(PathBuf),
    /// A file at this path.
    File(PathBuf),
    /// Nothing.
    Null,
}

/// What the program's exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// What QEMU's does: 0 for every orderly end.
    Qemu,
    /// Why the VM ended: each cause has its own.
    Cause,
}

/// A VM, as the command line describes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The VM's name, if it has one.
    pub(crate) name: Option<String>,
    /// The VM's UUID, in lower case, if it has one.
    pub(crate) uuid: Option<String>,
    /// What runs in it.
    pub(crate) guest: Guest,
    /// Its memory, in bytes.
    pub(crate) memory: u64,
    /// How many vCPUs it has, 1 to 254.
    pub(crate) cpus: u8,
    /// Its serial line.
    pub(crate) serial: SerialTarget,
    /// The file behind the firmware's debug console.
    pub(crate) debugcon: Option<PathBuf>,
    /// The monitor's socket.
    pub(crate) qmp: Option<PathBuf>,
    /// What to do when the guest reboots, powers off, panics.
    pub(crate) actions: Actions,
    /// Start at once; otherwise wait for the monitor's `cont`.
    pub(crate) autostart: bool,
    /// What the exit code tells.
    pub(crate) exit_codes: ExitCodes,
    /// Where the process number goes.
    pub(crate) pidfile: Option<PathBuf>,
}

/// Reads the command line; `args` begins with the program's name.
///
/// # Errors
/// When it cannot be understood, or contradicts itself.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let command = Options::command()
        .after_long_help(help::AFTER)
        .after_help(help::AFTER);
    let args = options::with_two_dashes(&command, args);
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Invocation::Show(error.to_string()))
                }
                _ => Err(UsageError::from_clap(&error)),
            };
        }
    };
    let options = Options::from_arg_matches(&matches).map_err(|e| UsageError::from_clap(&e))?;
    let actions = actions::actions(&matches)?;
    Ok(Invocation::Run(Box::new(config(options, actions)?)))
}

fn config(options: Options, actions: Actions) -> Result<Config, UsageError> {
    let config = Config {
        name: options.name.clone(),
        uuid: options.uuid.as_deref().map(values::uuid).transpose()?,
        memory: values::memory(&options.memory)?,
        cpus: values::cpus(&options.cpus)?,
        serial: values::serial(&options.serial)?,
        debugcon: options
            .debugcon
            .as_deref()
            .map(values::debugcon)
            .transpose()?,
        qmp: options.qmp.as_deref().map(values::qmp).transpose()?,
        actions,
        autostart: !options.stopped,
        exit_codes: values::exit_codes(&options.exit_codes)?,
        pidfile: options.pidfile.clone(),
        guest: guest(options)?,
    };
    if let (SerialTarget::Unix(serial), Some(qmp)) = (&config.serial, &config.qmp)
        && serial == qmp
    {
        return Err(UsageError::contradiction(
            "--serial and --qmp name the same socket",
            "give each its own path",
        ));
    }
    Ok(config)
}

fn guest(options: Options) -> Result<Guest, UsageError> {
    match (options.kernel, options.firmware) {
        (Some(_), Some(_)) => Err(UsageError::contradiction(
            "--kernel and --firmware exclude each other",
            "give the one that the guest is to start from",
        )),
        (Some(image), None) => Ok(Guest::Kernel {
            image,
            initrd: options.initrd,
            append: options.append.unwrap_or_default(),
        }),
        (None, _) if options.initrd.is_some() => Err(UsageError::contradiction(
            "--initrd is for a kernel, and there is none",
            "add --kernel FILE",
        )),
        (None, _) if options.append.is_some() => Err(UsageError::contradiction(
            "--append is for a kernel, and there is none",
            "add --kernel FILE",
        )),
        (None, Some(firmware)) => Ok(Guest::Firmware(firmware)),
        (None, None) => Ok(Guest::Embedded),
    }
}

#[cfg(test)]
mod tests {
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
        ]);
        assert_eq!(
            config.guest,
            Guest::Kernel {
                image: "k".into(),
                initrd: Some("i".into()),
                append: "-- console=ttyS0".into()
            }
        );
        assert_eq!((config.memory, config.cpus), (1 << 30, 2));
        assert_eq!(config.serial, SerialTarget::Unix("/tmp/s".into()));
        assert_eq!(config.qmp, Some("/tmp/q".into()));
        assert_eq!(config.name.as_deref(), Some("n"));
        assert_eq!(
            config.uuid.as_deref(),
            Some("01234567-89ab-cdef-0123-456789abcdef")
        );
        assert_eq!(config.pidfile, Some("p".into()));
        assert_eq!(config.debugcon, Some("d".into()));
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
            (&["--cpus", "0"], &["--cpus 0", "1 to 254"]),
            (&["--cpus", "two"], &["--cpus two", "1 to 254"]),
            (&["--cpus", "-1"], &["--cpus -1", "1 to 254"]),
            (
                &["--serial", "pty"],
                &["--serial pty", "stdio, unix:PATH, file:PATH or none"],
            ),
            (&["--serial", "unix:"], &["--serial unix:", "unix:PATH"]),
            (&["--qmp", "tcp:1:2"], &["--qmp tcp:1:2", "unix:PATH"]),
            (
                &["--qmp", "unix:/tmp/q,server=on,wait=off"],
                &["--qmp", "path alone"],
            ),
            (&["--debugcon", "stdio"], &["--debugcon stdio", "file:PATH"]),
            (&["--exit-codes", "9"], &["--exit-codes 9", "qemu or cause"]),
            (&["--uuid", "1-2"], &["--uuid 1-2", "xxxxxxxx-xxxx"]),
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
            (
                &["--kernel", "k", "--firmware", "f"],
                &["--kernel", "--firmware", "exclude"],
            ),
            (&["--initrd", "i"], &["--initrd", "add --kernel"]),
            (&["--append", "x"], &["--append", "add --kernel"]),
            (
                &["--firmware", "f", "--append", "x"],
                &["--append", "add --kernel"],
            ),
            (
                &["--serial", "unix:/a", "--qmp", "unix:/a"],
                &["--serial and --qmp"],
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
}
