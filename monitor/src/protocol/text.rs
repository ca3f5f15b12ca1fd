//! Strings: from a quoted token to text, and the character rules that reader and writer share.
//!
//! The encoding is UTF-8 in which U+0000 may also be written as the two bytes `C0 80`. Refused
//! besides malformed and overlong forms: surrogates and the 66 noncharacters of the Unicode
//! standard (section 23.7), as QEMU refuses them.

use super::parser::ParseError;

/// Longest text of the client's own that an error message repeats, in bytes.
pub(crate) const ECHO_LIMIT: usize = 1023;

/// Whether a code point may stand in a QMP string.
pub(crate) fn is_exchangeable(code: u32) -> bool {
    !((0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE)
}

fn exchangeable(code: u32) -> Option<char> {
    char::from_u32(code).filter(|_| is_exchangeable(code))
}

/// Reads one character. Returns it, or nothing where the bytes are none, and the bytes passed over.
pub(crate) fn next_char(bytes: &[u8]) -> (Option<char>, usize) {
    let Some((&first, rest)) = bytes.split_first() else {
        return (None, 0);
    };
    // `first` leads a sequence of so many bytes; the bits left are the code point's highest.
    let (length, high, least): (usize, u8, u32) = match first {
        0x00..=0x7F => return (Some(char::from(first)), 1),
        0xC0..=0xDF => (2, first & 0x1F, 0x80),
        0xE0..=0xEF => (3, first & 0x0F, 0x800),
        0xF0..=0xF7 => (4, first & 0x07, 0x1_0000),
        0xF8..=0xFB => (5, first & 0x03, 0x20_0000),
        0xFC..=0xFD => (6, first & 0x01, 0x400_0000),
        _ => return (None, 1),
    };
    let mut code = u32::from(high);
    let mut taken: usize = 1;
    for &byte in rest.iter().take(length.saturating_sub(1)) {
        if byte & 0xC0 != 0x80 {
            break;
        }
        code = code << 6 | u32::from(byte & 0x3F);
        taken = taken.saturating_add(1);
    }
    let zero = code == 0 && length == 2;
    if taken < length || (code < least && !zero) {
        return (None, taken);
    }
    (exchangeable(code), taken)
}

/// Bytes of the client as text for an error message: what is no character becomes U+FFFD. Ends at a
/// zero byte, and at [`ECHO_LIMIT`].
pub(crate) fn echo(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let mut rest = bytes.get(..ECHO_LIMIT).unwrap_or(bytes);
    let mut text = String::new();
    while !rest.is_empty() {
        let (character, taken) = next_char(rest);
        text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = rest.get(taken..).unwrap_or_default();
    }
    text
}

/// Decodes a string token, quotes included.
pub(crate) fn decode(token: &[u8]) -> Result<String, ParseError> {
    let inner = token
        .get(1..token.len().saturating_sub(1))
        .unwrap_or_default();
    if inner.is_ascii() && !inner.contains(&b'\\') {
        return Ok(inner.iter().copied().map(char::from).collect());
    }
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((&first, after)) = rest.split_first() {
        if first == b'\\' {
            // The error text of a bad \u repeats up to four bytes, the closing quote among them.
            let from = token.len().saturating_sub(rest.len()).saturating_sub(1);
            let (character, taken) = escape(after, token.get(from..).unwrap_or_default())?;
            text.push(character);
            rest = after.get(taken..).unwrap_or_default();
        } else {
            let (character, taken) = next_char(rest);
            text.push(character.ok_or(ParseError::InvalidUtf8)?);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }
    Ok(text)
}

/// Reads what follows a backslash. `whole` begins at the backslash and runs to the token's end.
fn escape(after: &[u8], whole: &[u8]) -> Result<(char, usize), ParseError> {
    let simple = match after.first() {
        Some(&b @ (b'"' | b'\'' | b'\\' | b'/')) => char::from(b),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            return unicode_escape(after).map_err(|taken| {
                ParseError::InvalidCharacter(echo(whole.get(..taken).unwrap_or(whole)))
            });
        }
        _ => return Err(ParseError::InvalidEscape),
    };
    Ok((simple, 1))
}

/// Reads `uXXXX`, or `uXXXX\uXXXX` for a surrogate pair. The error is the length of what was
/// refused, counted from the backslash.
fn unicode_escape(after: &[u8]) -> Result<(char, usize), usize> {
    let first = hex4(after.get(1..5)).ok_or(6_usize)?;
    if !(0xD800..0xDC00).contains(&first) || after.get(5..7) != Some(b"\\u") {
        return exchangeable(first).map(|c| (c, 5)).ok_or(6);
    }
    match hex4(after.get(7..11)) {
        Some(second @ 0xDC00..=0xDFFF) => {
            let code = 0x1_0000_u32.saturating_add((first & 0x3FF) << 10 | (second & 0x3FF));
            exchangeable(code).map(|c| (c, 11)).ok_or(12)
        }
        _ => Err(6),
    }
}

fn hex4(digits: Option<&[u8]>) -> Option<u32> {
    digits?.iter().try_fold(0_u32, |code, &digit| {
        Some(code << 4 | char::from(digit).to_digit(16)?)
    })
}
