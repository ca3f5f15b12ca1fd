//! The user's terminal, or whatever standard input and output are, at the other end; the monitor may be
//! there too.
//!
//! ```text
//!   stdin --> [Escape] --Ctrl-A c--> who has the keyboard: [Feed] --> UART
//!                                                          [Console]
//!   stdout <-- ring and console, each a piece at a time
//! ```

use std::collections::VecDeque;
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
use crate::console;
use crate::doorbell::Doorbell;
use crate::stream::Stream;
use crate::terminal::{Escape, HELP, HELP_WITH_MONITOR, Key};
use crate::watch::Watch;

/// What to do when the user asks for the end.
pub(crate) type KeyAction = Box<dyn Fn()>;

/// How many reads one call of the main loop is worth.
const MOST_READS: usize = 16;

/// How many bytes are read at once where escape sequences are looked for, and how many may then wait for
/// a guest that does not read: an escape sequence behind them is still found.
const TYPED_AHEAD: usize = 256;

/// Who understands escape sequences, and who may have the keyboard besides the guest.
pub(crate) struct Keyboard {
    /// Called when the user asks for the end.
    pub(crate) quit: KeyAction,
    /// The monitor.
    pub(crate) console: Option<console::Shared>,
}

/// What is done with the keys.
struct Keys {
    escape: Escape,
    quit: KeyAction,
}

/// Where input comes from.
struct Input {
    stream: Stream,
    /// What was read and has not been looked at: the monitor is busy.
    unseen: VecDeque<u8>,
    feed: Feed,
    /// Escape sequences, if they are looked for.
    keys: Option<Keys>,
    /// No more will come.
    ended: bool,
    watch: Watch,
    /// Whether it can be watched at all: a regular file is always ready, and epoll refuses it.
    watchable: bool,
}

/// The monitor, on the same streams.
struct Mux {
    console: console::Shared,
    /// It has the keyboard.
    focus: bool,
}

/// Standard input and output.
pub(crate) struct StdioBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
    drain: Drain,
    stdout: Option<Stream>,
    room: Watch,
    input: Option<Input>,
    mux: Option<Mux>,
    receiver: Rc<dyn Receiver>,
}

impl StdioBackend {
    /// Connects `line` and `receiver` to the standard streams. With `keyboard`, escape sequences are
    /// looked for.
    pub(crate) fn new(line: &Line, receiver: Rc<dyn Receiver>, keyboard: Option<Keyboard>) -> Self {
        let (keys, console) = match keyboard {
            None => (None, None),
            Some(Keyboard { quit, console }) => {
                let escape = Escape::default();
                (Some(Keys { escape, quit }), console)
            }
        };
        let input = match Stream::stdin() {
            Ok(stream) => Some(Input {
                stream,
                unseen: VecDeque::new(),
                feed: Feed::default(),
                keys,
                ended: false,
                watch: Watch::default(),
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
            room: Watch::default(),
            input,
            mux: console.map(|console| Mux {
                console,
                focus: false,
            }),
            receiver,
        }
    }

    fn flush(&mut self, ops: &mut EventOps) {
        let mux = self.mux.as_ref();
        let mut between = |out: &mut dyn std::io::Write| flush_console(mux, out);
        let Some(stdout) = &mut self.stdout else {
            if let Some(mux) = mux {
                mux.console.borrow_mut().discard();
            }
            return discard(&self.output);
        };
        let blocked = match self.drain.flush_with(&self.output, stdout, &mut between) {
            Flow::Empty => false,
            Flow::Blocked => true,
            Flow::Failed(error) => {
                warn!("serial: standard output is gone, output is discarded: {error}");
                self.drain.forget();
                drop(self.room.set(&stdout.as_fd(), None, ops));
                self.stdout = None;
                return discard(&self.output);
            }
        };
        let wanted = blocked.then_some(EventSet::OUT);
        // If it cannot, the next output is another try.
        drop(self.room.set(&stdout.as_fd(), wanted, ops));
    }

    /// Reads what is there and what those who have the keyboard have room for.
    fn pump(&mut self, ops: &mut EventOps) {
        let Some(input) = &mut self.input else { return };
        let mut turns = 0..MOST_READS;
        let more = loop {
            input.feed.retry(&*self.receiver);
            input.route(&mut self.mux, &*self.receiver, &self.output);
            let appetite = input.appetite(&*self.receiver);
            if appetite == 0 {
                break (!input.is_over()).then_some(false);
            }
            // Let the main loop do something else, and come back.
            if turns.next().is_none() {
                self.bell.ring();
                break Some(true);
            }
            let mut buf = vec![0; appetite];
            match input.stream.read(&mut buf) {
                Ok(0) => input.ended = true,
                Ok(count) => input.unseen.extend(buf.iter().take(count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Some(true),
                // A terminal that was hung up answers EIO.
                Err(_) => input.ended = true,
            }
        };
        // At the end of the input it would be ready for ever.
        input.watch(more.unwrap_or_default(), ops);
        if more.is_none() {
            self.input = None;
        }
    }
}

impl Input {
    /// How many bytes to read now.
    fn appetite(&self, receiver: &dyn Receiver) -> usize {
        if self.ended || !self.unseen.is_empty() {
            0
        } else if self.keys.is_some() {
            TYPED_AHEAD.saturating_sub(self.feed.waiting())
        } else {
            self.feed.appetite(receiver)
        }
    }

    /// Whether all that came was passed on, and no more will come.
    fn is_over(&self) -> bool {
        self.ended && self.unseen.is_empty() && self.feed.waiting() == 0
    }

    /// Passes on what was read: escape sequences are obeyed, the rest is for who has the keyboard.
    fn route(&mut self, mux: &mut Option<Mux>, receiver: &dyn Receiver, output: &OutputRing) {
        let Some(keys) = &mut self.keys else {
            let bytes: Vec<_> = self.unseen.drain(..).collect();
            return self.feed.push(&bytes, receiver);
        };
        let mut guest = Vec::new();
        loop {
            // What follows a line is for after its execution.
            let focus = mux.as_ref().filter(|mux| mux.focus);
            if focus.is_some_and(|mux| !mux.console.borrow().takes_input()) {
                break;
            }
            let Some(byte) = self.unseen.pop_front() else {
                break;
            };
            match (keys.escape.feed(byte), mux.as_mut()) {
                (Some(Key::Byte(byte)), Some(mux)) if mux.focus => {
                    mux.console.borrow_mut().feed(&[byte]);
                }
                (Some(Key::Byte(byte)), _) => guest.push(byte),
                (Some(Key::Break), _) => {
                    self.feed.push(&guest, receiver);
                    guest.clear();
                    receiver.receive_break();
                }
                (Some(Key::Quit), _) => (keys.quit)(),
                (Some(Key::Help), mux) => {
                    let text = mux.map_or(HELP, |_| HELP_WITH_MONITOR);
                    output.write(text.as_bytes());
                }
                (Some(Key::Switch), Some(mux)) => mux.switch(),
                (Some(Key::Switch) | None, _) => {}
            }
        }
        self.feed.push(&guest, receiver);
    }

    /// Watches the stream if more is wanted, and only then.
    fn watch(&mut self, wanted: bool, ops: &mut EventOps) {
        if self.watchable {
            let wanted = wanted.then_some(EventSet::IN);
            let changed = self.watch.set(&self.stream.as_fd(), wanted, ops);
            self.watchable = changed.is_ok();
        }
    }
}

impl Mux {
    fn switch(&mut self) {
        self.focus = !self.focus;
        let mut console = self.console.borrow_mut();
        if self.focus {
            console.enter();
        } else {
            console.leave();
        }
    }
}

/// Writes what the monitor has to say.
fn flush_console(mux: Option<&Mux>, out: &mut dyn std::io::Write) -> Flow {
    mux.map_or(Flow::Empty, |mux| mux.console.borrow_mut().flush(out))
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
        if self.mux.is_some() {
            // What was typed is shown.
            self.flush(ops);
        }
    }
}

impl Backend for StdioBackend {
    fn finish(&mut self, patience: Duration) -> u64 {
        let mux = self.mux.as_ref();
        if let Some(mux) = mux {
            mux.console.borrow_mut().end();
        }
        let mut between = |out: &mut dyn std::io::Write| flush_console(mux, out);
        match &mut self.stdout {
            Some(stdout) => self
                .drain
                .finish_with(&self.output, stdout, &mut between, patience),
            None => self.output.dropped(),
        }
    }
}
