//! The user's terminal, or whatever standard input and output are, at the other end.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use devices::{Output, OutputRing};
use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, info, warn};
use vmm_sys_util::epoll::EventSet;

use super::feed::{Feed, Receiver};
use super::flow::{Drain, Flow, discard};
use super::{Backend, Line};
use crate::doorbell::Doorbell;
use crate::stream::Stream;
use crate::terminal::{Escape, HELP, Key};

/// What to do when the user asks for the end.
pub(crate) type KeyAction = Box<dyn Fn()>;

/// How many reads one call of the main loop is worth.
const MOST_READS: usize = 16;

/// Where input comes from.
struct Input {
    stream: Stream,
    feed: Feed,
    /// Escape sequences, if the stream is a terminal.
    escape: Option<(Escape, KeyAction)>,
    /// Whether the main loop watches the stream now.
    watched: bool,
    /// Whether it can be watched at all: a regular file is always ready, and epoll refuses it.
    watchable: bool,
}

/// Standard input and output.
pub(crate) struct StdioBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
    drain: Drain,
    stdout: Option<Stream>,
    blocked: bool,
    input: Option<Input>,
    receiver: Rc<dyn Receiver>,
}

impl StdioBackend {
    /// Connects `line` and `receiver` to the standard streams. With `quit`, escape sequences are
    /// looked for, and it is called for the one that ends the program.
    pub(crate) fn new(line: &Line, receiver: Rc<dyn Receiver>, quit: Option<KeyAction>) -> Self {
        let input = match Stream::stdin() {
            Ok(stream) => Some(Input {
                stream,
                feed: Feed::default(),
                escape: quit.map(|action| (Escape::default(), action)),
                watched: false,
                watchable: true,
            }),
            Err(error) => {
                info!("serial: no input, for standard input is closed: {error}");
                None
            }
        };
        let stdout = Stream::stdout()
            .inspect_err(|error| info!("serial: no output, for standard output is closed: {error}"))
            .ok();
        Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
            drain: Drain::default(),
            stdout,
            blocked: false,
            input,
            receiver,
        }
    }

    fn flush(&mut self, ops: &mut EventOps) {
        let Some(stdout) = &mut self.stdout else {
            return discard(&self.output);
        };
        let watch = Events::new_raw(stdout.as_fd().as_raw_fd(), EventSet::OUT);
        let blocked = match self.drain.flush(&self.output, stdout) {
            Flow::Empty => false,
            Flow::Blocked => true,
            Flow::Failed(error) => {
                warn!("serial: standard output is gone, output is discarded: {error}");
                self.drain.forget();
                if self.blocked {
                    drop(ops.remove(watch));
                }
                self.stdout = None;
                return discard(&self.output);
            }
        };
        let changed = match (blocked, self.blocked) {
            (true, false) => ops.add(watch),
            (false, true) => ops.remove(watch),
            _ => return,
        };
        self.blocked = blocked && changed.is_ok();
    }

    /// Reads what is there and what the UART has room for.
    fn pump(&mut self, ops: &mut EventOps) {
        let Some(input) = &mut self.input else { return };
        let mut turns = 0..MOST_READS;
        let more = loop {
            input.feed.retry(&*self.receiver);
            let appetite = input.feed.appetite(&*self.receiver);
            if appetite == 0 {
                break Some(false);
            }
            // Let the main loop do something else, and come back.
            if turns.next().is_none() {
                self.bell.ring();
                break Some(true);
            }
            let mut buf = vec![0; appetite];
            match input.stream.read(&mut buf) {
                Ok(0) => break None,
                Ok(count) => {
                    let bytes = buf.get(..count).unwrap_or_default();
                    take(input, bytes, &*self.receiver, &self.output);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Some(true),
                // A terminal that was hung up answers EIO.
                Err(_) => break None,
            }
        };
        let watch = Events::new_raw(input.stream.as_fd().as_raw_fd(), EventSet::IN);
        match more {
            // The end of the input. Watched further it would be ready for ever.
            None => {
                if input.watched {
                    drop(ops.remove(watch));
                }
                self.input = None;
            }
            Some(wanted) => input.watch(wanted, watch, ops),
        }
    }
}

impl Input {
    /// Watches the stream if more is wanted, and only then.
    fn watch(&mut self, wanted: bool, watch: Events, ops: &mut EventOps) {
        if !self.watchable || wanted == self.watched {
            return;
        }
        let changed = if wanted {
            ops.add(watch)
        } else {
            ops.remove(watch)
        };
        match changed {
            Ok(()) => self.watched = wanted,
            Err(_) => self.watchable = false,
        }
    }
}

/// Passes what was read to the guest, without the escape sequences.
fn take(input: &mut Input, bytes: &[u8], receiver: &dyn Receiver, output: &OutputRing) {
    let Some((escape, quit)) = &mut input.escape else {
        return input.feed.push(bytes, receiver);
    };
    let mut guest = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match escape.feed(byte) {
            Some(Key::Guest(byte)) => guest.push(byte),
            Some(Key::Quit) => quit(),
            Some(Key::Help) => {
                output.write(HELP.as_bytes());
            }
            None => {}
        }
    }
    input.feed.push(&guest, receiver);
}

impl MutEventSubscriber for StdioBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
        self.pump(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == self.bell.as_raw_fd() {
            self.bell.silence();
        }
        self.flush(ops);
        self.pump(ops);
    }
}

impl Backend for StdioBackend {
    fn finish(&mut self, patience: Duration) -> u64 {
        match &mut self.stdout {
            Some(stdout) => self.drain.finish(&self.output, stdout, patience),
            None => self.output.dropped(),
        }
    }
}
