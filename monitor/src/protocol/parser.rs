//! Tokens to values, and the limits on both.
//!
//! A message ends where its brackets balance, not at a newline. What is wrong with it is reported
//! there, and only the first fault; a stray byte and a limit end it on the spot.
//!
//! After a limit on tokens or bytes the rest of that message is passed over unseen, because its
//! many leftover tokens would each be an error of their own. After the limit on nesting the parser
//! starts afresh at the next token, as QEMU's does after any limit.

use super::Limits;
use super::lexer::{Kind, Lexer};
use super::number;
use super::text::{decode, echo};
use serde_json::{Map, Value};

/// The deepest nesting that is walked recursively elsewhere.
const DEEPEST: usize = 1024;

/// What is wrong with a message. The texts are QEMU's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A byte that no token can have there. Carries the token so far, at most 1,023 bytes of it.
    #[error("JSON parse error, stray '{0}'")]
    Stray(String),
    /// A comma, colon or closing bracket where a value must be.
    #[error("JSON parse error, expecting value")]
    ExpectingValue,
    /// Lower-case letters other than `true`, `false` and `null`.
    #[error("JSON parse error, invalid keyword '{0}'")]
    InvalidKeyword(String),
    /// Something other than a comma or `}` after a member.
    #[error("JSON parse error, expected separator in dict")]
    ExpectedDictSeparator,
    /// Something other than a comma or `]` after an element.
    #[error("JSON parse error, expected separator in list")]
    ExpectedListSeparator,
    /// Something other than a colon after a member's name.
    #[error("JSON parse error, missing : in object pair")]
    MissingColon,
    /// A member's name that is a number, an array or anything else but a string.
    #[error("JSON parse error, key is not a string in object")]
    KeyNotString,
    /// A member's name that the object already has.
    #[error("JSON parse error, duplicate key")]
    DuplicateKey,
    /// Bytes that are no UTF-8, or encode a surrogate or a noncharacter.
    #[error("JSON parse error, invalid UTF-8 sequence in string")]
    InvalidUtf8,
    /// A `\u` escape that stands for no character.
    #[error("JSON parse error, {0} is not a valid Unicode character")]
    InvalidCharacter(String),
    /// A backslash before a letter that means nothing there.
    #[error("JSON parse error, invalid escape sequence in string")]
    InvalidEscape,
    /// A number that no double can hold. QEMU accepts it and echoes `inf`.
    #[error("JSON parse error, number out of range '{0}'")]
    NumberOutOfRange(String),
    /// More than [`Limits::token_bytes`].
    #[error("JSON token size limit exceeded")]
    TokenBytes,
    /// More than [`Limits::tokens`].
    #[error("JSON token count limit exceeded")]
    TokenCount,
    /// More than [`Limits::nesting`].
    #[error("JSON nesting depth limit exceeded")]
    Nesting,
}

/// An object or array whose end has not come yet.
#[derive(Debug)]
enum Open {
    Array(Vec<Value>),
    Object {
        members: Map<String, Value>,
        name: Option<String>,
    },
}

/// What is kept of a message that has no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Everything,
    /// What a request is made of. Of the rest there are the names, since none may come twice, and
    /// brackets without what was in them.
    Requests,
}

/// What the next token may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    ValueOrEnd,
    Colon,
    SeparatorOrEnd,
}

/// The value that a message's tokens build up.
#[derive(Debug)]
struct Builder {
    keep: Keep,
    open: Vec<Open>,
    expect: Expect,
    done: Option<Value>,
}

impl Builder {
    fn new(keep: Keep) -> Self {
        Builder {
            keep,
            open: Vec::new(),
            expect: Expect::Value,
            done: None,
        }
    }

    fn token(&mut self, kind: Kind, token: &[u8]) -> Result<(), ParseError> {
        match (self.expect, kind) {
            (Expect::Colon, Kind::Colon) => self.expect = Expect::Value,
            (Expect::Colon, _) => return Err(ParseError::MissingColon),
            (Expect::SeparatorOrEnd, Kind::Comma) => self.expect = Expect::Value,
            (Expect::SeparatorOrEnd | Expect::ValueOrEnd, Kind::RightCurly | Kind::RightSquare)
                if self.closes(kind) =>
            {
                return self.close();
            }
            (Expect::SeparatorOrEnd, _) => {
                return Err(match self.open.last() {
                    Some(Open::Object { .. }) => ParseError::ExpectedDictSeparator,
                    _ => ParseError::ExpectedListSeparator,
                });
            }
            (Expect::Value | Expect::ValueOrEnd, _) => return self.value(kind, token),
        }
        Ok(())
    }

    fn closes(&self, kind: Kind) -> bool {
        match self.open.last() {
            Some(Open::Array(_)) => kind == Kind::RightSquare,
            Some(Open::Object { .. }) => kind == Kind::RightCurly,
            None => false,
        }
    }

    fn value(&mut self, kind: Kind, token: &[u8]) -> Result<(), ParseError> {
        let value = match kind {
            Kind::LeftSquare => {
                self.open.push(Open::Array(Vec::new()));
                self.expect = Expect::ValueOrEnd;
                return Ok(());
            }
            Kind::LeftCurly => {
                self.open.push(Open::Object {
                    members: Map::new(),
                    name: None,
                });
                self.expect = Expect::ValueOrEnd;
                return Ok(());
            }
            Kind::String => Value::String(decode(token)?),
            Kind::Integer | Kind::Float => Value::Number(number::read(kind, token)?),
            Kind::Keyword => match token {
                b"true" => Value::Bool(true),
                b"false" => Value::Bool(false),
                b"null" => Value::Null,
                _ => return Err(ParseError::InvalidKeyword(echo(token))),
            },
            _ => return Err(ParseError::ExpectingValue),
        };
        self.finished(value)
    }

    fn close(&mut self) -> Result<(), ParseError> {
        match self.open.pop() {
            Some(Open::Array(items)) => self.finished(Value::Array(items)),
            Some(Open::Object { members, .. }) => self.finished(Value::Object(members)),
            None => Err(ParseError::ExpectingValue),
        }
    }

    /// Whether anybody will look at what is inside the innermost bracket.
    fn is_wanted(&self) -> bool {
        match (self.keep, self.open.as_slice()) {
            (Keep::Everything, _) | (_, [] | [Open::Object { .. }]) => true,
            (Keep::Requests, [Open::Object { name, .. }, member, ..]) => match name.as_deref() {
                Some("id") => true,
                Some("arguments") => matches!(member, Open::Object { .. }),
                _ => false,
            },
            (Keep::Requests, [Open::Array(_), ..]) => false,
        }
    }

    /// Puts a complete value where it belongs.
    fn finished(&mut self, value: Value) -> Result<(), ParseError> {
        self.expect = Expect::SeparatorOrEnd;
        let wanted = self.is_wanted();
        match self.open.last_mut() {
            None => self.done = Some(value),
            Some(Open::Array(items)) if wanted => items.push(value),
            Some(Open::Array(_)) => {}
            Some(Open::Object { members, name }) => match name.take() {
                Some(name) => {
                    if members.contains_key(&name) {
                        return Err(ParseError::DuplicateKey);
                    }
                    members.insert(name, if wanted { value } else { Value::Null });
                }
                // A name is read like any value, so that the fault found first is reported.
                None => match value {
                    Value::String(text) => {
                        *name = Some(text);
                        self.expect = Expect::Colon;
                    }
                    _ => return Err(ParseError::KeyNotString),
                },
            },
        }
        Ok(())
    }
}

/// Braces and brackets open at present. Below zero: one was closed that was never opened.
#[derive(Clone, Copy, Debug, Default)]
struct Depth {
    braces: i64,
    brackets: i64,
}

impl Depth {
    fn count(&mut self, kind: Kind) {
        let (which, by) = match kind {
            Kind::LeftCurly => (&mut self.braces, 1),
            Kind::RightCurly => (&mut self.braces, -1),
            Kind::LeftSquare => (&mut self.brackets, 1),
            Kind::RightSquare => (&mut self.brackets, -1),
            _ => return,
        };
        *which = which.saturating_add(by);
    }

    fn inside(self) -> bool {
        (self.braces > 0 || self.brackets > 0) && self.braces >= 0 && self.brackets >= 0
    }

    fn exceeds(self, levels: usize) -> bool {
        usize::try_from(self.braces.saturating_add(self.brackets)).is_ok_and(|sum| sum > levels)
    }
}

/// The message under way: what its tokens have built, and what it has cost.
#[derive(Debug)]
struct Message {
    limits: Limits,
    builder: Builder,
    fault: Option<ParseError>,
    depth: Depth,
    tokens: usize,
    token_bytes: usize,
    /// Over a limit: the rest is only followed to its end.
    discarding: bool,
}

impl Message {
    fn new(limits: Limits, keep: Keep) -> Self {
        Message {
            limits,
            builder: Builder::new(keep),
            fault: None,
            depth: Depth::default(),
            tokens: 0,
            token_bytes: 0,
            discarding: false,
        }
    }

    fn reset(&mut self) {
        *self = Message::new(self.limits, self.builder.keep);
    }

    /// Whether a token with so many bytes is one too many.
    fn overflows(&self, bytes: usize) -> bool {
        self.token_bytes.saturating_add(bytes) >= self.limits.token_bytes
    }

    /// How many bytes a token may still have before it overflows.
    fn room(&self) -> usize {
        if self.discarding {
            return usize::MAX;
        }
        self.limits.token_bytes.saturating_sub(self.token_bytes)
    }

    /// Drops what was built, and follows the rest of the message to its end if that is to come.
    fn give_up(&mut self, rest_to_come: bool) {
        let depth = self.depth;
        self.reset();
        if rest_to_come {
            self.depth = depth;
            self.discarding = true;
        }
    }

    fn token(&mut self, kind: Kind, token: &[u8]) -> Option<Result<Value, ParseError>> {
        if kind == Kind::Stray {
            self.reset();
            return Some(Err(ParseError::Stray(echo(token))));
        }
        self.depth.count(kind);
        if self.discarding {
            if !self.depth.inside() {
                self.reset();
            }
            return None;
        }
        let over = if self.overflows(token.len()) {
            Some(ParseError::TokenBytes)
        } else if self.tokens >= self.limits.tokens {
            Some(ParseError::TokenCount)
        } else {
            None
        };
        if let Some(error) = over {
            self.give_up(self.depth.inside());
            return Some(Err(error));
        }
        if self.depth.exceeds(self.limits.nesting.min(DEEPEST)) {
            self.reset();
            return Some(Err(ParseError::Nesting));
        }
        self.tokens = self.tokens.saturating_add(1);
        self.token_bytes = self.token_bytes.saturating_add(token.len());
        if self.fault.is_none()
            && let Err(error) = self.builder.token(kind, token)
        {
            self.fault = Some(error);
            self.builder = Builder::new(self.builder.keep);
        }
        if self.depth.inside() {
            return None;
        }
        let fault = self.fault.take().unwrap_or(ParseError::ExpectingValue);
        let message = self.builder.done.take().ok_or(fault);
        self.reset();
        Some(message)
    }
}

/// A streaming parser: bytes in, one value or error at a time out.
///
/// # Example
///
/// ```
/// use monitor::protocol::{Limits, Parser};
///
/// let mut parser = Parser::new(Limits::default());
/// let input = b"{'execute': 'stop'}{'exec";
/// let (used, message) = parser.feed(input);
/// assert_eq!(message.unwrap().unwrap()["execute"], "stop");
/// assert_eq!(parser.feed(&input[used..]), (6, None));
/// ```
#[derive(Debug)]
pub struct Parser {
    lexer: Lexer,
    message: Message,
}

impl Parser {
    /// A parser between two messages.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Parser::keeping(Keep::Everything, limits)
    }

    /// A parser that holds less: of what cannot become part of a request it gives out the brackets,
    /// and nothing that was in them. That is everything in an array, and in each member of an object
    /// but the `id` and `arguments` that are an object. It is read and judged all the same, and
    /// [`read_request`](super::read_request) makes the same of it.
    #[must_use]
    pub fn for_requests(limits: Limits) -> Self {
        Parser::keeping(Keep::Requests, limits)
    }

    fn keeping(keep: Keep, limits: Limits) -> Self {
        Parser {
            lexer: Lexer::new(),
            message: Message::new(limits, keep),
        }
    }

    /// Whether nothing is held of a message that is yet to be completed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.lexer.in_token() && !self.message.depth.inside()
    }

    /// Reads until a message is complete or the input is used up.
    ///
    /// Returns how many bytes were used, and the message or what is wrong with it. Bytes that were
    /// not used must be given again, in front of those that follow.
    pub fn feed(&mut self, input: &[u8]) -> (usize, Option<Result<Value, ParseError>>) {
        let Parser { lexer, message } = self;
        let mut used: usize = 0;
        while let Some(&byte) = input.get(used) {
            let stepped = lexer.step(byte);
            used = used.saturating_add(usize::from(stepped.consumed));
            let result = if let Some(kind) = stepped.kind {
                let result = message.token(kind, lexer.token());
                lexer.clear();
                lexer.keep(!message.discarding);
                result
            } else {
                let room = message.room().saturating_sub(lexer.token().len());
                let run = lexer.run(input.get(used..).unwrap_or_default(), room);
                used = used.saturating_add(run);
                let over = !message.discarding && message.overflows(lexer.token().len());
                over.then(|| {
                    message.give_up(true);
                    lexer.keep(false);
                    Err(ParseError::TokenBytes)
                })
            };
            if result.is_some() {
                return (used, result);
            }
        }
        (used, None)
    }
}
