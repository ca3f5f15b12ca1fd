//! The line as the terminal shows it, brought up to date with as little as possible.
//!
//! A character that is added at the end is sent as it is and nothing with it, so what a program reads
//! that talks to the monitor is what it sent.
//!
//! Source: ECMA-48, 8.3.18 (CUB), 8.3.20 (CUF), 8.3.41 (EL); Unicode Standard Annex 11 (widths).

use unicode_width::UnicodeWidthStr as _;

/// What the terminal shows after the prompt.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    shown: String,
    /// Where the cursor is, in bytes of `shown`.
    cursor: usize,
}

impl Screen {
    /// An empty line.
    pub(super) fn clear(&mut self) {
        self.shown.clear();
        self.cursor = 0;
    }

    /// Makes the terminal show `line` with the cursor before its byte `cursor`.
    pub(super) fn show(&mut self, line: &str, cursor: usize, out: &mut Vec<u8>) {
        let same = common(&self.shown, line);
        if same < line.len() || same < self.shown.len() {
            self.move_to(same, out);
            let rest = line.get(same..).unwrap_or_default();
            out.extend_from_slice(rest.as_bytes());
            if width(rest) < width(self.shown.get(same..).unwrap_or_default()) {
                out.extend_from_slice(b"\x1b[K");
            }
            self.shown.truncate(same);
            self.shown.push_str(rest);
            self.cursor = self.shown.len();
        }
        self.move_to(cursor, out);
    }

    fn move_to(&mut self, cursor: usize, out: &mut Vec<u8>) {
        let cursor = cursor.min(self.shown.len());
        let (from, to) = (cursor.min(self.cursor), cursor.max(self.cursor));
        let columns = width(self.shown.get(from..to).unwrap_or_default());
        let direction = if cursor < self.cursor { 'D' } else { 'C' };
        if columns > 0 {
            out.extend_from_slice(format!("\x1b[{columns}{direction}").as_bytes());
        }
        self.cursor = cursor;
    }
}

/// Columns of a terminal.
fn width(text: &str) -> usize {
    text.width()
}

/// The length of what both begin with, in bytes.
fn common(one: &str, other: &str) -> usize {
    one.chars()
        .zip(other.chars())
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len_utf8())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(steps: &[(&str, usize)]) -> String {
        let mut screen = Screen::default();
        let mut out = Vec::new();
        for (line, cursor) in steps {
            out.clear();
            screen.show(line, *cursor, &mut out);
        }
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn what_is_added_at_the_end_is_sent_alone() {
        assert_eq!(steps(&[("inf", 3), ("info", 4)]), "o");
        assert_eq!(steps(&[("inf", 3), ("inf", 3)]), "");
    }

    #[test]
    fn what_changes_in_the_middle_is_written_anew() {
        assert_eq!(steps(&[("ab", 1), ("xb", 1)]), "\x1b[1Dxb\x1b[1D");
        assert_eq!(steps(&[("abc", 3), ("ab", 2)]), "\x1b[1D\x1b[K");
        assert_eq!(steps(&[("abc", 0), ("abc", 3)]), "\x1b[3C");
    }

    #[test]
    fn wide_characters_have_two_columns() {
        assert_eq!(steps(&[("\u{6f22}", 3), ("", 0)]), "\x1b[2D\x1b[K");
    }
}
