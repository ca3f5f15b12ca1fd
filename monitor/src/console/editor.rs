//! The line that is being edited, and those before it.

use super::keys::Key;
use rustyline::line_buffer::{ChangeListener, DeleteListener, Direction, LineBuffer};
use rustyline::{At, Movement, Word};
use std::collections::VecDeque;

/// Bytes of a line. QEMU's monitor takes as many.
pub(super) const LONGEST_LINE: usize = 4095;

/// Lines that are remembered, as in QEMU.
const HISTORY: usize = 64;

/// What a key has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Edited {
    /// The line has changed, or the place in it.
    Line,
    /// There is no room for that.
    Full,
    /// The line is complete.
    Enter(String),
    /// It was given up.
    Cancelled,
}

/// Keeps what was deleted in one piece, so that it can be put back.
#[derive(Debug, Default)]
struct Killed {
    text: String,
    killing: bool,
}

impl DeleteListener for Killed {
    fn start_killing(&mut self) {
        self.killing = true;
        self.text.clear();
    }

    fn delete(&mut self, _: usize, text: &str, direction: Direction) {
        if self.killing {
            match direction {
                Direction::Forward => self.text.push_str(text),
                Direction::Backward => self.text.insert_str(0, text),
            }
        }
    }

    fn stop_killing(&mut self) {
        self.killing = false;
    }
}

impl ChangeListener for Killed {
    fn insert_char(&mut self, _: usize, _: char) {}
    fn insert_str(&mut self, _: usize, _: &str) {}
    fn replace(&mut self, _: usize, _: &str, _: &str) {}
}

/// A line editor without a terminal.
#[derive(Debug)]
pub(super) struct Editor {
    line: LineBuffer,
    killed: Killed,
    history: VecDeque<String>,
    /// The line of the history that is shown, counted from the newest.
    recalled: Option<usize>,
    /// The line as it was before the history was shown.
    draft: String,
}

impl Editor {
    pub(super) fn new() -> Self {
        Editor {
            line: LineBuffer::with_capacity(LONGEST_LINE),
            killed: Killed::default(),
            history: VecDeque::new(),
            recalled: None,
            draft: String::new(),
        }
    }

    pub(super) fn line(&self) -> &str {
        self.line.as_str()
    }

    /// Where the cursor is, in bytes.
    pub(super) fn cursor(&self) -> usize {
        self.line.pos()
    }

    /// What stands before the cursor.
    pub(super) fn before_cursor(&self) -> &str {
        self.line
            .as_str()
            .get(..self.line.pos())
            .unwrap_or_default()
    }

    /// Forgets the line, the history and what was deleted.
    pub(super) fn reset(&mut self) {
        *self = Editor::new();
    }

    /// Inserts text at the cursor, all of it or nothing.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let fits = self.line.len().saturating_add(text.len()) <= LONGEST_LINE;
        if fits {
            for character in text.chars() {
                self.line.insert(character, 1, &mut self.killed);
            }
        }
        fits
    }

    /// Does what a key means.
    pub(super) fn press(&mut self, key: Key) -> Edited {
        let word = Word::Emacs;
        match key {
            Key::Character(character) => {
                let mut bytes = [0; 4];
                if !self.insert(character.encode_utf8(&mut bytes)) {
                    return Edited::Full;
                }
            }
            Key::Enter => return Edited::Enter(self.enter()),
            Key::Cancel => {
                self.set("");
                self.recalled = None;
                return Edited::Cancelled;
            }
            Key::Backspace => self.kill(&Movement::BackwardChar(1)),
            Key::Delete => self.kill(&Movement::ForwardChar(1)),
            Key::KillToEnd => self.kill(&Movement::EndOfBuffer),
            Key::KillToStart => self.kill(&Movement::BeginningOfBuffer),
            Key::KillWordLeft => self.kill(&Movement::BackwardWord(1, word)),
            Key::KillWordRight => self.kill(&Movement::ForwardWord(1, At::AfterEnd, word)),
            Key::Left => drop(self.line.move_backward(1)),
            Key::Right => drop(self.line.move_forward(1)),
            Key::WordLeft => drop(self.line.move_to_prev_word(word, 1)),
            Key::WordRight => drop(self.line.move_to_next_word(At::AfterEnd, word, 1)),
            Key::Home => drop(self.line.move_buffer_start()),
            Key::End => drop(self.line.move_buffer_end()),
            Key::Transpose => drop(self.line.transpose_chars(&mut self.killed)),
            Key::Yank => {
                let text = self.killed.text.clone();
                if !self.insert(&text) {
                    return Edited::Full;
                }
            }
            Key::Earlier => self.recall(true),
            Key::Later => self.recall(false),
            Key::Complete | Key::Redraw => {}
        }
        Edited::Line
    }

    fn kill(&mut self, what: &Movement) {
        self.line.kill(what, &mut self.killed);
    }

    fn set(&mut self, text: &str) {
        self.line.update(text, text.len(), &mut self.killed);
    }

    fn enter(&mut self) -> String {
        let line = self.line.as_str().to_owned();
        self.set("");
        self.recalled = None;
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        line
    }

    /// Shows the line before the one that is shown, or the one after it.
    fn recall(&mut self, earlier: bool) {
        let wanted = match (self.recalled, earlier) {
            (None, true) => Some(0),
            (Some(shown), true) => Some(shown.saturating_add(1)),
            (Some(shown), false) => shown.checked_sub(1),
            (None, false) => return,
        };
        let text = match wanted {
            None => std::mem::take(&mut self.draft),
            Some(back) => {
                let index = self.history.len().checked_sub(back.saturating_add(1));
                match index.and_then(|index| self.history.get(index)) {
                    Some(line) => line.clone(),
                    None => return,
                }
            }
        };
        if self.recalled.is_none() {
            self.draft = self.line.as_str().to_owned();
        }
        self.recalled = wanted;
        self.set(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_text(editor: &mut Editor, text: &str) {
        for character in text.chars() {
            assert_eq!(editor.press(Key::Character(character)), Edited::Line);
        }
    }

    fn enter(editor: &mut Editor, text: &str) {
        type_text(editor, text);
        assert_eq!(editor.press(Key::Enter), Edited::Enter(text.to_owned()));
    }

    #[test]
    fn words_and_characters_are_deleted_and_put_back() {
        let mut editor = Editor::new();
        type_text(&mut editor, "info sta tus");
        editor.press(Key::WordLeft);
        editor.press(Key::Backspace);
        assert_eq!(editor.line(), "info status");
        editor.press(Key::End);
        editor.press(Key::KillWordLeft);
        assert_eq!(editor.line(), "info ");
        editor.press(Key::Home);
        editor.press(Key::Yank);
        assert_eq!(editor.line(), "statusinfo ");
        editor.press(Key::KillToEnd);
        assert_eq!((editor.line(), editor.cursor()), ("status", 6));
        editor.press(Key::Left);
        editor.press(Key::KillToStart);
        assert_eq!((editor.line(), editor.cursor()), ("s", 0));
    }

    #[test]
    fn the_history_goes_back_and_forth_to_what_was_being_typed() {
        let mut editor = Editor::new();
        for line in ["one", "two", "two", "", "  "] {
            enter(&mut editor, line);
        }
        type_text(&mut editor, "draft");
        let shown = |editor: &mut Editor, key| {
            editor.press(key);
            editor.line().to_owned()
        };
        assert_eq!(shown(&mut editor, Key::Earlier), "two");
        assert_eq!(shown(&mut editor, Key::Earlier), "one");
        assert_eq!(shown(&mut editor, Key::Earlier), "one");
        assert_eq!(shown(&mut editor, Key::Later), "two");
        assert_eq!(shown(&mut editor, Key::Later), "draft");
        assert_eq!(shown(&mut editor, Key::Later), "draft");
    }

    #[test]
    fn the_history_is_bounded() {
        let mut editor = Editor::new();
        for number in 0..1000 {
            enter(&mut editor, &number.to_string());
        }
        for _ in 0..1000 {
            editor.press(Key::Earlier);
        }
        assert_eq!(editor.line(), "936");
    }

    #[test]
    fn a_line_has_an_end() {
        let mut editor = Editor::new();
        type_text(&mut editor, &"x".repeat(LONGEST_LINE - 1));
        assert_eq!(editor.press(Key::Character('\u{e9}')), Edited::Full);
        assert_eq!(editor.press(Key::Character('e')), Edited::Line);
        assert_eq!(editor.press(Key::Character('e')), Edited::Full);
        editor.press(Key::KillToStart);
        editor.press(Key::Yank);
        assert_eq!(editor.press(Key::Yank), Edited::Full);
        assert_eq!(editor.line().len(), LONGEST_LINE);
    }
}
