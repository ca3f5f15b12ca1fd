//! A line of the client's, read: pure, and total over any bytes.
//!
//! Words are separated by exactly one space. Numbers are C's: decimal, `0x` for hexadecimal, a
//! leading `0` for octal, with a sign if need be (a negative number wraps). Words that are too many
//! are left out.
//!
//! The rule that must never be broken: whatever a line holds, it is a request or a refusal.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The most bytes that one request moves: what an answer is built of has an end.
pub(crate) const MOST_BYTES: usize = 16 << 20;

/// How wide an access is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Long,
    /// 8 bytes.
    Quad,
}

impl Width {
    /// In bytes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Long => 4,
            Self::Quad => 8,
        }
    }

    fn of(suffix: &str) -> Option<Self> {
        match suffix {
            "b" => Some(Self::Byte),
            "w" => Some(Self::Word),
            "l" => Some(Self::Long),
            "q" => Some(Self::Quad),
            _ => None,
        }
    }
}

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// The guest's byte order.
    Endianness,
    /// Read a port.
    In { port: u16, width: Width },
    /// Write a port.
    Out { port: u16, width: Width, value: u64 },
    /// Read physical memory.
    Load { address: u64, width: Width },
    /// Write physical memory.
    Store {
        address: u64,
        width: Width,
        value: u64,
    },
    /// Read so much of physical memory, in hexadecimal.
    Read { address: u64, len: usize },
    /// The same, in base 64.
    ReadBase64 { address: u64, len: usize },
    /// Write these bytes to physical memory.
    Write { address: u64, bytes: Vec<u8> },
    /// Fill so much of physical memory.
    Fill { address: u64, len: u64, byte: u8 },
    /// Move the virtual clock on by so many nanoseconds; without them, to the next timer.
    Step(Option<u64>),
    /// Move the virtual clock on to this time.
    SetClock(u64),
    /// Report changes of this device's input pins.
    InterceptIn(String),
    /// Report changes of this device's output pins.
    InterceptOut(String),
    /// Drive an input pin.
    SetIrqIn {
        device: String,
        list: String,
        pin: u64,
        level: bool,
    },
    /// Load a module: there are none.
    ModuleLoad,
}

/// Why a line is no request: the answer to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody knows the word.
    #[error("FAIL Unknown command '{0}'")]
    Unknown(String),
    /// There is nothing in it.
    #[error("FAIL empty request")]
    Empty,
    /// A word is not there.
    #[error("FAIL {command}: {word} is missing")]
    Missing { command: String, word: &'static str },
    /// A word is no number, or one that cannot be.
    #[error("FAIL {command}: {word} '{given}' is not {expected}")]
    Bad {
        command: String,
        word: &'static str,
        given: String,
        expected: &'static str,
    },
    /// The data is shorter than any data is.
    #[error("ERR invalid argument size")]
    Size,
    /// The line has no end.
    #[error("FAIL request is too long")]
    TooLong,
}

/// Reads a line, without its end.
pub(crate) fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let command = words.next().unwrap_or_default();
    if command.is_empty() {
        return Err(Refusal::Empty);
    }
    let mut words = Words { command, words };
    if let Some(request) = access(&mut words)? {
        return Ok(request);
    }
    Ok(match command {
        "endianness" => Request::Endianness,
        "read" => Request::Read {
            address: words.number("ADDR")?,
            len: words.length("LEN")?,
        },
        "b64read" => Request::ReadBase64 {
            address: words.number("ADDR")?,
            len: words.length("LEN")?,
        },
        "write" => {
            let (address, len) = (words.number("ADDR")?, words.length("LEN")?);
            let bytes = hexadecimal(&mut words, len)?;
            Request::Write { address, bytes }
        }
        "b64write" => {
            let (address, len) = (words.number("ADDR")?, words.length("LEN")?);
            let bytes = base_64(&mut words, len)?;
            Request::Write { address, bytes }
        }
        "memset" => Request::Fill {
            address: words.number("ADDR")?,
            len: words.number("LEN")?,
            byte: words.number("BYTE")?.to_le_bytes()[0],
        },
        "clock_step" => Request::Step(match words.next() {
            Some(given) => Some(words.time("NS", given)?),
            None => None,
        }),
        "clock_set" => {
            let given = words.word("NS")?;
            Request::SetClock(words.time("NS", given)?)
        }
        "irq_intercept_in" => Request::InterceptIn(words.word("QOM")?.into()),
        "irq_intercept_out" => Request::InterceptOut(words.word("QOM")?.into()),
        "set_irq_in" => Request::SetIrqIn {
            device: words.word("QOM")?.into(),
            list: words.word("NAME")?.into(),
            pin: words.number("NUM")?,
            level: words.number("LEVEL")? != 0,
        },
        "module_load" => Request::ModuleLoad,
        unknown => return Err(Refusal::Unknown(shown(unknown))),
    })
}

/// `inb` to `outl`, `readb` to `writeq`.
fn access(words: &mut Words<'_>) -> Result<Option<Request>, Refusal> {
    let Some((at, _)) = words.command.char_indices().last() else {
        return Ok(None);
    };
    let (kind, suffix) = words.command.split_at(at);
    let Some(width) = Width::of(suffix) else {
        return Ok(None);
    };
    Ok(Some(match kind {
        "in" if width != Width::Quad => Request::In {
            port: words.port()?,
            width,
        },
        "out" if width != Width::Quad => Request::Out {
            port: words.port()?,
            width,
            value: words.number("VALUE")?,
        },
        "read" => Request::Load {
            address: words.number("ADDR")?,
            width,
        },
        "write" => Request::Store {
            address: words.number("ADDR")?,
            width,
            value: words.number("VALUE")?,
        },
        _ => return Ok(None),
    }))
}

/// The words after the command.
struct Words<'a> {
    command: &'a str,
    words: std::str::Split<'a, char>,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    fn word(&mut self, word: &'static str) -> Result<&'a str, Refusal> {
        self.next().ok_or_else(|| Refusal::Missing {
            command: self.command.into(),
            word,
        })
    }

    fn bad(&self, word: &'static str, given: &str, expected: &'static str) -> Refusal {
        Refusal::Bad {
            command: self.command.into(),
            word,
            given: shown(given),
            expected,
        }
    }

    fn number(&mut self, word: &'static str) -> Result<u64, Refusal> {
        let given = self.word(word)?;
        number(given).ok_or_else(|| self.bad(word, given, "a number"))
    }

    fn port(&mut self) -> Result<u16, Refusal> {
        let given = self.word("PORT")?;
        let port = number(given).and_then(|port| u16::try_from(port).ok());
        port.ok_or_else(|| self.bad("PORT", given, "a port, 0 to 0xffff"))
    }

    fn length(&mut self, word: &'static str) -> Result<usize, Refusal> {
        let given = self.word(word)?;
        let len = number(given).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| (1..=MOST_BYTES).contains(len));
        len.ok_or_else(|| self.bad(word, given, "a length, 1 to 0x1000000"))
    }

    /// Nanoseconds: what no signed 64 bits hold is no time.
    fn time(&self, word: &'static str, given: &str) -> Result<u64, Refusal> {
        let time = number(given).filter(|time| i64::try_from(*time).is_ok());
        time.ok_or_else(|| self.bad(word, given, "a number of nanoseconds"))
    }
}

/// A number as C's `strtoull` reads it with base 0, and nothing after it.
fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let hexadecimal = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"));
    let (digits, radix) = match hexadecimal {
        Some(rest) => (rest, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        None => (digits, 10),
    };
    // `from_str_radix` would take another sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// `0x` and two digits a byte; bytes that are not there are 0.
fn hexadecimal(words: &mut Words<'_>, len: usize) -> Result<Vec<u8>, Refusal> {
    let data = words.word("DATA")?;
    if data.len() < 3 {
        return Err(Refusal::Size);
    }
    let expected = "0x and hexadecimal digits";
    let digits = data.strip_prefix("0x").filter(|digits| digits.is_ascii());
    let digits = digits.ok_or_else(|| words.bad("DATA", data, expected))?;
    let mut bytes = Vec::with_capacity(len);
    for pair in digits.as_bytes().chunks_exact(2).take(len) {
        let nibble = |digit: &u8| char::from(*digit).to_digit(16);
        let byte = match pair {
            [high, low] => nibble(high).zip(nibble(low)),
            _ => None,
        };
        let byte = byte.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        bytes.push(byte.ok_or_else(|| words.bad("DATA", data, expected))?);
    }
    bytes.resize(len, 0);
    Ok(bytes)
}

/// Base 64; at most `len` bytes of it count.
fn base_64(words: &mut Words<'_>, len: usize) -> Result<Vec<u8>, Refusal> {
    let data = words.word("DATA")?;
    if data.len() < 3 {
        return Err(Refusal::Size);
    }
    let decoded = STANDARD.decode(data).ok();
    let mut bytes = decoded.ok_or_else(|| words.bad("DATA", data, "base 64"))?;
    bytes.truncate(len);
    Ok(bytes)
}

/// What the client wrote, as part of an answer of one line.
fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests;
