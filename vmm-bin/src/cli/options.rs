//! The options, as `clap` knows them. Their values are still text: `values` reads them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::{Command, Parser};

use super::help;

/// The options.
#[derive(Debug, Parser)]
#[command(
    name = "vmm-bin",
    version,
    about = help::ABOUT,
    long_about = None,
    after_help = help::AFTER,
    args_override_self = true,
    disable_help_subcommand = true
)]
pub(super) struct Options {
    /// Start this kernel: bzImage, or ELF (vmlinux, PVH)
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub(super) kernel: Option<PathBuf>,
    /// Give the kernel this initial RAM disk
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub(super) initrd: Option<PathBuf>,
    /// Give the kernel this command line
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Guest"
    )]
    pub(super) append: Option<String>,
    /// Start this flat firmware image; with --kernel, it is to boot that (qboot)
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub(super) firmware: Option<PathBuf>,

    /// What executes the guest: kvm, which with ,fd=N is open already as descriptor N; or qtest,
    /// which is nothing: its virtual time stands, and a test client plays the guest
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "kvm",
        help_heading = "Machine"
    )]
    pub(super) accel: String,
    /// Memory: MiB, or a number with K, M or G; with ,shared=on in a memory file that others can
    /// map, with ,hugepages=on in one of 2 MiB pages that the host has set aside
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "256M",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub(super) memory: String,
    /// Number of vCPUs, 1 to 254
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        allow_hyphen_values = true,
        help_heading = "Machine"
    )]
    pub(super) cpus: String,
    /// What the processors have besides: hv-crash=on (Hyper-V's guest crash registers)
    #[arg(long, value_name = "FEATURE=on|off,...", help_heading = "Machine")]
    pub(super) cpu: Option<String>,
    /// Real-time clock: clock=host (goes on while the VM is stopped) or clock=vm (stands with it);
    /// base=utc (the host's time), base=localtime (in its time zone) or a date and time in UTC that it
    /// begins with
    #[arg(
        long,
        value_name = "clock=WHICH,base=TIME",
        default_value = "clock=host",
        help_heading = "Machine"
    )]
    pub(super) rtc: String,
    /// Watchdog (repeatable): ib700 (the default; I/O ports 0x441 to 0x444),
    /// wdat (described by an ACPI table) or none
    #[arg(
        long,
        value_name = "WHICH",
        action = clap::ArgAction::Append,
        verbatim_doc_comment,
        help_heading = "Machine"
    )]
    pub(super) watchdog: Vec<String>,
    /// What pvpanic tells the guest that it can say: events=MASK,
    /// the sum of 1 (panicked), 2 (crash loaded) and 4 (shutdown)
    #[arg(
        long,
        value_name = "events=MASK",
        default_value_t = super::pvpanic::default(),
        verbatim_doc_comment,
        help_heading = "Machine"
    )]
    pub(super) pvpanic: String,
    /// Serial console: stdio (the default, unless the monitor has it), unix:PATH,
    /// tcp:HOST:PORT, fd:N, file:PATH, none, or mon:stdio (the human monitor is
    /// there too: Ctrl-A c); a socket with ,server=off connects;
    /// with ,wakeup=on a key wakes the guest
    #[arg(
        long,
        value_name = "WHERE",
        verbatim_doc_comment,
        help_heading = "Machine"
    )]
    pub(super) serial: Option<String>,
    /// Firmware debug console (port 0x402): file:PATH
    #[arg(long, value_name = "WHERE", help_heading = "Machine")]
    pub(super) debugcon: Option<String>,
    /// Name of the VM, for the monitor
    #[arg(long, value_name = "NAME", help_heading = "Machine")]
    pub(super) name: Option<String>,
    /// UUID of the VM, for the monitor
    #[arg(long, value_name = "UUID", help_heading = "Machine")]
    pub(super) uuid: Option<String>,

    /// Serve the monitor protocol (QMP), repeatable: unix:PATH, tcp:HOST:PORT,
    /// fd:N (a socket, connected or listening) or stdio; with ,server=off it connects
    #[arg(
        long,
        value_name = "WHERE",
        action = clap::ArgAction::Append,
        verbatim_doc_comment,
        help_heading = "Lifecycle"
    )]
    pub(super) qmp: Vec<String>,
    /// The monitor for people, repeatable: as --qmp, or none; one person at a time
    #[arg(
        long,
        value_name = "WHERE",
        action = clap::ArgAction::Append,
        help_heading = "Lifecycle"
    )]
    pub(super) monitor: Vec<String>,
    /// With --accel qtest: let a test client play the guest, by QEMU's qtest protocol; WHERE as for
    /// --qmp, but server=off (connect) unless given
    #[arg(long, value_name = "WHERE", help_heading = "Lifecycle")]
    pub(super) qtest: Option<String>,
    /// Wait for gdb: tcp:HOST:PORT or unix:PATH; with ,arch=i386 gdb sees a 16- or 32-bit guest
    #[arg(long, value_name = "WHERE", help_heading = "Lifecycle")]
    pub(super) gdb: Option<String>,
    /// The same as --gdb tcp:127.0.0.1:1234
    #[arg(short = 's', help_heading = "Lifecycle")]
    pub(super) gdb_here: bool,
    /// Do not start the guest; the monitor's `cont` does
    #[arg(short = 'S', help_heading = "Lifecycle")]
    pub(super) stopped: bool,
    /// What to do when something happens (repeatable, later ones win):
    /// reboot=reset|shutdown, shutdown=poweroff|pause,
    /// panic=pause|shutdown|exit-failure|none,
    /// watchdog=reset|shutdown|poweroff|pause|debug|none|inject-nmi
    #[arg(
        long,
        value_name = "EVENT=ACTION,...",
        action = clap::ArgAction::Append,
        verbatim_doc_comment,
        help_heading = "Lifecycle"
    )]
    pub(super) action: Vec<String>,
    /// The same as --action reboot=shutdown
    #[arg(long, help_heading = "Lifecycle")]
    pub(super) no_reboot: bool,
    /// The same as --action shutdown=pause
    #[arg(long, help_heading = "Lifecycle")]
    pub(super) no_shutdown: bool,
    /// Which exit codes to end with, see below: qemu or cause
    #[arg(
        long,
        value_name = "WHICH",
        default_value = "qemu",
        help_heading = "Lifecycle"
    )]
    pub(super) exit_codes: String,
    /// Write the process number to this file while the VM runs
    #[arg(long, value_name = "FILE", help_heading = "Lifecycle")]
    pub(super) pidfile: Option<PathBuf>,
    /// On SIGTERM, press the power button and give the guest this long (30s, 2m) before the VM is ended
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        help_heading = "Lifecycle"
    )]
    pub(super) shutdown_timeout: Option<String>,
    /// Write the lifecycle's trace to this file, at most 64 MiB; `vmm-bin trace --help` looks at it
    #[arg(long, value_name = "FILE", help_heading = "Lifecycle")]
    pub(super) trace: Option<PathBuf>,
    /// Allow the monitor's `dump-guest-memory` to write files below this directory
    #[arg(long, value_name = "DIR", help_heading = "Lifecycle")]
    pub(super) dump_dir: Option<PathBuf>,

    /// What a system call that its thread has no use for does:
    /// end the program (on), nothing (off), a line in the kernel's log (log)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "on",
        verbatim_doc_comment,
        help_heading = "Sandbox"
    )]
    pub(super) seccomp: String,
    /// Files, ports, devices and processes that a thread has no use for are out of its reach:
    /// as far as the kernel can do that (on), or else the VM is not started (required); or not (off)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "on",
        verbatim_doc_comment,
        help_heading = "Sandbox"
    )]
    pub(super) landlock: String,
}

/// Gives every long option that came with one dash, as QEMU's users write it, its second one.
pub(super) fn with_two_dashes(
    command: &Command,
    args: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    let mut is_value = false;
    args.into_iter()
        .map(|arg| {
            if std::mem::take(&mut is_value) {
                return arg;
            }
            let Some(text) = arg.to_str().filter(|text| text.starts_with('-')) else {
                return arg;
            };
            let bare = text.trim_start_matches('-');
            let (name, value) = bare
                .split_once('=')
                .map_or((bare, None), |(n, v)| (n, Some(v)));
            let known = |option: &clap::Arg| option.get_long() == Some(name);
            let Some(option) = command.get_arguments().find(|option| known(option)) else {
                return arg;
            };
            is_value = option.get_action().takes_values() && value.is_none();
            let mut long = OsStr::new("--").to_owned();
            long.push(bare);
            long
        })
        .collect()
}
