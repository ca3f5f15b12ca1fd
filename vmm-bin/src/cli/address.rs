//! Where a stream comes from: the words that every option shares which takes one.
//!
//! ```text
//!   unix:PATH[,server=on|off]        a path with a comma has it twice
//!   tcp:HOST:PORT[,server=on|off]    HOST may be left out: 127.0.0.1; IPv6 in brackets
//!   fd:N                             a socket that the program was started with, connected or listening
//!   stdio                            standard input and output
//! ```
//!
//! `server=on` listens, `server=off` connects. QEMU's older words (`server`, `nowait`) and `wait=off`
//! are taken too; the program never waits for a client before it runs the guest.
//!
//! The rule that must never be broken: a word that is not understood is refused, never left out.

use std::path::PathBuf;

use super::error::UsageError;

/// The longest path of a Unix socket, in bytes (`sun_path`, without the NUL).
const LONGEST_SOCKET_PATH: usize = 107;

/// The host unless one is named: nobody reaches the monitor from outside by an oversight.
const LOOPBACK: &str = "127.0.0.1";

/// The first descriptor that is not a standard stream.
const FIRST_DESCRIPTOR: i32 = 3;

/// Who waits for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// This program listens.
    Server,
    /// This program connects.
    Client,
}

/// Where a stream comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Who waits.
        side: Side,
    },
    /// A TCP port.
    Tcp {
        /// The host's name or number, without brackets.
        host: String,
        /// The port; 0 is any that is free.
        port: u16,
        /// Who waits.
        side: Side,
    },
    /// A stream socket that the program was started with, by its number: connected, or listening.
    Descriptor(i32),
    /// Standard input and output.
    Stdio,
}

impl Address {
    /// Reads the value `given` of `option`. `side` is what counts if `server=` is not given.
    ///
    /// # Errors
    /// When it is no address, or one that cannot be.
    pub(super) fn parse(option: &'static str, given: &str, side: Side) -> Result<Self, UsageError> {
        let bad = |problem: &str, remedy: &str| UsageError::value(option, given, problem, remedy);
        match given.split_once(':') {
            Some(("unix", rest)) => {
                let (path, side) = options(rest, side).map_err(|p| bad(&p, REMEDY_OPTIONS))?;
                Ok(Self::Unix {
                    path: socket_path(option, given, path)?,
                    side,
                })
            }
            Some(("tcp", rest)) => {
                let (place, side) = options(rest, side).map_err(|p| bad(&p, REMEDY_OPTIONS))?;
                let (host, port) = host_and_port(&place)
                    .ok_or_else(|| bad("lacks a host or a port", "give tcp:HOST:PORT"))?;
                if port == 0 && side == Side::Client {
                    return Err(bad("names no port", "give tcp:HOST:PORT"));
                }
                Ok(Self::Tcp { host, port, side })
            }
            Some(("fd", number)) => match descriptor(number) {
                Some(number) => Ok(Self::Descriptor(number)),
                None => Err(bad(
                    "is no descriptor",
                    "give fd:N, the number from 3 on of a socket that is inherited",
                )),
            },
            None if given == "stdio" => Ok(Self::Stdio),
            _ => Err(bad("is not known", FORMS)),
        }
    }

    /// What only one option can have: text that is the same for the same thing.
    pub(super) fn claim(&self) -> Option<String> {
        match self {
            Self::Unix {
                path,
                side: Side::Server,
            } => Some(format!("unix:{}", path.display())),
            Self::Tcp {
                host,
                port: port @ 1..,
                side: Side::Server,
            } => Some(format!("tcp:{host}:{port}")),
            Self::Descriptor(number) => Some(format!("fd:{number}")),
            Self::Stdio => Some("stdio".to_owned()),
            _ => None,
        }
    }
}

/// The number of a descriptor that the program can be started with for a purpose.
pub(super) fn descriptor(number: &str) -> Option<i32> {
    let number = number.parse().ok()?;
    (number >= FIRST_DESCRIPTOR).then_some(number)
}

/// What to write instead of something unknown.
const FORMS: &str = "use unix:PATH, tcp:HOST:PORT, fd:N or stdio";
const REMEDY_OPTIONS: &str =
    "use server=on or server=off; a comma that belongs to the path is written twice";

/// Splits what follows the path or the port from it.
fn options(rest: &str, default: Side) -> Result<(String, Side), String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut characters = rest.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ',' if characters.next_if_eq(&',').is_some() => word.push(','),
            ',' => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    words.push(word);
    let mut words = words.into_iter();
    let place = words.next().unwrap_or_default();
    let mut side = default;
    let mut waits = false;
    for word in words {
        match word.as_str() {
            "server" | "server=on" => side = Side::Server,
            "server=off" => side = Side::Client,
            "nowait" | "wait=off" => waits = false,
            "wait=on" => waits = true,
            _ => return Err(format!("has an unknown option '{word}'")),
        }
    }
    if waits {
        return Err("is to wait for a client, which this program never does".to_owned());
    }
    Ok((place, side))
}

/// Checks the path of a Unix socket.
fn socket_path(option: &'static str, given: &str, path: String) -> Result<PathBuf, UsageError> {
    let bad = |problem: &str, remedy: &str| UsageError::value(option, given, problem, remedy);
    if path.is_empty() {
        return Err(bad("lacks the path", "give unix:PATH"));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        let problem = format!("the path has {} bytes", path.len());
        let remedy = format!("the path of a Unix socket has at most {LONGEST_SOCKET_PATH}");
        return Err(bad(&problem, &remedy));
    }
    Ok(path.into())
}

fn host_and_port(place: &str) -> Option<(String, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let port = port.parse().ok()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        // More colons are an IPv6 address without its brackets.
        None if host.contains(':') => return None,
        None => host,
    };
    let host = if host.is_empty() { LOOPBACK } else { host };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &str) -> Result<Address, String> {
        Address::parse("--qmp", given, Side::Server).map_err(|error| error.to_string())
    }

    fn unix(path: &str, side: Side) -> Result<Address, String> {
        let path = path.into();
        Ok(Address::Unix { path, side })
    }

    fn tcp(host: &str, port: u16, side: Side) -> Result<Address, String> {
        let host = host.to_owned();
        Ok(Address::Tcp { host, port, side })
    }

    #[test]
    fn every_form() {
        use Side::{Client, Server};
        for (given, expected) in [
            ("unix:/q", unix("/q", Server)),
            ("unix:/q,server=on,wait=off", unix("/q", Server)),
            ("unix:/q,server,nowait", unix("/q", Server)),
            ("unix:/q,server=off", unix("/q", Client)),
            ("unix:/q,server=on,server=off", unix("/q", Client)),
            ("unix:a,,b:c,,server=off", unix("a,b:c,server=off", Server)),
            ("tcp:localhost:4444", tcp("localhost", 4444, Server)),
            ("tcp::0", tcp("127.0.0.1", 0, Server)),
            ("tcp:[::1]:1,server=off", tcp("::1", 1, Client)),
            ("fd:3", Ok(Address::Descriptor(3))),
            ("stdio", Ok(Address::Stdio)),
        ] {
            assert_eq!(parse(given), expected, "{given}");
        }
        let given = Address::parse("--qtest", "unix:/q", Client).unwrap();
        assert_eq!(Ok(given), unix("/q", Client));
    }

    #[test]
    fn what_is_no_address_is_named_with_what_would_do() {
        for (given, parts) in [
            (
                "",
                &["is not known", "unix:PATH, tcp:HOST:PORT, fd:N or stdio"][..],
            ),
            ("stdio:", &["--qmp stdio:", "unix:PATH"]),
            ("unix", &["is not known"]),
            ("unix:", &["lacks the path", "give unix:PATH"]),
            ("unix:,server=on", &["lacks the path"]),
            (
                "unix:/q,sever=on",
                &["'sever=on'", "server=on or server=off", "twice"],
            ),
            ("unix:/q,", &["unknown option ''"]),
            ("unix:/q,wait=on", &["never does"]),
            ("tcp:1", &["give tcp:HOST:PORT"]),
            ("tcp:host:port", &["give tcp:HOST:PORT"]),
            ("tcp:host:65536", &["give tcp:HOST:PORT"]),
            ("tcp:::1:80", &["give tcp:HOST:PORT"]),
            ("tcp:[::1:80", &["give tcp:HOST:PORT"]),
            ("tcp:host:0,server=off", &["names no port"]),
            ("fd:", &["is no descriptor", "from 3 on"]),
            ("fd:1", &["is no descriptor"]),
            ("fd:-1", &["is no descriptor"]),
            ("fd:3,server=on", &["is no descriptor"]),
            ("fd:99999999999", &["is no descriptor"]),
        ] {
            let text = parse(given).unwrap_err();
            for part in parts {
                assert!(text.contains(part), "{given}: {text:?} lacks {part:?}");
            }
        }
        let path = format!("unix:/{}", "x".repeat(107));
        assert!(parse(&path).unwrap_err().contains("at most 107"));
    }
}
