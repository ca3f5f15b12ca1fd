//! What connects a client: one socket, or one descriptor for each direction.
//!
//! The rule that must never be broken: **neither direction ever blocks**. What the descriptors were
//! like before is restored when the link is dropped, since a terminal is shared with others.

use event_manager::{EventOps, Events};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use vmm_sys_util::epoll::EventSet;

/// One direction of a pair, and the flags that it had.
#[derive(Debug)]
struct Half {
    fd: OwnedFd,
    flags: OFlags,
}

impl Half {
    fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let flags = fcntl_getfl(&fd)?;
        Ok(Half { fd, flags })
    }

    fn unblock(&self) -> Result<(), Errno> {
        fcntl_setfl(&self.fd, self.flags | OFlags::NONBLOCK)
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        fcntl_setfl(&self.fd, self.flags).ok();
    }
}

/// A client's way to us and ours to it.
#[derive(Debug)]
pub(super) struct Link(Kind);

#[derive(Debug)]
enum Kind {
    Socket(OwnedFd),
    Pair { input: Half, output: Half },
}

impl Link {
    /// A stream socket.
    pub(super) fn socket(fd: OwnedFd) -> Result<Self, Errno> {
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Link(Kind::Socket(fd)))
    }

    /// Two descriptors: pipes, terminals, sockets.
    pub(super) fn pair(input: OwnedFd, output: OwnedFd) -> Result<Self, Errno> {
        // Both may be the same terminal, so both are looked at before the first is changed.
        let (input, output) = (Half::new(input)?, Half::new(output)?);
        input.unblock()?;
        output.unblock()?;
        Ok(Link(Kind::Pair { input, output }))
    }

    fn input(&self) -> &OwnedFd {
        match &self.0 {
            Kind::Socket(fd) => fd,
            Kind::Pair { input, .. } => &input.fd,
        }
    }

    /// The descriptor that is written to.
    pub(super) fn output(&self) -> &OwnedFd {
        match &self.0 {
            Kind::Socket(fd) => fd,
            Kind::Pair { output, .. } => &output.fd,
        }
    }

    /// Whether this descriptor is only read from: a hang-up there is the end of input, and no more.
    pub(super) fn is_input_only(&self, fd: RawFd) -> bool {
        matches!(&self.0, Kind::Pair { input, .. } if input.fd.as_raw_fd() == fd)
    }

    /// Whether the event loop always watches for room to write. A socket is watched only while it
    /// is full: else the client would wake the event loop each time it reads a reply.
    pub(super) fn always_watches_output(&self) -> bool {
        matches!(self.0, Kind::Pair { .. })
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::read(self.input(), buffer)
    }

    /// Writes. A client that has gone is an error to us and no signal, where the kernel allows it.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.0 {
            Kind::Socket(fd) => send(fd, bytes, SendFlags::NOSIGNAL),
            Kind::Pair { output, .. } => rustix::io::write(&output.fd, bytes),
        }
    }

    /// Ends the connection. A pair ends when it is dropped.
    pub(super) fn shutdown(&self) {
        let Kind::Socket(fd) = &self.0 else { return };
        // Unread input would turn the end that the client sees into an error.
        let mut sink = [0; 4096];
        for _ in 0..64 {
            if !self.read(&mut sink).is_ok_and(|count| count > 0) {
                break;
            }
        }
        // It fails when the client has gone first.
        shutdown(fd, Shutdown::Both).ok();
    }

    /// Makes the event loop watch it.
    pub(super) fn watch(
        &self,
        ops: &mut EventOps,
        id: u32,
        interest: EventSet,
    ) -> event_manager::Result<()> {
        ops.add(Events::with_data(self.input(), id, interest))?;
        if let Kind::Pair { output, .. } = &self.0 {
            let interest = EventSet::OUT | EventSet::EDGE_TRIGGERED;
            ops.add(Events::with_data(&output.fd, id, interest))?;
        }
        Ok(())
    }

    /// Makes the event loop let go of it. What it never watched is not its concern.
    pub(super) fn unwatch(&self, ops: &mut EventOps) {
        ops.remove(Events::empty(self.input())).ok();
        if let Kind::Pair { output, .. } = &self.0 {
            ops.remove(Events::empty(&output.fd)).ok();
        }
    }

    /// Changes what the event loop watches a socket for.
    pub(super) fn rewatch(
        &self,
        ops: &mut EventOps,
        id: u32,
        interest: EventSet,
    ) -> event_manager::Result<()> {
        ops.modify(Events::with_data(self.input(), id, interest))
    }
}
