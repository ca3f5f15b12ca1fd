//! What can go wrong for the VMM: when a server is set up, and when it emits an event. A client's
//! failure ends that client, and its mistakes are answered: see `protocol::ParseError`.

use std::io;
use std::path::PathBuf;

/// Why a socket could not be opened, a server not be built, or an event not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process listens there.
    #[error("socket path '{}' is in use: another process listens on it; choose another path or end that process", path.display())]
    PathInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is no socket is there already. It was not touched.
    #[error("'{}' exists and is not a socket: remove it or choose another path", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit in a socket address.
    #[error("socket path '{}' is too long: at most {limit} bytes are possible; use a shorter or a relative path", path.display())]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// How many bytes it may have.
        limit: usize,
    },
    /// The directory in which the socket is to be does not exist.
    #[error("cannot create socket '{}': its directory does not exist", path.display())]
    NoDirectory {
        /// The socket's path.
        path: PathBuf,
    },
    /// The path names no file, as one that ends in `..` does.
    #[error("'{}' cannot name a socket: give a path that ends in a file name", path.display())]
    NoFileName {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused to open the socket.
    #[error("cannot open socket '{}': {what}: {source}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused what a server needs for its event loop or for a client.
    #[error("cannot set up the monitor: {what}: {source}")]
    SetUp {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A client neither read what waited for it nor finished what it had begun to send, for as long as
    /// [`ServerLimits::stall`](crate::ServerLimits::stall). Its connection was ended; the service goes
    /// on.
    #[error("a client of the monitor was disconnected: it {what} for {} s", patience.as_secs_f32())]
    ClientStalled {
        /// What it did not do.
        what: &'static str,
        /// How long.
        patience: std::time::Duration,
    },
    /// The registry has no event of that name. Nothing was sent.
    #[error("event '{name}' is not registered: add it with Registry::event")]
    UnregisteredEvent {
        /// The event.
        name: String,
    },
    /// The data of an event cannot be put into JSON. Nothing was sent.
    #[error("the data of event '{name}' cannot be put into JSON: {source}")]
    EventData {
        /// The event.
        name: String,
        /// What serde_json says.
        source: serde_json::Error,
    },
}
