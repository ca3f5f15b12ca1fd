//! A listening unix socket that is private from its first moment and cleans up after itself.
//!
//! The rule that must never be broken: **nothing but a dead socket, or our own, is ever removed**.
//! A path is taken aside by renaming, looked at, and put back if it is not what it was taken for.

use crate::Error;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, RenameFlags, fchmod, flock, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest path of a socket address on Linux, without the zero byte (unix(7)).
const PATH_LIMIT: usize = 107;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// How often, and how long apart, a directory locked by another starter is tried.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What tells one file from another under the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// A name in a directory that is held open, so that it means the same file wherever the process
/// goes.
#[derive(Debug)]
struct Place {
    directory: File,
    name: OsString,
    path: PathBuf,
}

/// A listening unix socket, mode 0600 whatever the umask. Dropping it removes its file, if the file
/// is still the one it made.
#[derive(Debug)]
pub struct MonitorSocket {
    listener: UnixListener,
    place: Place,
    identity: Identity,
    /// Who may connect, by user id; nobody is asked if there is no list.
    users: Option<Vec<u32>>,
}

impl MonitorSocket {
    /// Creates the socket and listens on it.
    ///
    /// A socket file that nobody listens on is replaced. Two starters that race for one path lock
    /// its directory: one wins, the other finds the path in use.
    ///
    /// # Errors
    ///
    /// [`Error::PathInUse`], [`Error::NotASocket`] (a symbolic link is none either),
    /// [`Error::PathTooLong`], [`Error::NoDirectory`], [`Error::NoFileName`], and [`Error::Socket`]
    /// for what the kernel refuses. Nothing was removed then.
    pub fn bind(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let place = Place::open(path)?;
        let address = SocketAddrUnix::new(path).map_err(|_| Error::PathTooLong {
            path: path.to_owned(),
            limit: PATH_LIMIT,
        })?;
        place.lock()?;
        place.clear(&address)?;
        let socket = place.new_socket()?;
        // On Linux a socket's mode before bind(2) is what its file gets, less the umask. The file
        // is never there with a wider mode, and listen(2) comes last.
        fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(place.failure("setting its mode"))?;
        bind(&socket, &address).map_err(|errno| match errno {
            Errno::ADDRINUSE => Error::PathInUse {
                path: path.to_owned(),
            },
            other => place.failure("binding it")(other),
        })?;
        let identity = place.bound(&address)?;
        listen(&socket, BACKLOG).map_err(|errno| {
            let error = place.failure("listening on it")(errno);
            place.remove(identity);
            error
        })?;
        place.unlock();
        Ok(MonitorSocket {
            listener: UnixListener::from(socket),
            place,
            identity,
            users: None,
        })
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Serves only clients of these users, by their ids. Anybody else's connection is closed before
    /// the greeting.
    ///
    /// The file's mode keeps other users out already, but for those who can change it, and root. The
    /// kernel says who a client was when it connected (`SO_PEERCRED`); root is not admitted unless it
    /// is listed.
    #[must_use]
    pub fn only_for(mut self, users: impl IntoIterator<Item = u32>) -> Self {
        self.users = Some(users.into_iter().collect());
        self
    }

    /// Whether this client may be served.
    pub(super) fn admits(&self, client: &UnixStream) -> bool {
        let Some(users) = &self.users else {
            return true;
        };
        let who = rustix::net::sockopt::socket_peercred(client);
        who.is_ok_and(|who| users.contains(&who.uid.as_raw()))
    }

    /// Removes the file, if it is still ours: nobody finds the socket any more.
    pub(super) fn unlink(&self) {
        self.place.remove(self.identity);
    }

    /// The socket that listens, for a VMM that serves something else than a monitor on it.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for MonitorSocket {
    fn drop(&mut self) {
        self.place.remove(self.identity);
    }
}

impl Place {
    fn open(path: &Path) -> Result<Self, Error> {
        let owned = || path.to_owned();
        if path.as_os_str().len() > PATH_LIMIT {
            return Err(Error::PathTooLong {
                path: owned(),
                limit: PATH_LIMIT,
            });
        }
        let ends_in_name = !path.as_os_str().as_bytes().ends_with(b"/");
        let name = path.file_name().filter(|_| ends_in_name);
        let name = name.ok_or_else(|| Error::NoFileName { path: owned() })?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = File::open(directory).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Error::NoDirectory { path: owned() }
            }
            _ => Error::Socket {
                path: owned(),
                what: "opening its directory",
                source,
            },
        })?;
        Ok(Place {
            directory,
            name: name.to_owned(),
            path: owned(),
        })
    }

    fn failure(&self, what: &'static str) -> impl Fn(Errno) -> Error {
        let path = self.path.clone();
        move |errno| Error::Socket {
            path: path.clone(),
            what,
            source: errno.into(),
        }
    }

    /// Keeps other starters out while the path is looked at and taken.
    fn lock(&self) -> Result<(), Error> {
        for _ in 0..LOCK_TRIES {
            match flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a lock of a file wakes nobody who would not block, and no client waits yet"
                )]
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
                // A file system without locks: the rest is as safe as it can be without.
                Err(_) => return Ok(()),
            }
        }
        Err(self.failure("locking its directory")(Errno::WOULDBLOCK))
    }

    fn unlock(&self) {
        // Closing the directory would do the same; an error changes nothing for us.
        flock(&self.directory, FlockOperation::Unlock).ok();
    }

    fn new_socket(&self) -> Result<OwnedFd, Error> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(self.failure("creating it"))
    }

    /// What is there now, symbolic links not followed.
    fn look(&self) -> Result<(Identity, FileType), Errno> {
        look_at(&self.directory, &self.name)
    }

    /// Makes the name free, if all that is there is a socket that nobody listens on.
    fn clear(&self, address: &SocketAddrUnix) -> Result<(), Error> {
        let (identity, kind) = match self.look() {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.failure("looking at its path")(errno)),
        };
        if kind != FileType::Socket {
            return Err(Error::NotASocket {
                path: self.path.clone(),
            });
        }
        match connect(&self.new_socket()?, address) {
            Err(Errno::CONNREFUSED) => {
                if self.remove(identity) {
                    Ok(())
                } else {
                    Err(Error::PathInUse {
                        path: self.path.clone(),
                    })
                }
            }
            Err(Errno::NOENT) => Ok(()),
            // Accepted, a full backlog, or a socket of another type: somebody is there.
            Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(Error::PathInUse {
                path: self.path.clone(),
            }),
            Err(errno) => Err(self.failure("asking who listens on it")(errno)),
        }
    }

    /// What has just been bound there. Another process could have put something of its own in its place already, which
    /// is not to be taken for ours: it must be a socket, and nobody may listen on it, as nobody does on ours yet.
    fn bound(&self, address: &SocketAddrUnix) -> Result<Identity, Error> {
        let found = self.look().map_err(self.failure("looking at it"))?;
        let listens = connect(&self.new_socket()?, address) != Err(Errno::CONNREFUSED);
        let again = self.look().map_err(self.failure("looking at it"))?;
        match found {
            (identity, FileType::Socket) if !listens && again == found => Ok(identity),
            _ => Err(Error::PathInUse {
                path: self.path.clone(),
            }),
        }
    }

    /// Removes the file if it is the socket meant, and says whether it did.
    ///
    /// Between looking and unlinking another process could put a file of its own there. So the file
    /// is first renamed to a name that is ours, and what turns out to be foreign goes back. It must be a socket:
    /// the number of a file that has gone is given to the next one.
    fn remove(&self, identity: Identity) -> bool {
        let meant = Ok((identity, FileType::Socket));
        if self.look() != meant {
            return false;
        }
        let aside = OsString::from(format!(".{}-{}.stale", identity.inode, std::process::id()));
        let rename = |from: &OsStr, to: &OsStr| {
            renameat_with(
                &self.directory,
                from,
                &self.directory,
                to,
                RenameFlags::NOREPLACE,
            )
        };
        if rename(&self.name, &aside).is_err() {
            return false;
        }
        if look_at(&self.directory, &aside) == meant {
            return unlinkat(&self.directory, &aside, AtFlags::empty()).is_ok();
        }
        // If the name is taken again by now, the file stays under the other name: not lost.
        rename(&aside, &self.name).ok();
        false
    }
}

fn look_at(directory: &File, name: &OsStr) -> Result<(Identity, FileType), Errno> {
    let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let identity = Identity {
        device: stat.st_dev,
        inode: stat.st_ino,
    };
    Ok((identity, FileType::from_raw_mode(stat.st_mode)))
}
