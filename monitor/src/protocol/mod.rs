//! The QMP wire format: JSON in QEMU's dialect, one message at a time, from and to bytes.
//!
//! ```text
//!             byte            token             value or error
//!   input ───────────▶ lexer ───────▶ parser ──────────────────▶ session
//!                        │              │
//!                        │ bad byte     │ over a limit
//!                        ▼              ▼
//!                     recovery       discarding
//!             (to the next bracket,  (to the end of the message:
//!              comma, colon, control   nothing of it is kept)
//!              byte or 0xFE/0xFF)
//! ```
//!
//! The rule that must never be broken: **what comes out depends on the bytes alone**, never on how
//! they were cut into reads, and what is held for an unfinished message never exceeds [`Limits`].
//!
//! The dialect is RFC 8259 with single-quoted strings and the escape `\'`, without duplicate keys,
//! Unicode noncharacters and numbers beyond a double's range. Source of the behaviour: QEMU 7.2 as
//! a client observes it; the protocol itself is QEMU's "QMP protocol specification".

mod lexer;
mod message;
mod number;
mod parser;
mod text;
mod writer;

pub use message::{ErrorClass, Request, greeting, read_request};
pub use parser::{ParseError, Parser};
pub use writer::{to_line, write_value};

pub(crate) use message::{
    error_reply, event_line, greeting_offering, is_out_of_band, read_request_with, return_reply,
};

/// Bounds on one message. Each error text that a bound leads to is QEMU's.
///
/// The defaults hold a message to about 3 MiB of memory, whatever is in it. QEMU's own bounds, [`Limits::QEMU`], let a
/// client make the server hold more than 100 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Brackets and braces that may be open at once. At most 1,024: a larger value counts as
    /// 1,024, since values are walked recursively.
    pub nesting: usize,
    /// Bytes of all tokens of a message; white space between them is free.
    pub token_bytes: usize,
    /// Tokens of a message: each bracket, comma, colon, string, number and keyword is one.
    pub tokens: usize,
}

impl Limits {
    /// QEMU's bounds: 1,024 levels, 64 MiB, 2 Mi tokens.
    pub const QEMU: Limits = Limits {
        nesting: 1024,
        token_bytes: 64 << 20,
        tokens: 2 << 20,
    };

    /// Sets the number of levels.
    #[must_use]
    pub const fn nesting(mut self, levels: usize) -> Self {
        self.nesting = levels;
        self
    }

    /// Sets the bytes of all tokens.
    #[must_use]
    pub const fn token_bytes(mut self, bytes: usize) -> Self {
        self.token_bytes = bytes;
        self
    }

    /// Sets the number of tokens.
    #[must_use]
    pub const fn tokens(mut self, tokens: usize) -> Self {
        self.tokens = tokens;
        self
    }
}

impl Default for Limits {
    /// 1,024 levels, 1 MiB, 16,384 tokens.
    fn default() -> Self {
        Limits {
            nesting: 1024,
            token_bytes: 1 << 20,
            tokens: 1 << 14,
        }
    }
}
