//! The standard streams, without waiting for whoever is at their other end.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fstat};

/// One of the standard streams, for this program alone: it does not block, and nobody who shares
/// the stream notices. (O_NONBLOCK belongs to the open file description, which a shell and its
/// children share; so pipes and terminals are opened once more.)
#[derive(Debug)]
pub(crate) struct Stream {
    file: File,
    /// The description is shared: look before each access whether it would block.
    shared: bool,
}

impl Stream {
    /// Standard input, to read from it.
    ///
    /// # Errors
    /// When it is closed.
    pub(crate) fn stdin() -> io::Result<Self> {
        Self::open(rustix::stdio::stdin(), OpenOptions::new().read(true))
    }

    /// Standard output, to write to it.
    ///
    /// # Errors
    /// When it is closed.
    pub(crate) fn stdout() -> io::Result<Self> {
        Self::open(rustix::stdio::stdout(), OpenOptions::new().write(true))
    }

    /// Standard error, to write to it.
    ///
    /// # Errors
    /// When it is closed.
    pub(crate) fn stderr() -> io::Result<Self> {
        Self::open(rustix::stdio::stderr(), OpenOptions::new().write(true))
    }

    fn open(fd: BorrowedFd<'_>, how: &mut OpenOptions) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
        if matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            if let Ok(file) = how.custom_flags(flags).open(path) {
                return Ok(Self {
                    file,
                    shared: false,
                });
            }
        }
        let file = File::from(fd.try_clone_to_owned()?);
        Ok(Self {
            file,
            shared: kind != FileType::RegularFile,
        })
    }

    /// Whether each access is preceded by a look at whether it would block.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    fn ready(&self, what: PollFlags) -> io::Result<()> {
        if !self.shared {
            return Ok(());
        }
        let mut fds = [PollFd::new(&self.file, what)];
        match poll(&mut fds, Some(&Timespec::default()))? {
            0 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }
}

impl From<Stream> for OwnedFd {
    /// The descriptor. It may be one that blocks, if others share it.
    fn from(stream: Stream) -> Self {
        stream.file.into()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl io::Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.ready(PollFlags::IN)?;
        self.file.read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.ready(PollFlags::OUT)?;
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
