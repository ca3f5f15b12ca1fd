//! A file that is loaded at power-on and again at every reset.
//!
//! Its content is not kept in memory: the file stays open and is read again. A file that was
//! written to meanwhile is refused, since the second boot would not be the first one again; one
//! that was replaced (as package managers do) is not, because the old file stays open.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use vm_memory::{Bytes, GuestAddress};

use crate::platform::error::Error;
use crate::platform::memory::Memory;

/// An open image file.
#[derive(Debug)]
pub(crate) struct ImageFile {
    role: &'static str,
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// What tells whether a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl ImageFile {
    /// Opens the file; `role` names it in messages: kernel, initrd, firmware.
    ///
    /// # Errors
    /// When it cannot be opened or is not a regular file.
    pub(crate) fn open(role: &'static str, path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            role,
            path: path.to_path_buf(),
            source,
        };
        // A pipe without a writer would block an open for reading: look before.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::NotAFile {
                role,
                path: path.to_path_buf(),
            });
        }
        let file = File::open(path).map_err(failed)?;
        let stamp = stamp(&file).map_err(failed)?;
        Ok(Self {
            role,
            path: path.to_path_buf(),
            file,
            stamp,
        })
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    /// The path it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Up to `most` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn peek(&self, offset: u64, most: usize) -> Result<Vec<u8>, Error> {
        let left = usize::try_from(self.size().saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(left)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|source| self.failed(source))?;
        Ok(bytes)
    }

    /// Copies `size` bytes from `offset` to guest memory at `address`.
    ///
    /// # Errors
    /// When the file cannot be read, ends early, or the range is not memory.
    pub(crate) fn load(
        &mut self,
        offset: u64,
        size: u64,
        memory: &Memory,
        address: u64,
    ) -> Result<(), Error> {
        let access = |reason| Error::MemoryAccess { address, reason };
        let size = usize::try_from(size).map_err(|error| access(error.to_string()))?;
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(|source| self.failed(source))?;
        memory
            .regions()
            .read_exact_volatile_from(GuestAddress(address), &mut self.file, size)
            .map_err(|error| access(format!("cannot load the {}: {error}", self.role)))
    }

    /// The same open file, for somebody who reads at places of his own.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn share(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(|source| self.failed(source))
    }

    /// The file itself, for a loader that reads it.
    pub(crate) fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Whether the file is still what was opened.
    ///
    /// # Errors
    /// When it is not, or that cannot be told.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        let now = stamp(&self.file).map_err(|source| self.failed(source))?;
        if now == self.stamp {
            return Ok(());
        }
        Err(Error::FileChanged {
            role: self.role,
            path: self.path.clone(),
        })
    }

    /// The error for a failed read.
    fn failed(&self, source: std::io::Error) -> Error {
        Error::File {
            role: self.role,
            path: self.path.clone(),
            source,
        }
    }
}

/// The file's stamp now.
fn stamp(file: &File) -> std::io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok(Stamp {
        size: metadata.len(),
        seconds: metadata.mtime(),
        nanoseconds: metadata.mtime_nsec(),
    })
}
