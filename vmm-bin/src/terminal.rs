//! The user's terminal: raw while the guest has it, and always given back as it was.
//!
//! Raw mode is entered only when standard input is a terminal. Three things end it, and each
//! restores it: the guard's drop, a panic, and the signal handler that ends the process
//! ([`restore`] is async-signal-safe). Output processing stays on, so that log lines look right.
//!
//! ```text
//!   keyboard --> [Escape] --> byte for the guest, or the monitor
//!                   |
//!                   +-- Ctrl-A x       end the program
//!                   +-- Ctrl-A c       turn to the monitor, or back to the guest
//!                   +-- Ctrl-A h       show these keys
//!                   +-- Ctrl-A Ctrl-A  one Ctrl-A
//! ```
//!
//! The rule that must never be broken: whoever changes the terminal has saved it before.

use std::io;
use std::sync::OnceLock;

use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// The character that begins an escape sequence: Ctrl-A.
const ESCAPE: u8 = 0x01;
/// A special character that is switched off (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;

/// What `Ctrl-A h` shows.
pub(crate) const HELP: &str = "\n\
    Ctrl-A x       end the VM and this program\n\
    Ctrl-A b       send a break\n\
    Ctrl-A h       show this help\n\
    Ctrl-A Ctrl-A  send Ctrl-A to the guest\n";

/// The same, where the monitor is on the terminal too.
pub(crate) const HELP_WITH_MONITOR: &str = "\r\n\
    Ctrl-A x       end the VM and this program\r\n\
    Ctrl-A c       turn to the monitor, or back to the guest\r\n\
    Ctrl-A b       send the guest a break\r\n\
    Ctrl-A h       show this help\r\n\
    Ctrl-A Ctrl-A  send Ctrl-A\r\n";

/// The terminal as it was found. A terminal is one for the whole process, and so is this.
static SAVED: OnceLock<Termios> = OnceLock::new();

/// Who gets Ctrl-C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// The guest, as any other key: what an operating system's console wants.
    Guest,
    /// This program, as SIGINT: for a guest that has no use for it.
    Host,
}

/// Raw mode, for as long as this lives.
#[derive(Debug)]
#[must_use = "the terminal is restored when this is dropped"]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes standard input raw; `None` if it is no terminal.
    ///
    /// # Errors
    /// What the terminal says.
    pub(crate) fn enter(interrupt: Interrupt) -> io::Result<Option<Self>> {
        let stdin = rustix::stdio::stdin();
        let Ok(found) = tcgetattr(stdin) else {
            return Ok(None);
        };
        let saved = SAVED.get_or_init(|| found);
        let mut raw = saved.clone();
        raw.input_modes.remove(
            InputModes::IGNBRK
                | InputModes::BRKINT
                | InputModes::PARMRK
                | InputModes::ISTRIP
                | InputModes::INLCR
                | InputModes::IGNCR
                | InputModes::ICRNL
                | InputModes::IXON,
        );
        raw.local_modes.remove(
            LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::IEXTEN,
        );
        match interrupt {
            Interrupt::Guest => raw.local_modes.remove(LocalModes::ISIG),
            Interrupt::Host => {
                raw.local_modes.insert(LocalModes::ISIG);
                raw.special_codes[SpecialCodeIndex::VQUIT] = DISABLED;
                raw.special_codes[SpecialCodeIndex::VSUSP] = DISABLED;
            }
        }
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        let guard = Self(());
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        restore_on_panic();
        Ok(Some(guard))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal back as it was found. Does nothing if it was never changed.
///
/// Async-signal-safe: one atomic load and one system call.
pub(crate) fn restore() {
    if let Some(saved) = SAVED.get() {
        // There is nobody to tell when the terminal itself is gone.
        let _gone = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved);
    }
}

/// A panic may abort the process, and then no guard is dropped.
fn restore_on_panic() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        next(info);
    }));
}

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A byte for who has the keyboard.
    Byte(u8),
    /// A break for the guest, whoever has the keyboard.
    Break,
    /// End the program.
    Quit,
    /// Show [`HELP`].
    Help,
    /// The keyboard goes to the monitor, or back to the guest.
    Switch,
}

/// Finds the escape sequences among the keys.
#[derive(Debug, Default)]
pub(crate) struct Escape {
    armed: bool,
}

impl Escape {
    /// Takes one byte from the keyboard; `None` when it only continues a sequence, or when the
    /// sequence means nothing.
    pub(crate) fn feed(&mut self, byte: u8) -> Option<Key> {
        if !self.armed {
            self.armed = byte == ESCAPE;
            return (!self.armed).then_some(Key::Byte(byte));
        }
        self.armed = false;
        match byte {
            b'x' | b'X' => Some(Key::Quit),
            b'b' | b'B' => Some(Key::Break),
            b'h' | b'H' | b'?' => Some(Key::Help),
            b'c' | b'C' => Some(Key::Switch),
            ESCAPE => Some(Key::Byte(ESCAPE)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(input: &[u8]) -> Vec<Key> {
        let mut escape = Escape::default();
        input.iter().filter_map(|&byte| escape.feed(byte)).collect()
    }

    #[test]
    fn ordinary_bytes_reach_the_guest() {
        assert_eq!(
            keys(b"a\x03\xff"),
            [Key::Byte(b'a'), Key::Byte(3), Key::Byte(0xff)]
        );
    }

    #[test]
    fn the_escape_sequences() {
        assert_eq!(keys(b"\x01x"), [Key::Quit]);
        assert_eq!(keys(b"\x01h\x01?"), [Key::Help, Key::Help]);
        assert_eq!(keys(b"\x01bb"), [Key::Break, Key::Byte(b'b')]);
        assert_eq!(keys(b"\x01\x01x"), [Key::Byte(1), Key::Byte(b'x')]);
        assert_eq!(
            keys(b"\x01zx"),
            [Key::Byte(b'x')],
            "an unknown sequence is swallowed"
        );
        assert_eq!(keys(b"\x01"), [], "half a sequence waits");
    }
}
