//! The client's stream: lines in, lines out, and nobody waits.
//!
//! The stream is watched for edges: each says that it is worth a try again, and a try goes on until
//! it would block. So what is watched for never changes.
//!
//! The rule that must never be broken: nothing grows without bound. A request that is too long is
//! thrown away, and so is a client that does not read.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};

use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, info, warn};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use vmm_sys_util::epoll::EventSet;

use super::request::MOST_BYTES;
use crate::door::Door;
use crate::doorbell::Doorbell;
use crate::endpoint::{Arrival, Endpoint};

/// The longest request: so many bytes in hexadecimal, and the words before them.
const LONGEST_LINE: usize = 2 * MOST_BYTES + 256;

/// How much may wait for a client: an answer, and as much of what it did not ask for.
const MOST_OUTPUT: usize = 2 * LONGEST_LINE;

/// How much is read at once, and how often in a turn.
const CHUNK: usize = 64 << 10;
const MOST_CHUNKS: usize = 64;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// One that was thrown away.
    TooLong,
}

struct Client {
    stream: OwnedFd,
    input: Input,
    output: Vec<u8>,
    /// How much of the output has been sent.
    sent: usize,
    /// It is gone, or to go.
    over: bool,
}

/// The stream, or where it comes from, and who is connected.
pub(super) struct Link {
    /// Rung when the event loop is to take notice of the client's end, or of a line that waits.
    bell: Doorbell,
    door: Option<Door>,
    client: Option<Client>,
    arrived: bool,
}

impl Link {
    pub(super) fn new(endpoint: Endpoint) -> io::Result<Self> {
        let mut link = Self {
            bell: Doorbell::new()?,
            door: None,
            client: None,
            arrived: false,
        };
        match Arrival::at("qtest", endpoint)? {
            Arrival::Door(door) => link.door = Some(door),
            Arrival::Client(stream) => link.seat(stream),
            // The command line has refused it.
            Arrival::Stdio { .. } => return Err(ErrorKind::Unsupported.into()),
        }
        Ok(link)
    }

    fn seat(&mut self, stream: OwnedFd) {
        self.client = Some(Client {
            stream,
            input: Input::default(),
            output: Vec::new(),
            sent: 0,
            over: false,
        });
        self.arrived = true;
    }

    /// Whether a client has come since the last call.
    pub(super) fn take_arrival(&mut self) -> bool {
        std::mem::take(&mut self.arrived)
    }

    /// The next request, unless the answer to the one before has not been read yet.
    pub(super) fn next_line(&mut self) -> Option<Line> {
        let client = self.client.as_mut()?;
        if client.over || !client.output.is_empty() {
            return None;
        }
        for _ in 0..MOST_CHUNKS {
            if let Some(line) = client.input.line() {
                return Some(line);
            }
            match recv(&client.stream, client.input.room(), RecvFlags::empty()) {
                Ok((0, _)) => {
                    client.over = true;
                    break;
                }
                Ok((count, _)) => client.input.add(count),
                Err(Errno::AGAIN) => return None,
                Err(Errno::INTR) => {}
                Err(_) => {
                    client.over = true;
                    break;
                }
            }
        }
        self.bell.ring();
        None
    }

    /// Puts a line into the output.
    pub(super) fn send(&mut self, line: &str) {
        let Some(client) = &mut self.client else {
            return;
        };
        let backlog = client.output.len().saturating_sub(client.sent);
        if backlog.saturating_add(line.len()) > MOST_OUTPUT {
            warn!("qtest: the client does not read what it is sent: it is disconnected");
            client.over = true;
        }
        if client.over {
            return self.bell.ring();
        }
        client.output.extend_from_slice(line.as_bytes());
        client.output.push(b'\n');
    }

    /// Sends as much as goes.
    pub(super) fn flush(&mut self) {
        let Some(client) = &mut self.client else {
            return;
        };
        while !client.over {
            let rest = client.output.get(client.sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match send(&client.stream, rest, SendFlags::NOSIGNAL) {
                Ok(count) => client.sent = client.sent.saturating_add(count),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    client.over = true;
                    self.bell.ring();
                }
            }
        }
        if client.sent > 0 {
            // There may be another request behind the one that was answered, which nobody will
            // announce.
            self.bell.ring();
        }
        client.output.clear();
        client.sent = 0;
    }

    /// Takes the next client in, if there is none.
    fn accept(&mut self, ops: &mut EventOps) {
        let door = self.door.as_ref().filter(|_| self.client.is_none());
        if let Some(stream) = door.and_then(|door| door.admit(ops)) {
            self.seat(stream);
            info!("qtest: a client has connected");
            self.watch(ops);
        }
    }

    fn watch(&mut self, ops: &mut EventOps) {
        if let Some(client) = &self.client {
            let edges = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
            if let Err(error) = ops.add(Events::new(&client.stream, edges)) {
                error!("qtest: cannot watch the client: {error}");
            }
        }
    }

    fn open_door(&mut self, ops: &mut EventOps) {
        if let Some(door) = &self.door {
            door.open(ops);
        }
    }
}

impl MutEventSubscriber for Link {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.bell, EventSet::IN)) {
            error!("qtest: {error}");
        }
        match self.client {
            Some(_) => self.watch(ops),
            None => self.open_door(ops),
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        }
        if let Some(client) = self.client.take_if(|client| client.over) {
            info!("qtest: the client has gone");
            drop(ops.remove(Events::empty(&client.stream)));
            self.open_door(ops);
        }
        if self
            .door
            .as_ref()
            .is_some_and(|door| door.as_raw_fd() == events.fd())
        {
            self.accept(ops);
        }
    }
}

/// Bytes of which lines are made.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    /// Where received bytes end and room begins.
    end: usize,
    /// Where the next line begins, and where the search for its end goes on.
    from: usize,
    searched: usize,
    /// The line's beginning has been thrown away.
    cut: bool,
}

impl Input {
    /// Where to put what is received next.
    fn room(&mut self) -> &mut [u8] {
        self.bytes.resize(self.end.saturating_add(CHUNK), 0);
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// So much of the room has been used.
    fn add(&mut self, count: usize) {
        self.end = self.end.saturating_add(count);
    }

    /// The next line.
    fn line(&mut self) -> Option<Line> {
        let unsearched = self.bytes.get(self.searched..self.end).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.end;
            self.make_room();
            return None;
        };
        let stop = self.searched.saturating_add(at);
        let line = self.bytes.get(self.from..stop).unwrap_or_default().to_vec();
        self.from = stop.saturating_add(1);
        self.searched = self.from;
        let cut = std::mem::take(&mut self.cut) || line.len() > LONGEST_LINE;
        Some(if cut {
            Line::TooLong
        } else {
            Line::Whole(line)
        })
    }

    /// Moves what is left to the front, and throws a line away that has become too long.
    fn make_room(&mut self) {
        self.bytes.truncate(self.end);
        drop(self.bytes.drain(..self.from.min(self.end)));
        if self.bytes.len() > LONGEST_LINE {
            self.cut = true;
            self.bytes.clear();
        }
        if self.bytes.is_empty() {
            // A large block is not kept for the small requests that follow.
            self.bytes.shrink_to(CHUNK);
        }
        (self.from, self.end, self.searched) = (0, self.bytes.len(), self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(input: &mut Input, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = input.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            input.add(count);
            bytes = &bytes[count..];
        }
    }

    fn lines(input: &mut Input) -> Vec<Line> {
        std::iter::from_fn(|| input.line()).collect()
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.into())
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let text = b"endianness\n\ninb 0x70\nin";
        for size in 1..=text.len() {
            let mut input = Input::default();
            let mut found = Vec::new();
            for part in text.chunks(size) {
                feed(&mut input, part);
                found.extend(lines(&mut input));
            }
            assert_eq!(found, [whole("endianness"), whole(""), whole("inb 0x70")]);
            feed(&mut input, b"b 1\n");
            assert_eq!(lines(&mut input), [whole("inb 1")]);
        }
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_than_its_bound() {
        let mut input = Input::default();
        let chunk = vec![b'x'; CHUNK];
        for _ in 0..3 * LONGEST_LINE / CHUNK {
            feed(&mut input, &chunk);
            assert_eq!(lines(&mut input), []);
            assert!(input.bytes.len() <= LONGEST_LINE + 2 * CHUNK);
        }
        feed(&mut input, b"\ninb 1\n");
        assert_eq!(lines(&mut input), [Line::TooLong, whole("inb 1")]);
        assert_eq!(lines(&mut input), []);
        assert!(input.bytes.capacity() <= 2 * CHUNK);
    }
}
