//! People at the human monitor: `--monitor`, and `--serial mon:stdio`.
//!
//! ```text
//!   stream | keyboard --bytes--> [Console] --line--> main loop's turn --text--> stream | screen
//!                                    '--- bell: output waits, input is taken again
//! ```
//!
//! The crate `monitor` edits the lines and knows the commands; here they get their streams and their
//! turns.
//!
//! The rule that must never be broken: a line is executed in the main loop's turn, one for each console
//! and turn, and nobody waits for who reads the answer.

mod stream;

use std::cell::RefCell;
use std::io::{ErrorKind, Write};
use std::rc::Rc;
use std::sync::Arc;

use devices::Notify;
use monitor::console::Conversation;
use monitor::human;

use crate::qmp::{Context, version};
use crate::serial::Flow;

pub(crate) use stream::StreamConsole;

/// The commands for people.
pub(crate) type Commands = human::Console<Context>;

/// One console: whoever moves its bytes shares it with the main loop.
pub(crate) type Shared = Rc<RefCell<Console>>;

/// A conversation, and how to get the attention of whoever moves its bytes.
pub(crate) struct Console {
    conversation: Conversation,
    commands: Rc<Commands>,
    bell: Arc<dyn Notify>,
    /// Somebody sees it.
    entered: bool,
}

impl Console {
    /// A console that is not shown to anybody yet. `bell` is rung when there is output that nobody was
    /// told of, or when input is taken again.
    pub(crate) fn new(commands: &Rc<Commands>, bell: Arc<dyn Notify>) -> Shared {
        Rc::new(RefCell::new(Self {
            conversation: Conversation::silent(&name()),
            commands: Rc::clone(commands),
            bell,
            entered: false,
        }))
    }

    /// Begins a conversation with somebody new.
    pub(crate) fn begin(&mut self) {
        self.conversation.restart();
        self.entered = true;
    }

    /// The person turns to the monitor, on a terminal that others write on.
    pub(crate) fn enter(&mut self) {
        self.conversation.enter();
        self.entered = true;
    }

    /// The person turns away from it.
    pub(crate) fn leave(&mut self) {
        self.conversation.leave();
        self.entered = false;
    }

    /// Whether [`Console::feed`] takes anything.
    pub(crate) fn takes_input(&self) -> bool {
        self.conversation.takes_input()
    }

    /// Takes what was typed, up to the end of a line; returns how many bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> usize {
        self.conversation.feed(bytes, &self.commands)
    }

    /// Whether there is nothing to execute and nothing to show.
    pub(crate) fn is_idle(&self) -> bool {
        self.takes_input() && self.conversation.output().is_empty()
    }

    /// Writes what waits, as far as `out` takes it.
    pub(crate) fn flush(&mut self, out: &mut dyn Write) -> Flow {
        while !self.conversation.output().is_empty() {
            match out.write(self.conversation.output()) {
                Ok(0) => return Flow::Failed(ErrorKind::WriteZero.into()),
                Ok(count) => self.conversation.written(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Blocked,
                Err(error) => return Flow::Failed(error),
            }
        }
        Flow::Empty
    }

    /// Forgets what waits: nobody will read it.
    pub(crate) fn discard(&mut self) {
        self.conversation.written(usize::MAX);
    }

    /// Executes the line that waits, if there is one.
    pub(crate) fn dispatch(&mut self, context: &mut Context) {
        self.conversation.execute(&self.commands, context);
    }

    /// Shows the answer, once the lifecycle has acted on the line.
    pub(crate) fn finish_turn(&mut self) {
        if self.conversation.finish() {
            self.bell.notify();
        }
    }

    /// The VM has ended: the last answer, if anybody sees it.
    pub(crate) fn end(&mut self) {
        if self.entered {
            self.conversation.end();
        }
    }
}

/// What the greeting says that this is.
fn name() -> String {
    let version = version();
    format!(
        "{} {}.{}.{}",
        version.package, version.major, version.minor, version.micro
    )
}
