//! The directory that dumps go to, and a dump's file in it.
//!
//! ```text
//!   --dump-dir DIR opened at start-up      a client's PATH, below DIR
//!        └──────── openat2, beneath ────────────┘
//!             .NAME.PID.part ──▶ complete ──▶ renamed to NAME
//!                           └──▶ not complete ──▶ removed
//! ```
//!
//! The rule that must never be broken: what a client names lies below the directory, whatever links
//! there are, and a file with the name that it gave is a whole dump.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, openat2, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;

/// Only the user may read what a guest holds.
const MODE: u32 = 0o600;

/// The directory.
#[derive(Debug)]
pub(super) struct Folder {
    /// As the command line names it.
    given: PathBuf,
    /// What that is, without links.
    real: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// Opens it.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn open(given: &Path) -> io::Result<Self> {
        let real = given.canonicalize()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&real, flags, Mode::empty())?;
        Ok(Self {
            given: given.to_owned(),
            real,
            fd,
        })
    }

    /// The directory itself.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which file below the directory `path` is: one that begins at the root names the directory, too.
    fn below<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        let below = match path.is_absolute() {
            false => Some(path),
            true => [&self.given, &self.real]
                .into_iter()
                .find_map(|own| path.strip_prefix(own).ok()),
        };
        let named = below.filter(|below| below.file_name().is_some());
        named.ok_or_else(|| self.outside())
    }

    fn outside(&self) -> io::Error {
        io::Error::other(format!(
            "dumps go to files below {} (--dump-dir)",
            self.given.display()
        ))
    }

    /// Makes the file that `path` will name when it is complete.
    ///
    /// # Errors
    /// When it cannot be made, or there is something else than a plain file.
    pub(super) fn create(&self, path: &Path) -> io::Result<Part> {
        let below = self.below(path)?;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let parent = match below.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat2(&self.fd, parent, flags, Mode::empty(), beneath);
        let parent = parent.map_err(|error| match error {
            Errno::XDEV => self.outside(),
            other => other.into(),
        })?;
        let name = below.file_name().unwrap_or_default();
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => match FileType::from_raw_mode(there.st_mode) {
                FileType::RegularFile => {}
                FileType::Directory => return Err(Errno::ISDIR.into()),
                _ => return Err(io::Error::other("is no regular file")),
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut partial = std::ffi::OsString::from(".");
        partial.push(name);
        partial.push(format!(".{}.part", std::process::id()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let links = beneath | ResolveFlags::NO_SYMLINKS;
        let fd = openat2(&parent, &partial, flags, Mode::from_raw_mode(MODE), links)?;
        Ok(Part {
            parent,
            partial: partial.into(),
            name: name.into(),
            file: fd.into(),
            kept: false,
        })
    }
}

/// A dump's file that is not complete. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Part {
    parent: OwnedFd,
    partial: PathBuf,
    name: PathBuf,
    file: File,
    kept: bool,
}

impl Part {
    /// To be written to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name: a file that had it is replaced.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn keep(mut self) -> io::Result<()> {
        let (from, to) = (&self.partial, &self.name);
        renameat_with(&self.parent, from, &self.parent, to, RenameFlags::empty())?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = unlinkat(&self.parent, &self.partial, AtFlags::empty()) {
            log::warn!("dump: {} is left behind: {error}", self.partial.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A directory with a directory in it; and it goes with this.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("vmm-bin-dump-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(path.join("dumps/below")).unwrap();
            Self(path)
        }

        fn folder(&self) -> Folder {
            Folder::open(&self.0.join("dumps")).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.0.join("dumps")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete() {
        let scratch = Scratch::new("complete");
        let folder = scratch.folder();
        std::fs::write(scratch.0.join("dumps/core"), "the last one").unwrap();
        let part = folder.create(Path::new("core")).unwrap();
        io::Write::write_all(&mut part.file(), b"new").unwrap();
        let old = std::fs::read(scratch.0.join("dumps/core")).unwrap();
        assert_eq!(old, b"the last one");
        part.keep().unwrap();
        let path = scratch.0.join("dumps/core");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(scratch.names(), ["below", "core"]);

        drop(folder.create(Path::new("core")).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(scratch.names(), ["below", "core"]);

        for name in [scratch.0.join("dumps/below/a"), "below/../below/b".into()] {
            folder.create(&name).unwrap().keep().unwrap();
        }
        assert!(scratch.0.join("dumps/below/a").exists());
        assert!(scratch.0.join("dumps/below/b").exists());
    }

    #[test]
    fn what_is_not_below_is_refused() {
        let scratch = Scratch::new("outside");
        let folder = scratch.folder();
        symlink(&scratch.0, scratch.0.join("dumps/out")).unwrap();
        symlink(scratch.0.join("victim"), scratch.0.join("dumps/link")).unwrap();
        for (path, part) in [
            ("/etc/core", "--dump-dir"),
            ("../core", "--dump-dir"),
            ("below/../../core", "--dump-dir"),
            ("out/core", "--dump-dir"),
            ("..", "--dump-dir"),
            ("/", "--dump-dir"),
            ("link", "no regular file"),
            ("below", "Is a directory"),
            ("nowhere/core", "No such file"),
        ] {
            let error = folder.create(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
        let inside = scratch.0.join("dumps").join("..").join("core");
        let error = folder.create(&inside).unwrap_err().to_string();
        assert!(error.contains("--dump-dir"), "{error}");
        assert!(!scratch.0.join("victim").exists() && !scratch.0.join("core").exists());
    }
}
