//! The PID file: says which process runs the VM, and is gone when that has ended.
//!
//! The file is locked for as long as the process lives. So a file that a crash left behind is
//! taken over, and one that belongs to a running process is refused.
//!
//! The rule that must never be broken: only a file that this process holds the lock of is removed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

/// Why there is no PID file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file belongs to a process that runs.
    #[error("--pidfile {}: held by {holder}; stop that, or give another path", path.display())]
    Held {
        /// The file.
        path: PathBuf,
        /// What the file says about its process.
        holder: String,
    },
    /// The path leads to something that is no file.
    #[error("--pidfile {}: is not a regular file; give the path of a file", path.display())]
    NoFile {
        /// The path.
        path: PathBuf,
    },
    /// The file cannot be made or written.
    #[error("--pidfile {}: {source}; give the path of a file that can be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The PID file of this process; dropping it removes it.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes this process's number to `path`.
    ///
    /// # Errors
    /// See [`Error`]; a file of somebody else is left as it was.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        // Between opening and locking, the holder may have removed its file: then look again.
        loop {
            let mut file = open(path).map_err(io)?;
            if !file.metadata().map_err(io)?.is_file() {
                return Err(Error::NoFile {
                    path: path.to_owned(),
                });
            }
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    return Err(Error::Held {
                        path: path.to_owned(),
                        holder,
                    });
                }
                Err(errno) => return Err(io(errno.into())),
            }
            let pidfile = Self {
                path: path.to_owned(),
                file,
            };
            if pidfile.is_ours() {
                pidfile.write().map_err(io)?;
                return Ok(pidfile);
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        let mut file = &self.file;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    }

    /// Whether the path still leads to the locked file.
    fn is_ours(&self) -> bool {
        let (Ok(here), Ok(there)) = (self.file.metadata(), self.path.symlink_metadata()) else {
            return false;
        };
        (here.dev(), here.ino()) == (there.dev(), there.ino())
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_ours() {
            // What cannot be removed stays unlocked, and the next process takes it over.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Names the process in a PID file that somebody holds.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(16).read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => format!("the running process {}", text.trim()),
        _ => String::from("another running process"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary() -> PathBuf {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        std::env::temp_dir().join(format!("vmm-bin-pidfile-{}-{number}", std::process::id()))
    }

    #[test]
    fn holds_the_number_and_is_removed() {
        let path = temporary();
        let pidfile = PidFile::create(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn a_held_file_is_refused_and_a_stale_one_taken_over() {
        let path = temporary();
        std::fs::write(&path, "99999999 and much more text than a number\n").unwrap();
        let first = PidFile::create(&path).unwrap();
        let error = PidFile::create(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("the running process {}", std::process::id())),
            "{error}"
        );
        assert!(path.exists(), "the refusal must not remove the file");
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_a_directory_and_a_missing_directory_are_refused() {
        let path = temporary();
        std::os::unix::fs::symlink("/nonexistent", &path).unwrap();
        assert!(matches!(PidFile::create(&path), Err(Error::Io { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(
            PidFile::create(&std::env::temp_dir()),
            Err(Error::Io { .. })
        ));
        assert!(matches!(
            PidFile::create(Path::new("/nonexistent/pid")),
            Err(Error::Io { .. })
        ));
        assert!(matches!(
            PidFile::create(Path::new("/dev/null")),
            Err(Error::NoFile { .. })
        ));
    }

    #[test]
    fn a_file_that_somebody_replaced_is_not_removed() {
        let path = temporary();
        let pidfile = PidFile::create(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "somebody else's").unwrap();
        drop(pidfile);
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
    }
}
