//! Where clients come in: a unix socket, a TCP port, or a socket that was handed over.

use super::MonitorSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketFlags;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A listening socket.
#[derive(Debug)]
pub(super) enum Door {
    Unix(MonitorSocket),
    Tcp(TcpListener),
    /// One that somebody else has made, of whatever family.
    Handed(OwnedFd),
}

impl Door {
    /// The next client, or nothing if whoever knocked may not come in.
    pub(super) fn accept(&self) -> io::Result<Option<OwnedFd>> {
        match self {
            Door::Unix(socket) => {
                let (stream, _) = socket.listener().accept()?;
                Ok(socket.admits(&stream).then(|| stream.into()))
            }
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // A reply is one write: nothing is gained by waiting for more.
                stream.set_nodelay(true).ok();
                Ok(Some(stream.into()))
            }
            Door::Handed(listener) => {
                let stream = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
                // As above, if it is TCP.
                rustix::net::sockopt::set_tcp_nodelay(&stream, true).ok();
                Ok(Some(stream))
            }
        }
    }

    /// Whether somebody waits to be accepted.
    pub(super) fn has_knock(&self) -> bool {
        let mut watched = [PollFd::new(self, PollFlags::IN)];
        poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Removes the socket's file, if it has one: nobody finds it any more.
    pub(super) fn unlink(&self) {
        if let Door::Unix(socket) = self {
            socket.unlink();
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Door::Unix(socket) => socket.listener().as_fd(),
            Door::Tcp(listener) => listener.as_fd(),
            Door::Handed(listener) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}
