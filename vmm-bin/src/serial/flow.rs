//! Output on its way to a file descriptor that must never block.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use devices::OutputRing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The most that one write offers. A pipe that is ready takes this much without blocking.
const CHUNK: usize = 4096;

/// What became of the output.
#[derive(Debug)]
pub(crate) enum Flow {
    /// All is written.
    Empty,
    /// The other end takes no more at the moment.
    Blocked,
    /// The other end is gone, or cannot be written.
    Failed(io::Error),
}

/// Moves bytes from the ring to a writer.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    chunk: Vec<u8>,
    written: usize,
}

impl Drain {
    /// Writes until nothing is left, or `out` takes no more.
    pub(crate) fn flush(&mut self, ring: &OutputRing, out: &mut dyn Write) -> Flow {
        self.flush_with(ring, out, &mut |_| Flow::Empty)
    }

    /// The same, and calls `between` whenever nothing is half written: for others who write to `out`.
    pub(crate) fn flush_with(
        &mut self,
        ring: &OutputRing,
        out: &mut dyn Write,
        between: &mut dyn FnMut(&mut dyn Write) -> Flow,
    ) -> Flow {
        loop {
            let rest = self.chunk.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                match between(out) {
                    Flow::Empty => {}
                    other => return other,
                }
                if !self.refill(ring) {
                    return Flow::Empty;
                }
                continue;
            }
            match out.write(rest) {
                Ok(0) => return Flow::Failed(ErrorKind::WriteZero.into()),
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Blocked,
                Err(error) => return Flow::Failed(error),
            }
        }
    }

    /// Forgets what was taken from the ring and not written.
    pub(crate) fn forget(&mut self) {
        self.chunk.clear();
        self.written = 0;
    }

    fn refill(&mut self, ring: &OutputRing) -> bool {
        self.chunk.resize(CHUNK, 0);
        self.written = 0;
        let count = ring.read(&mut self.chunk);
        self.chunk.truncate(count);
        count > 0
    }

    /// Writes all that is left, waiting for `out` up to `patience`. Failures end it. Returns how many bytes were never
    /// written, since the start.
    pub(crate) fn finish<O: Write + AsFd>(
        &mut self,
        ring: &OutputRing,
        out: &mut O,
        patience: Duration,
    ) -> u64 {
        self.finish_with(ring, out, &mut |_| Flow::Empty, patience)
    }

    /// The same, and calls `between` whenever nothing is half written.
    pub(crate) fn finish_with<O: Write + AsFd>(
        &mut self,
        ring: &OutputRing,
        out: &mut O,
        between: &mut dyn FnMut(&mut dyn Write) -> Flow,
        patience: Duration,
    ) -> u64 {
        let deadline = Instant::now().checked_add(patience);
        while let Flow::Blocked = self.flush_with(ring, out, between) {
            let left = deadline.and_then(|at| at.checked_duration_since(Instant::now()));
            let Some(left) = left else { break };
            wait_writable(out.as_fd(), left);
        }
        let rest = self.chunk.len().saturating_sub(self.written);
        let left = ring.len().saturating_add(rest);
        ring.dropped().saturating_add(left as u64)
    }
}

/// Throws the guest's output away.
pub(crate) fn discard(ring: &OutputRing) {
    let mut void = [0_u8; 512];
    while ring.read(&mut void) > 0 {}
}

/// Waits until `fd` can be written to, or a signal comes, or `patience` is over.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, patience: Duration) {
    let timeout = Timespec::try_from(patience).ok();
    // An error (EINTR, mostly) only makes the caller look again.
    let _woken = poll(
        &mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)],
        timeout.as_ref(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::Output;
    use std::io::Read;

    /// Takes `room` bytes, three at a time, and then blocks.
    struct Slow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let count = buf.len().min(3).min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room = self.room.saturating_sub(count);
            self.got.extend_from_slice(&buf[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_gets_every_byte_in_order() {
        let ring = OutputRing::new(20_000);
        let sent: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        assert_eq!(ring.write(&sent), sent.len());
        let mut drain = Drain::default();
        let mut out = Slow {
            room: 0,
            got: Vec::new(),
        };
        assert!(matches!(drain.flush(&ring, &mut out), Flow::Blocked));
        while out.got.len() < sent.len() {
            out.room = 7;
            drain.flush(&ring, &mut out);
        }
        assert!(matches!(drain.flush(&ring, &mut out), Flow::Empty));
        assert_eq!(out.got, sent);
    }

    #[test]
    fn a_dead_reader_is_reported() {
        let ring = OutputRing::new(10);
        ring.write(b"x");
        let mut dead: &mut [u8] = &mut [];
        assert!(matches!(
            Drain::default().flush(&ring, &mut dead),
            Flow::Failed(_)
        ));
    }

    #[test]
    fn finishing_is_bounded_when_nobody_reads() {
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let ring = OutputRing::new(4 << 20);
        ring.write(&vec![b'x'; 4 << 20]);
        ring.write(b"no room");
        let lost = Drain::default().finish(&ring, &mut near, Duration::from_millis(50));
        assert!(!ring.is_empty(), "a socket's buffer is smaller than that");
        drop(near);
        let mut taken = Vec::new();
        far.read_to_end(&mut taken).unwrap();
        assert_eq!(taken.len() as u64 + lost, (4 << 20) + 7);
    }
}
