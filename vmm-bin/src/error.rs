//! Why a VM could not be run. Each text is one line that says what was wrong and what would do.

use std::io;
use std::path::PathBuf;

use crate::{endpoint, main_loop, pidfile, platform, sandbox};

/// Why a VM could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// A file descriptor could not be made.
    #[error("cannot make a file descriptor: {0}; see `ulimit -n`")]
    Descriptors(io::Error),
    /// Signal handlers could not be installed.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
    /// The PID file is somebody else's, or cannot be written.
    #[error(transparent)]
    PidFile(#[from] pidfile::Error),
    /// A socket cannot be bound.
    #[error("{option}: {source}")]
    Socket {
        /// The option that names it.
        option: &'static str,
        /// Why not.
        source: monitor::Error,
    },
    /// A stream cannot be had.
    #[error("{option}: {source}")]
    Endpoint {
        /// The option that names it.
        option: &'static str,
        /// Why not.
        source: endpoint::Error,
    },
    /// A socket cannot be served.
    #[error("{option}: cannot serve the socket: {source}")]
    Listener {
        /// The option that names it.
        option: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A file for the guest's output cannot be opened.
    #[error("{option} file:{}: {source}; give a path that can be written", path.display())]
    OutputFile {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The trace cannot be written.
    #[error("--trace {}: {source}; give a path for a plain file", path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Dumps cannot go there.
    #[error("--dump-dir {}: {source}; give a directory", path.display())]
    DumpDirectory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The test client's stream cannot be served.
    #[error("--qtest: cannot serve the client: {0}; see `ulimit -n`")]
    Qtest(io::Error),
    /// The terminal cannot be made raw.
    #[error("cannot set up the terminal: {0}; try --serial with a socket or a file")]
    Terminal(io::Error),
    /// The machine cannot be built.
    #[error(transparent)]
    Machine(#[from] platform::Error),
    /// The system calls cannot be filtered.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The guest cannot be started.
    #[error("cannot start the guest: {0}")]
    Start(lifecycle::Error),
    /// The main loop is broken.
    #[error(transparent)]
    MainLoop(#[from] main_loop::Error),
}

impl Error {
    /// The program's exit code for it: 2 when the VM could not be started, 3 when it could not go
    /// on.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::MainLoop(_) => 3,
            _ => 2,
        }
    }
}
