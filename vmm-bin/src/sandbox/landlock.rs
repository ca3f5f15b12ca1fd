//! What the threads may do to files, the network, devices and other processes, whatever system
//! call they find for it: Landlock.
//!
//! | | main loop | vCPUs, writer | dumper |
//! |---|---|---|---|
//! | own sockets and PID file | removed, in the directories where they are | no | no |
//! | files beneath the directory for dumps ([`Paths::allow_beneath`]) | no | no | made, read, written, removed |
//! | any other path | no | no | no |
//! | TCP and UDP: bind, connect; Unix sockets: connect | no | no | no |
//! | ioctl of a device that is opened from here on | no | no | no |
//! | signals to other processes | no | no | no |
//!
//! What is open stays usable: Landlock looks when something is opened, not when it is used. What a
//! kernel does not know yet it does not restrict, and the rest counts all the same.
//!
//! The rule that must never be broken: nothing is allowed because it was easier than to open it
//! before.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Erratum, LandlockStatus, PathBeneath, PathFd,
    PathFdError, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, Scope, make_bitflags,
};

use crate::cli::Landlock;

/// What takes a file away: the sockets are renamed in their directory before they are removed.
const REMOVE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{RemoveFile | MakeSock});

/// What it takes to make plain files and write them, and to remove one that was not finished.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadDir | ReadFile | WriteFile | Truncate | MakeReg | RemoveFile
});

/// Why the threads are not restricted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The kernel lacks something, and the user wants all of it.
    #[error(
        "--landlock required: this kernel's Landlock ({}) does not restrict {}; \
         Linux 6.15 does, and --landlock on takes what there is",
        version(*abi),
        names(missing)
    )]
    Missing {
        /// The version of its interface; 0 if it has none.
        abi: i32,
        /// What is not restricted.
        missing: Vec<Restriction>,
    },
    /// The kernel has it, and refuses.
    #[error("--landlock: {0}; --landlock off does without")]
    Refused(#[from] RulesetError),
    /// A directory that is still needed is not there.
    #[error("--landlock: {0}; --landlock off does without")]
    Directory(#[from] PathFdError),
    /// There is no descriptor left.
    #[error("--landlock: cannot make a file descriptor: {0}; see `ulimit -n`")]
    Descriptors(#[from] std::io::Error),
}

monitor::qapi! {
    /// Something that Landlock keeps a thread from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
    pub(crate) enum Restriction {
        /// Files are opened, made, removed and renamed only as the table above says.
        Files,
        /// No file is cut off by its path.
        Truncation,
        /// No TCP port is bound, none connected to.
        Tcp,
        /// A device that is opened anew understands next to no ioctl.
        DeviceRequests,
        /// No abstract Unix socket of another process is connected to.
        AbstractSockets,
        /// No signal is sent to another process.
        Signals,
        /// No Unix socket is connected to by its path.
        UnixSockets,
        /// No UDP port is bound, none connected or sent to.
        Udp,
    }
}

/// What there is, in words, and since which version of the interface.
const SINCE: [(Restriction, &str, ABI); 8] = [
    (Restriction::Files, "files", ABI::V1),
    (Restriction::Truncation, "truncation", ABI::V3),
    (Restriction::Tcp, "TCP", ABI::V4),
    (Restriction::DeviceRequests, "requests to devices", ABI::V5),
    (Restriction::AbstractSockets, "abstract sockets", ABI::V6),
    (Restriction::Signals, "signals", ABI::V6),
    (Restriction::UnixSockets, "Unix sockets", ABI::V9),
    (Restriction::Udp, "UDP", ABI::V10),
];

/// What `--landlock required` does not do without: what Linux 6.15 has.
const REQUIRED: ABI = ABI::V7;

/// The newest version that is known here: what it has is asked for, and what the kernel lacks of it
/// is left out.
const NEWEST: ABI = ABI::V10;

/// What the file system is still for once all is set up.
#[derive(Debug, Default)]
pub(crate) struct Paths<'a> {
    /// Where files are removed.
    removed: BTreeSet<&'a Path>,
    /// Where files are written.
    written: Vec<BorrowedFd<'a>>,
}

impl<'a> Paths<'a> {
    /// The program removes `file` at its end. With it goes the right to remove any other file in or
    /// below its directory: Landlock knows directories only.
    pub(crate) fn allow_removal(&mut self, file: &'a Path) {
        let parent = file.parent().filter(|path| !path.as_os_str().is_empty());
        self.removed.insert(parent.unwrap_or(Path::new(".")));
    }

    /// The thread makes, writes, reads and removes plain files in this directory and below it,
    /// by whatever path, as far as its filter of system calls lets it open any.
    pub(crate) fn allow_beneath(&mut self, directory: BorrowedFd<'a>) {
        self.written.push(directory);
    }
}

/// How much of it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Achieved {
    /// The version of the kernel's interface; 0 if it has none, or is not asked.
    pub(crate) abi: i32,
    /// What is restricted.
    pub(crate) restricts: Vec<Restriction>,
}

impl Achieved {
    /// Nothing is restricted.
    const NOTHING: Self = Self {
        abi: 0,
        restricts: Vec::new(),
    };

    fn of(status: &RestrictionStatus, signals: bool) -> Self {
        match status.landlock {
            LandlockStatus::Available {
                effective_abi,
                kernel_abi,
            } => Self {
                abi: kernel_abi.unwrap_or(effective_abi as i32),
                restricts: restrictions(effective_abi, signals),
            },
            LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => Self::NOTHING,
        }
    }

    /// What is missing from what Linux 6.15 has.
    fn missing(&self) -> Vec<Restriction> {
        let mut missing = restrictions(REQUIRED, true);
        missing.retain(|restriction| !self.restricts.contains(restriction));
        missing
    }
}

impl std::fmt::Display for Achieved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.restricts.as_slice() {
            [] => write!(f, "{}", version(self.abi)),
            restricts => write!(f, "{}: {}", version(self.abi), names(restricts)),
        }
    }
}

/// What a kernel with this interface restricts.
fn restrictions(abi: ABI, signals: bool) -> Vec<Restriction> {
    let there = SINCE.iter().filter(|(restriction, _, since)| {
        *since <= abi && (*restriction != Restriction::Signals || signals)
    });
    there.map(|(restriction, ..)| *restriction).collect()
}

/// Whether threads that are restricted one by one can still signal each other. The first kernels
/// that restrict signals take two of them for strangers, and no vCPU could be kicked.
fn signals_can_be_restricted() -> bool {
    Erratum::current().contains(Erratum::ScopedSignalHandling)
}

/// The rules of one kind of thread, to be put on each of them.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Option<RulesetCreated>,
    signals: bool,
}

impl Rules {
    /// Rules that allow only these paths.
    ///
    /// # Errors
    /// What the kernel says, if it has Landlock.
    pub(crate) fn new(mode: Landlock, paths: &Paths<'_>) -> Result<Self, Error> {
        if mode == Landlock::Off {
            return Ok(Self {
                rules: None,
                signals: false,
            });
        }
        let mut ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::AbstractUnixSocket)?;
        let signals = signals_can_be_restricted();
        if signals {
            ruleset = ruleset.scope(Scope::Signal)?;
        }
        let mut rules = ruleset.create()?;
        for directory in &paths.removed {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(directory)?, REMOVE))?;
        }
        for directory in &paths.written {
            rules = rules.add_rule(PathBeneath::new(directory, WRITE))?;
        }
        Ok(Self {
            rules: Some(rules),
            signals,
        })
    }

    /// Restricts the calling thread for ever, and the threads that it starts.
    ///
    /// # Errors
    /// What the kernel says, if it has Landlock.
    pub(crate) fn restrict_thread(&self) -> Result<Achieved, Error> {
        let Some(rules) = &self.rules else {
            return Ok(Achieved::NOTHING);
        };
        let status = rules.try_clone()?.restrict_self()?;
        Ok(Achieved::of(&status, self.signals))
    }
}

/// Refuses what was achieved, if that is not what the user requires.
///
/// # Errors
/// [`Error::Missing`].
pub(crate) fn check(mode: Landlock, achieved: &Achieved) -> Result<(), Error> {
    let missing = achieved.missing();
    if mode != Landlock::Required || missing.is_empty() {
        return Ok(());
    }
    let abi = achieved.abi;
    Err(Error::Missing { abi, missing })
}

fn version(abi: i32) -> String {
    match abi {
        0 => "none".to_owned(),
        abi => format!("ABI {abi}"),
    }
}

fn names(restrictions: &[Restriction]) -> String {
    let named = SINCE.iter().filter(|(it, ..)| restrictions.contains(it));
    let names: Vec<_> = named.map(|(_, name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests;
