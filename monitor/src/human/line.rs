//! A line, word by word.

/// What has been read of a line and what has not.
#[derive(Debug)]
pub(super) struct Words<'a> {
    line: &'a str,
    read: usize,
}

/// C's white space.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

impl<'a> Words<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        let line = line.trim_start_matches(is_space);
        Words { line, read: 0 }
    }

    /// The next word, if there is one; what names a command ends at a slash too, where a format can
    /// follow.
    pub(super) fn command(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        if rest.is_empty() {
            return None;
        }
        let end = |character| is_space(character) || character == '/';
        let word = rest.split(end).next().unwrap_or_default();
        let start = self.line.len().saturating_sub(rest.len());
        self.read = start.saturating_add(word.len());
        Some(word)
    }

    /// What has not been read, without the white space before it.
    pub(super) fn rest(&self) -> &'a str {
        let rest = self.line.get(self.read..).unwrap_or_default();
        rest.trim_start_matches(is_space)
    }

    /// What has been read.
    pub(super) fn so_far(&self) -> &'a str {
        self.line.get(..self.read).unwrap_or_default()
    }
}
