//! Keys, from the bytes that a terminal sends for them.
//!
//! ```text
//!   ground ──ESC──▶ escape ──[──▶ sequence ──digit, ;──▶ sequence
//!     ▲               │    ──O──▶    │
//!     └───────────────┴── a key or nothing
//! ```
//!
//! The rule that must never be broken: **what is not understood is never left out of a word**. A byte
//! that is no text becomes U+FFFD, so that a command with a byte too many is unknown, and is not
//! another one.
//!
//! Source: ECMA-48, 5.4 (control sequences); what xterm sends for its keys; RFC 3629 (UTF-8).

/// What a person means by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// A character to be put into the line.
    Character(char),
    Enter,
    Complete,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Earlier,
    Later,
    KillToEnd,
    KillToStart,
    KillWordLeft,
    KillWordRight,
    Yank,
    Transpose,
    /// Forget the line.
    Cancel,
    /// Show the line again, on an empty screen.
    Redraw,
}

/// The character that stands for a byte that is no text.
const NO_TEXT: Key = Key::Character(char::REPLACEMENT_CHARACTER);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// A carriage return was the last byte: a line feed or a zero byte belongs to it.
    Returned,
    Escape,
    /// In a control sequence. Its last two parameters; those before do not count.
    Sequence {
        before: u16,
        last: u16,
    },
    /// Inside a character of several bytes.
    Character,
}

/// Finds the keys among the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Decoder {
    state: State,
    /// The bytes of an unfinished character.
    partial: [u8; 4],
    length: usize,
}

/// What one byte has brought: a character that came to nothing may end with the first byte of a key.
pub(super) type Keys = [Option<Key>; 2];

impl Decoder {
    /// Takes one byte.
    pub(super) fn feed(&mut self, byte: u8) -> Keys {
        match std::mem::take(&mut self.state) {
            State::Returned if matches!(byte, b'\n' | 0) => [None, None],
            State::Ground | State::Returned => [self.ground(byte), None],
            State::Escape => [self.escape(byte), None],
            State::Sequence { before, last } => [self.sequence(byte, before, last), None],
            State::Character => self.character(byte),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Cancel,
            0x04 => Key::Delete,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Complete,
            b'\n' => Key::Enter,
            0x0b => Key::KillToEnd,
            0x0c => Key::Redraw,
            b'\r' => {
                self.state = State::Returned;
                Key::Enter
            }
            0x0e => Key::Later,
            0x10 => Key::Earlier,
            0x14 => Key::Transpose,
            0x15 => Key::KillToStart,
            0x17 => Key::KillWordLeft,
            0x19 => Key::Yank,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x20..=0x7e => Key::Character(byte.into()),
            // The first byte of two, three or four.
            0xc2..=0xf4 => {
                self.partial = [byte, 0, 0, 0];
                self.length = 1;
                self.state = State::Character;
                return None;
            }
            0x80.. => NO_TEXT,
            // Other control characters mean nothing, and do not print.
            _ => return None,
        })
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' | b'O' => {
                self.state = State::Sequence { before: 0, last: 0 };
                None
            }
            b'b' => Some(Key::WordLeft),
            b'f' => Some(Key::WordRight),
            b'd' => Some(Key::KillWordRight),
            0x7f | 0x08 => Some(Key::KillWordLeft),
            0x1b => {
                self.state = State::Escape;
                None
            }
            0x20..=0x7e => None,
            // The sequence came to nothing, and this byte is one by itself.
            _ => self.ground(byte),
        }
    }

    fn sequence(&mut self, byte: u8, before: u16, last: u16) -> Option<Key> {
        match byte {
            b'0'..=b'9' => {
                let digit = u16::from(byte.saturating_sub(b'0'));
                let last = last.saturating_mul(10).saturating_add(digit);
                self.state = State::Sequence { before, last };
                None
            }
            b';' => {
                let (before, last) = (last, 0);
                self.state = State::Sequence { before, last };
                None
            }
            // Other parameters and intermediate bytes.
            0x20..=0x3f => {
                self.state = State::Sequence { before, last };
                None
            }
            // With a second parameter, a modifier was pressed: 3 is Alt, 5 is Control.
            b'C' if before > 0 => Some(Key::WordRight),
            b'D' if before > 0 => Some(Key::WordLeft),
            b'A' => Some(Key::Earlier),
            b'B' => Some(Key::Later),
            b'C' => Some(Key::Right),
            b'D' => Some(Key::Left),
            b'H' => Some(Key::Home),
            b'F' => Some(Key::End),
            b'~' => match if before > 0 { before } else { last } {
                1 | 7 => Some(Key::Home),
                3 => Some(Key::Delete),
                4 | 8 => Some(Key::End),
                _ => None,
            },
            0x40..=0x7e => None,
            _ => self.ground(byte),
        }
    }

    fn character(&mut self, byte: u8) -> Keys {
        if !(0x80..=0xbf).contains(&byte) {
            // The character ends too early.
            return [Some(NO_TEXT), self.ground(byte)];
        }
        if let Some(place) = self.partial.get_mut(self.length) {
            *place = byte;
            self.length = self.length.saturating_add(1);
        }
        let bytes = self.partial.get(..self.length).unwrap_or_default();
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                let printable = text.chars().next().filter(|c| !c.is_control());
                [printable.map(Key::Character).or(Some(NO_TEXT)), None]
            }
            Err(error) if error.error_len().is_none() => {
                self.state = State::Character;
                [None, None]
            }
            Err(_) => [Some(NO_TEXT), None],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes
            .iter()
            .flat_map(|&byte| decoder.feed(byte))
            .flatten()
            .collect()
    }

    #[test]
    fn text_of_every_width() {
        let text = "a\u{e9}\u{20ac}\u{1f600}";
        let expected: Vec<_> = text.chars().map(Key::Character).collect();
        assert_eq!(keys(text.as_bytes()), expected);
    }

    #[test]
    fn an_end_of_line_is_one_key() {
        assert_eq!(keys(b"\r\n\n\r\0\r"), [Key::Enter; 4]);
    }

    #[test]
    fn sequences_of_terminals() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Earlier),
            (b"\x1bOA", Key::Earlier),
            (b"\x1b[B", Key::Later),
            (b"\x1b[C", Key::Right),
            (b"\x1b[1;5C", Key::WordRight),
            (b"\x1b[1;3D", Key::WordLeft),
            (b"\x1bb", Key::WordLeft),
            (b"\x1b[H", Key::Home),
            (b"\x1b[1~", Key::Home),
            (b"\x1bOF", Key::End),
            (b"\x1b[4~", Key::End),
            (b"\x1b[3~", Key::Delete),
            (b"\x1b[3;5~", Key::Delete),
            (b"\x1b\x7f", Key::KillWordLeft),
            (b"\x1b\x1b[A", Key::Earlier),
        ] {
            assert_eq!(keys(bytes), [key], "{bytes:?}");
        }
    }

    #[test]
    fn sequences_without_a_meaning_leave_no_trace() {
        for bytes in [
            &b"\x1b[?25h"[..],
            b"\x1b[99999999999999999999;;;;~",
            b"\x1b[1;2R",
            b"\x1bx",
            b"\0\x07\x11",
        ] {
            assert_eq!(keys(bytes), [], "{bytes:?}");
        }
        let expected = [Key::Enter, Key::Character('x')];
        assert_eq!(
            keys(b"\x1b[12\rx"),
            expected,
            "a line ends whatever came before"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_seen() {
        for bytes in [
            &b"\xff"[..],
            b"\xc0",
            b"\xed\xa0",
            b"\xf5",
            b"\xc2\x85",
            b"\x80",
        ] {
            assert!(keys(bytes).contains(&NO_TEXT), "{bytes:?}");
        }
        let expected = [Key::Character('q'), NO_TEXT, Key::Character('u')];
        assert_eq!(keys(b"q\xc3u"), expected);
        assert_eq!(keys(b"q\xffu"), expected);
        assert_eq!(keys(b"\xe2\x82\r"), [NO_TEXT, Key::Enter]);
    }
}
