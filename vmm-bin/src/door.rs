//! A listening socket through which clients come, one at a time; the next one waits in the backlog.
//!
//! ```text
//!           admit(): somebody came
//!   open ---------------------------> shut
//!     ^                                |
//!     '--------------------------------'
//!          open(): the client has gone
//! ```
//!
//! The rule that must never be broken: nothing here blocks, nor does a client's socket.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use event_manager::{EventOps, Events};
use log::{error, warn};
use monitor::MonitorSocket;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use vmm_sys_util::epoll::EventSet;

/// A listening socket, and whose it is: for the log.
#[derive(Debug)]
pub(crate) struct Door {
    name: &'static str,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Unix(MonitorSocket),
    Tcp(TcpListener),
    Inherited(OwnedFd),
}

impl Door {
    /// A door at a Unix socket. Its file is removed with it.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub(crate) fn unix(name: &'static str, socket: MonitorSocket) -> io::Result<Self> {
        socket.listener().set_nonblocking(true)?;
        let listener = Listener::Unix(socket);
        Ok(Self { name, listener })
    }

    /// A door at a port.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub(crate) fn tcp(name: &'static str, listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Clients inherit it. An answer is one write: nothing is gained by waiting for more.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        let listener = Listener::Tcp(listener);
        Ok(Self { name, listener })
    }

    /// A door at a socket that somebody else has made, of whatever family.
    ///
    /// # Errors
    /// When the socket cannot be made non-blocking.
    pub(crate) fn inherited(name: &'static str, listener: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        // As above, if it is TCP.
        let _tcp = rustix::net::sockopt::set_tcp_nodelay(&listener, true);
        let listener = Listener::Inherited(listener);
        Ok(Self { name, listener })
    }

    /// Has the main loop wait for a client.
    pub(crate) fn open(&self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(self, EventSet::IN)) {
            error!("{}: cannot wait for a client: {error}", self.name);
        }
    }

    /// The client that has come, if one has; then the door is shut.
    pub(crate) fn admit(&self, ops: &mut EventOps) -> Option<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::accept_with(self, flags) {
            Ok(client) => {
                drop(ops.remove(Events::empty(self)));
                return Some(client);
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => warn!("{}: cannot accept a client: {error}", self.name),
        }
        None
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            Listener::Unix(socket) => socket.listener().as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Inherited(listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
