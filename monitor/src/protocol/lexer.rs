//! Bytes to tokens.
//!
//! ```text
//!              ┌─▶ string ⇄ escape ──┐
//!   start ─────┼─▶ number parts ─────┼─▶ token, back to start
//!     ▲        ├─▶ keyword ──────────┘
//!     │        └─▶ bracket, comma, colon: a token at once
//!     │
//!   recovery ◀── a byte that fits nowhere: an error token
//! ```
//!
//! The rule that must never be broken: **every byte is looked at once in the state it finds**, so
//! that a cut between two reads changes nothing.

/// What a finished token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    LeftCurly,
    RightCurly,
    LeftSquare,
    RightSquare,
    Comma,
    Colon,
    String,
    Integer,
    Float,
    Keyword,
    /// Bytes that begin no token. The lexer is in recovery after it.
    Stray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    DoubleQuoted,
    DoubleQuotedEscape,
    SingleQuoted,
    SingleQuotedEscape,
    Sign,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
    Keyword,
    Recovery,
}

/// What one byte does in a state.
enum Step {
    /// The byte belongs to the token.
    Into(State),
    /// The byte is the token's last.
    Ends(Kind),
    /// The token ended before this byte, which is looked at again.
    EndedBefore(Kind),
    /// White space, or a byte passed over in recovery.
    Skip,
    /// Recovery is over; the byte is looked at again.
    Restart,
    /// The byte fits nowhere.
    Stray,
}

/// The lexer and the token that it is collecting.
#[derive(Debug)]
pub(crate) struct Lexer {
    state: State,
    token: Vec<u8>,
    keep: bool,
}

/// What [`Lexer::step`] made of a byte.
#[derive(Debug)]
pub(crate) struct Stepped {
    /// A token that is complete; its bytes are in [`Lexer::token`] until [`Lexer::clear`].
    pub(crate) kind: Option<Kind>,
    /// Whether the byte is used up. If not, it must be given again.
    pub(crate) consumed: bool,
}

impl Lexer {
    pub(crate) fn new() -> Self {
        Lexer {
            state: State::Start,
            token: Vec::new(),
            keep: true,
        }
    }

    pub(crate) fn token(&self) -> &[u8] {
        &self.token
    }

    /// Forgets the bytes of the token that was just reported.
    pub(crate) fn clear(&mut self) {
        self.token.clear();
        // One long string must not hold its memory for the rest of the connection.
        if self.token.capacity() > 4096 {
            self.token.shrink_to(4096);
        }
    }

    /// Stops or goes on collecting bytes. Without them tokens are still told apart.
    pub(crate) fn keep(&mut self, keep: bool) {
        self.keep = keep;
        if !keep {
            self.token = Vec::new();
        }
    }

    /// Whether a token is under way.
    pub(crate) fn in_token(&self) -> bool {
        !matches!(self.state, State::Start | State::Recovery)
    }

    /// Takes the longest run of bytes that a string under way swallows whole. Returns its length.
    ///
    /// This changes nothing but speed: [`Lexer::step`] would take the same bytes one by one.
    pub(crate) fn run(&mut self, input: &[u8], room: usize) -> usize {
        let quote = match self.state {
            State::DoubleQuoted => b'"',
            State::SingleQuoted => b'\'',
            _ => return 0,
        };
        let plain = |&b: &u8| (0x20..=0xFD).contains(&b) && b != quote && b != b'\\';
        let window = input.get(..room).unwrap_or(input);
        let length = window.iter().position(|b| !plain(b));
        let run = length.and_then(|end| window.get(..end)).unwrap_or(window);
        if self.keep {
            self.token.extend_from_slice(run);
        }
        run.len()
    }

    pub(crate) fn step(&mut self, byte: u8) -> Stepped {
        let (kind, state, consumed, store) = match next(self.state, byte) {
            Step::Into(state) => (None, state, true, true),
            Step::Ends(kind) => (Some(kind), State::Start, true, true),
            Step::EndedBefore(kind) => (Some(kind), State::Start, false, false),
            Step::Skip => (None, self.state, true, false),
            Step::Restart => (None, State::Start, false, false),
            Step::Stray => (Some(Kind::Stray), State::Recovery, true, true),
        };
        // Of a stray byte at least the byte itself is kept, for the error's text.
        if store && (self.keep || kind == Some(Kind::Stray)) {
            self.token.push(byte);
        }
        self.state = state;
        Stepped { kind, consumed }
    }
}

fn next(state: State, byte: u8) -> Step {
    use State as S;
    use Step::{EndedBefore, Ends, Into, Restart, Skip, Stray};
    match (state, byte) {
        (S::Start, b'"') => Into(S::DoubleQuoted),
        (S::Start, b'\'') => Into(S::SingleQuoted),
        (S::Start, b'-') => Into(S::Sign),
        (S::Start | S::Sign, b'0') => Into(S::Zero),
        (S::Start | S::Sign, b'1'..=b'9') => Into(S::Digits),
        (S::Start, b'a'..=b'z') => Into(S::Keyword),
        (S::Start, b'{') => Ends(Kind::LeftCurly),
        (S::Start, b'}') => Ends(Kind::RightCurly),
        (S::Start, b'[') => Ends(Kind::LeftSquare),
        (S::Start, b']') => Ends(Kind::RightSquare),
        (S::Start, b',') => Ends(Kind::Comma),
        (S::Start, b':') => Ends(Kind::Colon),
        (S::Start, b' ' | b'\t' | b'\r' | b'\n') => Skip,
        (S::Start | S::Sign, _) => Stray,

        (S::DoubleQuoted, b'"') | (S::SingleQuoted, b'\'') => Ends(Kind::String),
        (S::DoubleQuoted, b'\\') => Into(S::DoubleQuotedEscape),
        (S::SingleQuoted, b'\\') => Into(S::SingleQuotedEscape),
        // An escape is judged when the string is decoded; here it only hides a quote.
        (S::DoubleQuoted | S::DoubleQuotedEscape, 0x20..=0xFD) => Into(S::DoubleQuoted),
        (S::SingleQuoted | S::SingleQuotedEscape, 0x20..=0xFD) => Into(S::SingleQuoted),
        (S::DoubleQuoted | S::DoubleQuotedEscape | S::SingleQuoted | S::SingleQuotedEscape, _) => {
            Stray
        }

        (S::Zero, b'0'..=b'9') => Stray,
        (S::Zero | S::Digits, b'.') => Into(S::Point),
        (S::Digits, b'0'..=b'9') => Into(S::Digits),
        (S::Digits | S::Fraction, b'e' | b'E') => Into(S::Exponent),
        // A number ends where something else begins. "0e1" is "0", then a keyword, as in QEMU.
        (S::Zero | S::Digits, _) => EndedBefore(Kind::Integer),
        (S::Point | S::Fraction, b'0'..=b'9') => Into(S::Fraction),
        (S::Point, _) => Stray,
        (S::Exponent, b'+' | b'-') => Into(S::ExponentSign),
        (S::Exponent | S::ExponentSign | S::ExponentDigits, b'0'..=b'9') => Into(S::ExponentDigits),
        (S::Exponent | S::ExponentSign, _) => Stray,
        (S::Fraction | S::ExponentDigits, _) => EndedBefore(Kind::Float),

        (S::Keyword, b'a'..=b'z') => Into(S::Keyword),
        (S::Keyword, _) => EndedBefore(Kind::Keyword),

        (S::Recovery, b'\t') => Skip,
        (S::Recovery, 0..=0x1F | 0xFE..=0xFF) => Restart,
        (S::Recovery, b'{' | b'}' | b'[' | b']' | b':' | b',') => Restart,
        (S::Recovery, _) => Skip,
    }
}
