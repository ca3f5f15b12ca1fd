//! The command line: from what a person typed to a [`Config`], or to one line that says what is
//! wrong and what would be right.
//!
//! The words are QEMU's where QEMU has one, and a single dash does as well (`-no-reboot`).
//!
//! The rule that must never be broken: nothing is opened, made or changed here.

mod actions;
mod address;
mod claims;
mod cpu;
mod error;
mod help;
mod options;
mod pvpanic;
mod rtc;
mod trace;
mod values;
mod watchdog;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use lifecycle::Actions;

use crate::gdb::Description;
use crate::trace::Look;
pub(crate) use address::{Address, Side};
use claims::Claims;
pub(crate) use error::UsageError;
use options::Options;

use crate::platform::{Backing, CpuFeatures, RtcTime, Watchdogs};

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Print this text and end well.
    Show(String),
    /// Look at a trace.
    Look(Look),
    /// Run a VM.
    Run(Box<Config>),
}

/// The names of all options, without dashes.
pub(crate) fn option_names() -> Vec<String> {
    let command = Options::command();
    let names = command.get_arguments().filter_map(|option| {
        let short = || option.get_short().map(String::from);
        option.get_long().map(str::to_owned).or_else(short)
    });
    names.collect()
}

/// What the guest is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Guest {
    /// The one that is part of this program.
    Embedded,
    /// A kernel.
    Kernel {
        /// The firmware that boots it, if not the VMM itself.
        firmware: Option<PathBuf>,
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

/// What executes the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    /// KVM.
    Kvm,
    /// Nothing: a test client plays the guest.
    Qtest,
}

/// What is at the other end of the serial line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SerialTarget {
    /// Standard input and output.
    Stdio,
    /// Standard input and output, and the human monitor is there too.
    StdioWithMonitor,
    /// A socket, for one client at a time.
    Socket(Address),
    /// A file at this path.
    File(PathBuf),
    /// Nothing.
    Null,
}

impl SerialTarget {
    /// What it uses, if others could want it too.
    fn address(&self) -> Option<Address> {
        match self {
            Self::Stdio | Self::StdioWithMonitor => Some(Address::Stdio),
            Self::Socket(address) => Some(address.clone()),
            Self::File(_) | Self::Null => None,
        }
    }
}

impl Config {
    /// The VM's UUID as it is spelled, a byte for two digits; zeroes if it has none.
    pub(crate) fn uuid_bytes(&self) -> [u8; 16] {
        let digits = self.uuid.as_deref().map(|uuid| uuid.replace('-', ""));
        let number = digits.and_then(|digits| u128::from_str_radix(&digits, 16).ok());
        number.unwrap_or_default().to_be_bytes()
    }

    /// The descriptors that the program was started with and uses.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = i32> {
        let streams = self.addresses().filter_map(|address| match address {
            Address::Descriptor(number) => Some(*number),
            _ => None,
        });
        streams.chain(self.kvm_descriptor)
    }

    /// Where streams come from.
    fn addresses(&self) -> impl Iterator<Item = &Address> {
        let serial = match &self.serial {
            SerialTarget::Socket(address) => Some(address),
            _ => None,
        };
        let clients = self.qmp.iter().chain(&self.monitor).chain(&self.qtest);
        let gdb = self.gdb.as_ref().map(|gdb| &gdb.address);
        clients.chain(serial).chain(gdb)
    }

    /// The files that the program makes and takes away again.
    pub(crate) fn own_files(&self) -> impl Iterator<Item = &Path> {
        let sockets = self.addresses().filter_map(|address| match address {
            Address::Unix {
                path,
                side: Side::Server,
            } => Some(path),
            _ => None,
        });
        let files = sockets.chain(&self.pidfile);
        files.map(PathBuf::as_path)
    }

    /// Whether anybody may command the VM.
    pub(crate) fn has_monitor(&self) -> bool {
        let console = self.serial == SerialTarget::StdioWithMonitor;
        console || !self.qmp.is_empty() || !self.monitor.is_empty()
    }
}

/// What the program's exit code tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCodes {
    /// What QEMU's does: 0 for every orderly end.
    Qemu,
    /// Why the VM ended: each cause has its own.
    Cause,
}

/// What is done about system calls that a thread has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seccomp {
    /// They end the program.
    On,
    /// Nothing.
    Off,
    /// The kernel logs them.
    Log,
}

/// What is done about files, network, devices and processes that a thread has no use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landlock {
    /// They are out of reach, as far as the kernel can do that.
    On,
    /// Nothing.
    Off,
    /// They are out of reach, or the VM is not started.
    Required,
}

/// A gdb stub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gdb {
    /// Where gdb connects to.
    pub(crate) address: Address,
    /// What it is told that the guest is.
    pub(crate) description: Description,
}

/// A VM, as the command line describes it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The VM's name, if it has one.
    pub(crate) name: Option<String>,
    /// The VM's UUID, in lower case, if it has one.
    pub(crate) uuid: Option<String>,
    /// What executes it.
    pub(crate) accel: Accel,
    /// The descriptor of KVM's device, if who starts the program has opened it.
    pub(crate) kvm_descriptor: Option<i32>,
    /// What runs in it.
    pub(crate) guest: Guest,
    /// Its memory, in bytes.
    pub(crate) memory: u64,
    /// Where the memory comes from.
    pub(crate) backing: Backing,
    /// How many vCPUs it has, 1 to 254.
    pub(crate) cpus: u8,
    /// What they have besides.
    pub(crate) features: CpuFeatures,
    /// The time that its real-time clock keeps.
    pub(crate) rtc: RtcTime,
    /// Its watchdogs.
    pub(crate) watchdogs: Watchdogs,
    /// What pvpanic tells the guest that it is for.
    pub(crate) pvpanic_events: u8,
    /// Its serial line.
    pub(crate) serial: SerialTarget,
    /// Whether a byte from its other end wakes a guest that sleeps.
    pub(crate) serial_wakes: bool,
    /// The file behind the firmware's debug console.
    pub(crate) debugcon: Option<PathBuf>,
    /// Where the monitor's clients come from.
    pub(crate) qmp: Vec<Address>,
    /// Where people come to the human monitor from.
    pub(crate) monitor: Vec<Address>,
    /// Where the test client is that plays the guest.
    pub(crate) qtest: Option<Address>,
    /// The gdb stub.
    pub(crate) gdb: Option<Gdb>,
    /// What to do when the guest reboots, powers off, panics.
    pub(crate) actions: Actions,
    /// Start at once; otherwise wait for the monitor's `cont`.
    pub(crate) autostart: bool,
    /// What the exit code tells.
    pub(crate) exit_codes: ExitCodes,
    /// Where the process number goes.
    pub(crate) pidfile: Option<PathBuf>,
    /// The filters of system calls.
    pub(crate) seccomp: Seccomp,
    /// The restrictions to files, network, devices and processes.
    pub(crate) landlock: Landlock,
    /// How long a guest that SIGTERM is to end may take to power off. `None`: it is not asked.
    pub(crate) shutdown_timeout: Option<Duration>,
    /// Where the lifecycle's trace goes.
    pub(crate) trace: Option<PathBuf>,
    /// Where dumps of the guest's memory may go.
    pub(crate) dump_dir: Option<PathBuf>,
}

/// Reads the command line; `args` begins with the program's name.
///
/// # Errors
/// When it cannot be understood, or contradicts itself.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let mut args = args.into_iter().peekable();
    let program = args.next();
    if args.next_if(|word| word == "trace").is_some() {
        return Ok(match trace::parse(args)? {
            trace::Asked::Help(text) => Invocation::Show(text),
            trace::Asked::Look(look) => Invocation::Look(look),
        });
    }
    let args = program.into_iter().chain(args);
    let command = Options::command();
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
    let mut claims = Claims::default();
    let (accel, kvm_descriptor) = values::accel(&options.accel)?;
    if let Some(number) = kvm_descriptor {
        claims.note("--accel kvm", &Address::Descriptor(number))?;
    }
    let mut addresses = |option: &'static str, values: &[String], side| {
        let address = |value: &String| {
            let address = Address::parse(option, value, side)?;
            claims.note(option, &address)?;
            Ok(address)
        };
        values.iter().map(address).collect::<Result<Vec<_>, _>>()
    };
    let qmp = addresses("--qmp", &options.qmp, Side::Server)?;
    let people = options.monitor.iter().filter(|text| *text != "none");
    let people: Vec<_> = people.cloned().collect();
    let monitor = addresses("--monitor", &people, Side::Server)?;
    // Test clients listen and have the program connect.
    let qtest = addresses("--qtest", options.qtest.as_slice(), Side::Client)?.pop();
    values::check_qtest(accel, qtest.as_ref())?;
    let gdb = gdb(&options)?;
    if let Some(gdb) = &gdb {
        claims.note("--gdb", &gdb.address)?;
    }
    let (serial, serial_wakes) = match &options.serial {
        Some(text) => values::serial_line(text)?,
        // The standard streams are somebody else's.
        None if claims.stdio() => (SerialTarget::Null, false),
        None => (SerialTarget::Stdio, false),
    };
    if let Some(address) = serial.address() {
        claims.note("--serial", &address)?;
    }
    let (memory, backing) = values::memory(&options.memory)?;
    Ok(Config {
        name: options.name.clone(),
        uuid: options.uuid.as_deref().map(values::uuid).transpose()?,
        accel,
        kvm_descriptor,
        memory,
        backing,
        cpus: values::cpus(&options.cpus)?,
        features: cpu::features(options.cpu.as_deref(), accel)?,
        rtc: rtc::rtc(&options.rtc)?,
        watchdogs: watchdog::watchdogs(&options.watchdog)?,
        pvpanic_events: pvpanic::events(&options.pvpanic)?,
        serial,
        serial_wakes,
        debugcon: options
            .debugcon
            .as_deref()
            .map(values::debugcon)
            .transpose()?,
        qmp,
        monitor,
        qtest,
        gdb,
        actions,
        autostart: !options.stopped,
        exit_codes: values::exit_codes(&options.exit_codes)?,
        pidfile: options.pidfile.clone(),
        seccomp: values::seccomp(&options.seccomp)?,
        landlock: values::landlock(&options.landlock)?,
        shutdown_timeout: options
            .shutdown_timeout
            .as_deref()
            .map(values::shutdown_timeout)
            .transpose()?,
        trace: options.trace.clone(),
        dump_dir: options.dump_dir.clone(),
        guest: guest(options)?,
    })
}

/// `--gdb`, or `-s`, which is short for it.
fn gdb(options: &Options) -> Result<Option<Gdb>, UsageError> {
    let given = match (&options.gdb, options.gdb_here) {
        (Some(given), _) => given,
        (None, true) => "tcp:127.0.0.1:1234",
        (None, false) => return Ok(None),
    };
    if values::accel(&options.accel)?.0 == Accel::Qtest {
        return Err(UsageError::contradiction(
            "--gdb is for a guest that runs, and --accel qtest executes nothing",
            "leave one of them out",
        ));
    }
    // The guest that is part of this program never leaves 16-bit code.
    let embedded = options.kernel.is_none() && options.firmware.is_none();
    values::gdb(given, embedded).map(Some)
}

fn guest(options: Options) -> Result<Guest, UsageError> {
    match (options.kernel, options.firmware) {
        (Some(image), firmware) => Ok(Guest::Kernel {
            firmware,
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
mod tests;
