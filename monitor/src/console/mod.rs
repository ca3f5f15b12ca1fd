//! A person at the human monitor: bytes of a terminal in, bytes for a terminal out, without any I/O.
//!
//! ```text
//!   bytes ──▶ keys ──▶ editor ──▶ a line ──▶ human::Console ──▶ text and the next prompt
//!                        │  history, completion
//!                        ▼
//!                     screen ──▶ bytes
//! ```
//!
//! Whoever has a stream to a person moves the bytes: a terminal in raw mode, a socket, a serial line
//! that is shared with a guest. Editing is by `rustyline`'s line buffer, but the terminal is never
//! asked for anything: it may be a program at the other end of a socket.
//!
//! The rule that must never be broken: **one line is executed at a time, and nothing waits for whoever
//! reads**. While a line waits for its turn, or too much output waits to be taken, no input is.
//!
//! Source: QEMU 7.2 as its user sees it: prompt, keys, length of line and history.

mod editor;
mod keys;
mod screen;

use crate::human;
use editor::{Edited, Editor};
use keys::{Decoder, Key};
use screen::Screen;

/// Bytes of output that may wait. While there are more, no input is taken.
const OUTPUT_ROOM: usize = 64 * 1024;

/// The prompt that QEMU has, and programs look for.
const PROMPT: &str = "(qemu) ";

/// One person's conversation with the human monitor.
///
/// # Example
///
/// ```
/// use monitor::console::Conversation;
/// use monitor::human::Console;
///
/// let mut commands: Console<u32> = Console::new();
/// commands.info("count", "show the counter", |counter, _| Ok(format!("{counter}\n")));
///
/// let mut person = Conversation::new("my-vmm 1.0.0");
/// person.feed(b"i\tco\t\r", &commands);
/// person.execute(&commands, &mut 7);
/// person.finish();
/// assert_eq!(
///     std::str::from_utf8(person.output()),
///     Ok("my-vmm 1.0.0 monitor - type 'help' for more information\r\n\
///         (qemu) info count \r\n7\r\n(qemu) ")
/// );
/// ```
#[derive(Debug)]
pub struct Conversation {
    decoder: Decoder,
    editor: Editor,
    screen: Screen,
    greeting: String,
    output: Vec<u8>,
    /// A line that waits for its turn.
    pending: Option<String>,
    /// What it was answered with.
    answer: Option<String>,
    /// The line was longer than it may be: it is not executed.
    too_long: bool,
    greeted: bool,
}

impl Conversation {
    /// A conversation that has just begun: greeting and prompt wait to be shown. `name` is that of the
    /// VMM, with its version.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut this = Conversation::silent(name);
        this.greet();
        this
    }

    /// A conversation on a terminal that somebody else has at first: nothing is shown before
    /// [`Conversation::enter`].
    #[must_use]
    pub fn silent(name: &str) -> Self {
        Conversation {
            decoder: Decoder::default(),
            editor: Editor::new(),
            screen: Screen::default(),
            greeting: format!("{name} monitor - type 'help' for more information\r\n"),
            output: Vec::new(),
            pending: None,
            answer: None,
            too_long: false,
            greeted: false,
        }
    }

    /// Begins again, for the next person: what was typed, the history and waiting output are forgotten.
    pub fn restart(&mut self) {
        self.decoder = Decoder::default();
        self.editor.reset();
        self.output.clear();
        self.pending = None;
        self.answer = None;
        self.too_long = false;
        self.greet();
    }

    fn greet(&mut self) {
        self.greeted = true;
        self.output.extend_from_slice(self.greeting.as_bytes());
        self.prompt();
    }

    /// The person has come to the monitor on a terminal that others write on too: shows prompt and line
    /// below what is there, after the greeting the first time.
    pub fn enter(&mut self) {
        self.output.extend_from_slice(b"\r\n");
        if !self.greeted {
            self.greet();
        } else if self.pending.is_none() {
            self.prompt();
        }
    }

    /// The person has left the monitor, and others go on writing on the terminal: ends the line. What was
    /// typed is there when the person comes back.
    pub fn leave(&mut self) {
        self.output.extend_from_slice(b"\r\n");
    }

    /// The VMM ends: shows the last answer, without a prompt. What waits for its turn is dropped.
    pub fn end(&mut self) {
        self.pending = None;
        let text = self.answer.take();
        let text = text.unwrap_or_else(|| "\r\n".to_owned());
        self.output.extend_from_slice(text.as_bytes());
    }

    /// The prompt, and what has been typed so far.
    fn prompt(&mut self) {
        self.output.extend_from_slice(PROMPT.as_bytes());
        self.screen.clear();
        self.show();
    }

    fn show(&mut self) {
        let (line, cursor) = (self.editor.line(), self.editor.cursor());
        self.screen.show(line, cursor, &mut self.output);
    }

    /// Whether [`Conversation::feed`] would take anything.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        self.pending.is_none() && self.answer.is_none() && self.output.len() <= OUTPUT_ROOM
    }

    /// Takes input up to the end of the next line. Returns how many bytes were used; none are while a
    /// line waits for [`Conversation::execute`], or 64 KiB of output to be taken. `commands` is what
    /// words are completed from.
    pub fn feed<C>(&mut self, input: &[u8], commands: &human::Console<C>) -> usize {
        let mut used: usize = 0;
        for &byte in input {
            if !self.takes_input() {
                break;
            }
            for key in self.decoder.feed(byte).into_iter().flatten() {
                self.press(key, commands);
            }
            used = used.saturating_add(1);
        }
        used
    }

    fn press<C>(&mut self, key: Key, commands: &human::Console<C>) {
        match key {
            Key::Complete => return self.complete(commands),
            Key::Redraw => {
                self.output.extend_from_slice(b"\x1b[2J\x1b[1;1H");
                return self.prompt();
            }
            _ => {}
        }
        match self.editor.press(key) {
            Edited::Line => self.show(),
            Edited::Full => {
                self.too_long = true;
                self.output.push(BELL);
            }
            Edited::Cancelled => {
                self.too_long = false;
                self.output.extend_from_slice(b"\r\n");
                self.prompt();
            }
            Edited::Enter(line) => {
                self.output.extend_from_slice(b"\r\n");
                if std::mem::take(&mut self.too_long) {
                    let longest = editor::LONGEST_LINE;
                    let text =
                        format!("line too long: at most {longest} bytes, it was dropped\r\n");
                    self.output.extend_from_slice(text.as_bytes());
                    self.prompt();
                } else {
                    self.pending = Some(line);
                }
            }
        }
    }

    /// Completes the word before the cursor as far as there is one way to go on; lists the ways if there
    /// are several.
    fn complete<C>(&mut self, commands: &human::Console<C>) {
        let completion = commands.complete(self.editor.before_cursor());
        if completion.added.is_empty() && completion.words.len() > 1 {
            self.output.extend_from_slice(b"\r\n");
            for word in &completion.words {
                self.output.extend_from_slice(word.as_bytes());
                self.output.extend_from_slice(b"\r\n");
            }
            return self.prompt();
        }
        if !self.editor.insert(&completion.added) {
            self.output.push(BELL);
        }
        self.show();
    }

    /// Whether a line waits for [`Conversation::execute`].
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Executes the line that waits, if there is one. What it is answered with is shown by
    /// [`Conversation::finish`], once the VMM has acted on it.
    pub fn execute<C>(&mut self, commands: &human::Console<C>, context: &mut C) {
        if let Some(line) = self.pending.take() {
            self.answer = Some(commands.run(context, &line, 0));
        }
    }

    /// Shows the answer of the line that was executed, and the next prompt. Returns whether there was
    /// one.
    pub fn finish(&mut self) -> bool {
        let Some(answer) = self.answer.take() else {
            return false;
        };
        self.output.extend_from_slice(answer.as_bytes());
        self.prompt();
        true
    }

    /// What is to be written to the person.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `count` bytes of [`Conversation::output`] have been written.
    pub fn written(&mut self, count: usize) {
        self.output.drain(..count.min(self.output.len()));
    }
}

/// What a terminal makes a sound for.
const BELL: u8 = 0x07;
