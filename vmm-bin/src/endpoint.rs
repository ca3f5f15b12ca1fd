//! Streams from where the command line says that they come from.
//!
//! ```text
//!   unix, tcp   server=on    listens      any number of clients
//!               server=off   connects     tries again while nobody listens yet
//!   fd          taken over when the program starts, before anything else is opened
//!   stdio       opened once more, so that nobody who shares them notices
//! ```
//!
//! The rule that must never be broken: all of it is open before the sandbox is entered, and what
//! cannot be opened is named with the option that wanted it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use log::info;
use monitor::MonitorSocket;
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

use crate::cli::{Address, Side};
use crate::door::Door;
use crate::stream::Stream;
use crate::sys;

/// How long a connection is tried while nobody listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after a try comes the next one.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a stream cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The Unix socket cannot be bound.
    #[error(transparent)]
    Bind(#[from] monitor::Error),
    /// The port cannot be listened on.
    #[error("cannot listen on {place}: {source}; give an address of this host and a free port")]
    Listen {
        /// The host and the port.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// Nobody is there.
    #[error("cannot connect to {place}: {source}; start who listens there first")]
    Connect {
        /// The path, or the host and the port.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// A signal came while it waited for somebody to listen.
    #[error("a signal ended the program while it waited for somebody to listen on {place}")]
    Interrupted {
        /// The path, or the host and the port.
        place: String,
    },
    /// The program was not started with this descriptor, or it is no stream socket that is connected or listens.
    #[error(
        "fd:{number}: {problem}; start the program with a stream socket there that is connected or listens"
    )]
    Descriptor {
        /// Its number.
        number: i32,
        /// What is wrong.
        problem: String,
    },
    /// The program was not started with this descriptor.
    #[error("fd={number}: {problem}; start the program with /dev/kvm open there")]
    Device {
        /// Its number.
        number: i32,
        /// What is wrong.
        problem: String,
    },
    /// A standard stream is closed, or a file, which nobody can wait for.
    #[error("{name} cannot be used: {source}; it must be a terminal, a pipe or a socket")]
    Stdio {
        /// Which one.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// Nobody listens there yet, and somebody may come to.
    fn may_pass(&self) -> bool {
        let nobody = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
        matches!(self, Self::Connect { source, .. } if nobody.contains(&source.kind()))
    }
}

/// The descriptors that the program was started with, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Inherited(BTreeMap<i32, io::Result<OwnedFd>>);

impl Inherited {
    /// Takes over the descriptors with these numbers. This comes before the program opens anything.
    pub(crate) fn take_over(numbers: impl Iterator<Item = i32>) -> Self {
        Self(sys::take_over_descriptors(numbers.collect()))
    }

    fn take(&mut self, number: i32) -> Result<OwnedFd, String> {
        match self.0.remove(&number) {
            Some(Ok(fd)) => Ok(fd),
            Some(Err(error)) => Err(format!("cannot be used: {error}")),
            None => Err("is in use".to_owned()),
        }
    }

    /// A device that somebody else has opened.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub(crate) fn device(&mut self, number: i32) -> Result<OwnedFd, Error> {
        let failed = |problem| Error::Device { number, problem };
        self.take(number).map_err(failed)
    }

    /// What a stream socket has become: who is connected, or who will be.
    fn socket(&mut self, number: i32) -> Result<Endpoint, Error> {
        let failed = |problem: String| Error::Descriptor { number, problem };
        let fd = self.take(number).map_err(failed)?;
        match socket_type(&fd) {
            Ok(SocketType::STREAM) => {}
            Ok(_) => return Err(failed("is a socket, but no stream".to_owned())),
            Err(_) => return Err(failed("is no socket".to_owned())),
        }
        if socket_acceptconn(&fd).unwrap_or_default() {
            return Ok(Endpoint::Listening(fd));
        }
        match rustix::net::getpeername(&fd) {
            Ok(_) => Ok(Endpoint::Connected(fd)),
            Err(error) => Err(failed(format!("is a socket without a peer: {error}"))),
        }
    }
}

/// What an address has become.
#[derive(Debug)]
pub(crate) enum Endpoint {
    /// Clients come through this socket. Its file is removed when it is dropped.
    Unix(MonitorSocket),
    /// Clients come through this port.
    Tcp(TcpListener),
    /// Clients come through this socket, which somebody else has made.
    Listening(OwnedFd),
    /// The one client: a connected stream socket.
    Connected(OwnedFd),
    /// The one client: input and output.
    Stdio {
        /// To read from.
        input: Stream,
        /// To write to.
        output: Stream,
    },
}

impl Endpoint {
    /// Opens what options name by addresses, all at the same time: somebody may listen at one only
    /// when it has been reached at another. Where nobody listens yet it waits, for at most 30 s and
    /// until `given_up` says so.
    ///
    /// # Errors
    /// See [`Error`], with the option that wanted it; then nothing was left behind.
    pub(crate) fn open_all(
        wanted: &[(&'static str, &Address)],
        inherited: &mut Inherited,
        given_up: &dyn Fn() -> bool,
    ) -> Result<Vec<Self>, (&'static str, Error)> {
        let patience = Patience::new(given_up);
        let mut opened: Vec<Option<Self>> = wanted.iter().map(|_| None).collect();
        loop {
            let mut missing = None;
            for ((option, address), slot) in wanted.iter().zip(&mut opened) {
                if slot.is_some() {
                    continue;
                }
                match Self::open(address, inherited) {
                    Ok(endpoint) => *slot = Some(endpoint),
                    Err(error) if error.may_pass() => missing = Some((*option, error)),
                    Err(error) => return Err((*option, error)),
                }
            }
            let Some((option, error)) = missing else {
                return Ok(opened.into_iter().flatten().collect());
            };
            patience.wait(error).map_err(|error| (option, error))?;
        }
    }

    /// Opens what `address` names, if it can be had now.
    fn open(address: &Address, inherited: &mut Inherited) -> Result<Self, Error> {
        match address {
            Address::Unix {
                path,
                side: Side::Server,
            } => Ok(Self::Unix(MonitorSocket::bind(path)?)),
            Address::Unix {
                path,
                side: Side::Client,
            } => connect_unix(path).map(Self::Connected),
            Address::Tcp { host, port, side } => match side {
                Side::Server => listen_tcp(host, *port).map(Self::Tcp),
                Side::Client => connect_tcp(host, *port).map(Self::Connected),
            },
            Address::Descriptor(number) => inherited.socket(*number),
            Address::Stdio => Ok(Self::Stdio {
                input: watchable("standard input", Stream::stdin())?,
                output: watchable("standard output", Stream::stdout())?,
            }),
        }
    }
}

/// How those come who are served one at a time.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Through this door.
    Door(Door),
    /// The one client: a connected stream socket, which does not block.
    Client(OwnedFd),
    /// The one client: input and output.
    Stdio {
        /// To read from.
        input: Stream,
        /// To write to.
        output: Stream,
    },
}

impl Arrival {
    /// How they come to `endpoint`; `name` is whose it is, for the log.
    ///
    /// # Errors
    /// When a socket cannot be made non-blocking.
    pub(crate) fn at(name: &'static str, endpoint: Endpoint) -> io::Result<Self> {
        Ok(match endpoint {
            Endpoint::Unix(socket) => Self::Door(Door::unix(name, socket)?),
            Endpoint::Tcp(listener) => Self::Door(Door::tcp(name, listener)?),
            Endpoint::Listening(listener) => Self::Door(Door::inherited(name, listener)?),
            Endpoint::Connected(stream) => {
                rustix::io::ioctl_fionbio(&stream, true)?;
                Self::Client(stream)
            }
            Endpoint::Stdio { input, output } => Self::Stdio { input, output },
        })
    }
}

/// The stream, if the main loop will be able to wait for it.
fn watchable(name: &'static str, stream: io::Result<Stream>) -> Result<Stream, Error> {
    let watched = stream.and_then(|stream| {
        let nothing = EpollEvent::new(EventSet::empty(), 0);
        Epoll::new()?.ctl(ControlOperation::Add, stream.as_fd().as_raw_fd(), nothing)?;
        Ok(stream)
    });
    watched.map_err(|source| Error::Stdio { name, source })
}

fn listen_tcp(host: &str, port: u16) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind((host, port)).map_err(|source| Error::Listen {
        place: format!("{host}:{port}"),
        source,
    })?;
    if port == 0
        && let Ok(address) = listener.local_addr()
    {
        info!("listening on tcp:{address}");
    }
    Ok(listener)
}

fn connect_unix(path: &Path) -> Result<OwnedFd, Error> {
    let stream = UnixStream::connect(path).map_err(|source| Error::Connect {
        place: path.display().to_string(),
        source,
    })?;
    Ok(stream.into())
}

fn connect_tcp(host: &str, port: u16) -> Result<OwnedFd, Error> {
    let stream = TcpStream::connect((host, port)).map_err(|source| Error::Connect {
        place: format!("{host}:{port}"),
        source,
    })?;
    // An answer is one write: nothing is gained by waiting for more.
    stream.set_nodelay(true).ok();
    Ok(stream.into())
}

/// How long a listener that is not there is waited for.
struct Patience<'a> {
    start: Instant,
    given_up: &'a dyn Fn() -> bool,
}

impl<'a> Patience<'a> {
    fn new(given_up: &'a dyn Fn() -> bool) -> Self {
        Self {
            start: Instant::now(),
            given_up,
        }
    }

    /// Waits a little after this error; gives it back if it has waited long enough.
    fn wait(&self, error: Error) -> Result<(), Error> {
        if (self.given_up)() {
            return Err(match error {
                Error::Connect { place, .. } => Error::Interrupted { place },
                other => other,
            });
        }
        if self.start.elapsed() >= PATIENCE {
            return Err(error);
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing says that somebody listens, and nobody else waits yet"
        )]
        std::thread::sleep(PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn open(path: &Path, given_up: &dyn Fn() -> bool) -> Result<Vec<Endpoint>, Error> {
        let address = Address::Unix {
            path: path.into(),
            side: Side::Client,
        };
        let wanted = [("--qmp", &address)];
        Endpoint::open_all(&wanted, &mut Inherited::default(), given_up).map_err(|(_, error)| error)
    }

    #[test]
    fn who_comes_to_listen_late_is_found() {
        let name = format!("vmm-bin-endpoint-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let tries = std::cell::Cell::new(0);
        let listener = std::cell::OnceCell::new();
        let third = || {
            tries.set(tries.get() + 1);
            if tries.get() == 3 {
                listener.set(UnixListener::bind(&path).unwrap()).unwrap();
            }
            false
        };
        let opened = open(&path, &third);
        drop(std::fs::remove_file(&path));
        opened.unwrap();
        assert_eq!(tries.get(), 3);
    }

    #[test]
    fn a_signal_ends_the_waiting() {
        let path = Path::new("/nonexistent/socket");
        let error = open(path, &|| true).unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    }

    #[test]
    fn what_will_not_change_is_not_tried_again() {
        let error = open(Path::new("/dev/null/socket"), &|| false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("/dev/null/socket"), "{text}");
    }

    #[test]
    fn only_a_stream_socket_that_leads_to_somebody_is_taken() {
        let (near, _far) = UnixStream::pair().unwrap();
        let datagram = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let unconnected =
            rustix::net::socket(rustix::net::AddressFamily::INET, SocketType::STREAM, None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let closed = io::Error::from_raw_os_error(libc::EBADF);
        let mut inherited = Inherited(BTreeMap::from([
            (3, Ok(near.into())),
            (4, Ok(datagram.into())),
            (5, Ok(unconnected.unwrap())),
            (6, Ok(listener.into())),
            (7, Ok(file.into())),
            (8, Err(closed)),
        ]));
        let taken = inherited.socket(3).unwrap();
        assert!(matches!(taken, Endpoint::Connected(_)), "{taken:?}");
        let taken = inherited.socket(6).unwrap();
        assert!(matches!(taken, Endpoint::Listening(_)), "{taken:?}");
        for (number, part) in [
            (3, "in use"),
            (4, "no stream"),
            (5, "without a peer"),
            (6, "in use"),
            (7, "no socket"),
            (8, "Bad file descriptor"),
        ] {
            let text = inherited.socket(number).unwrap_err().to_string();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
            assert!(text.contains(&format!("fd:{number}")), "{text}");
        }
    }
}
