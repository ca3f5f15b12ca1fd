//! One JSON object on one line, flat: names with texts, whole numbers and booleans. All that a
//! trace needs, and so all that is read.
//!
//! The rule that must never be broken: whatever the line is, reading it ends in fields or in an
//! error that says where.

use core::fmt;

use super::line::TraceLineError as Error;

/// The most fields that a line may have: twice as many as the longest one has.
const MOST_FIELDS: usize = 64;

/// Writes an object.
pub(super) struct Object<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    result: fmt::Result,
    begun: bool,
}

impl<'a, 'b> Object<'a, 'b> {
    pub(super) fn new(out: &'a mut fmt::Formatter<'b>) -> Self {
        let result = out.write_str("{");
        Self {
            out,
            result,
            begun: false,
        }
    }

    fn raw(&mut self, name: &str, value: impl FnOnce(&mut fmt::Formatter<'b>) -> fmt::Result) {
        let comma = if self.begun { "," } else { "" };
        self.begun = true;
        if self.result.is_ok() {
            self.result = write!(self.out, "{comma}\"{name}\":").and_then(|()| value(self.out));
        }
    }

    /// A text. No name of the lifecycle has a character that JSON escapes.
    pub(super) fn text(&mut self, name: &str, value: impl fmt::Display) {
        self.raw(name, |out| write!(out, "\"{value}\""));
    }

    pub(super) fn some_text(&mut self, name: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    pub(super) fn number(&mut self, name: &str, value: impl fmt::Display) {
        self.raw(name, |out| write!(out, "{value}"));
    }

    /// A boolean. One that is false is left out.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, |out| out.write_str("true"));
        }
    }

    pub(super) fn end(self) -> fmt::Result {
        self.result?;
        self.out.write_str("}")
    }
}

/// A value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Text(&'a str),
    Number(&'a str),
    Flag(bool),
}

/// The fields of an object.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(&'a str, Value<'a>)>);

impl<'a> Fields<'a> {
    /// Reads an object, and nothing behind it.
    pub(super) fn read(line: &'a str) -> Result<Self, Error> {
        let mut rest = Rest { line, at: 0 };
        let mut fields: Vec<(&str, Value<'_>)> = Vec::new();
        rest.expect("{")?;
        if !rest.take("}") {
            loop {
                let name = rest.string()?;
                rest.expect(":")?;
                let value = rest.value()?;
                if fields.iter().any(|(known, _)| *known == name) {
                    return Err(Error::Twice(name.into()));
                }
                if fields.len() >= MOST_FIELDS {
                    return Err(Error::TooManyFields);
                }
                fields.push((name, value));
                if rest.take("}") {
                    break;
                }
                rest.expect(",")?;
            }
        }
        rest.skip_space();
        if rest.left().is_empty() {
            Ok(Self(fields))
        } else {
            Err(rest.syntax("the end of the line"))
        }
    }

    fn get(&self, name: &str) -> Option<Value<'a>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value)
    }

    /// A text that may be left out.
    pub(super) fn find(&self, name: &'static str) -> Result<Option<&'a str>, Error> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Error::Kind(name, "a text")),
        }
    }

    /// A name that may be left out.
    pub(super) fn find_name<T: core::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Error> {
        let read = |text: &str| text.parse().map_err(|_| Error::Name(name, text.into()));
        self.find(name)?.map(read).transpose()
    }

    /// A name.
    pub(super) fn name<T: core::str::FromStr>(&self, name: &'static str) -> Result<T, Error> {
        self.find_name(name)?.ok_or(Error::Missing(name))
    }

    /// A number that may be left out.
    pub(super) fn find_number<T: core::str::FromStr>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Error> {
        let kind = Error::Kind(name, "a whole number in its range");
        match self.get(name) {
            None => Ok(None),
            Some(Value::Number(digits)) => digits.parse().map(Some).map_err(|_| kind),
            Some(_) => Err(kind),
        }
    }

    /// A number.
    pub(super) fn number<T: core::str::FromStr>(&self, name: &'static str) -> Result<T, Error> {
        self.find_number(name)?.ok_or(Error::Missing(name))
    }

    /// A boolean, false if it is left out.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Error> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Flag(flag)) => Ok(flag),
            Some(_) => Err(Error::Kind(name, "true or false")),
        }
    }
}

/// What of a line is still to be read.
struct Rest<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn left(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes);
    }

    fn skip_space(&mut self) {
        let left = self.left();
        let text = left.trim_start_matches([' ', '\t', '\r', '\n']);
        self.skip(left.len().saturating_sub(text.len()));
    }

    fn syntax(&self, expected: &'static str) -> Error {
        if self.left().is_empty() {
            return Error::CutOff;
        }
        Error::Syntax {
            column: self.at.saturating_add(1),
            expected,
        }
    }

    /// Takes this, if it comes next.
    fn take(&mut self, what: &str) -> bool {
        self.skip_space();
        let comes = self.left().starts_with(what);
        if comes {
            self.skip(what.len());
        }
        comes
    }

    fn expect(&mut self, what: &'static str) -> Result<(), Error> {
        if self.take(what) {
            Ok(())
        } else {
            Err(self.syntax(match what {
                "{" => "an object, {",
                ":" => "a colon",
                _ => "a comma or the end of the object",
            }))
        }
    }

    fn string(&mut self) -> Result<&'a str, Error> {
        if !self.take("\"") {
            return Err(self.syntax("a text in quotes"));
        }
        let left = self.left();
        let end = left.find(['"', '\\']).ok_or(Error::CutOff)?;
        if left.get(end..).is_some_and(|left| left.starts_with('\\')) {
            self.skip(end);
            return Err(self.syntax("a text without escapes"));
        }
        self.skip(end.saturating_add(1));
        Ok(left.get(..end).unwrap_or_default())
    }

    fn value(&mut self) -> Result<Value<'a>, Error> {
        self.skip_space();
        let left = self.left();
        if left.starts_with('"') {
            return self.string().map(Value::Text);
        }
        let length = left
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .unwrap_or(left.len());
        let word = left.get(..length).unwrap_or_default();
        let value = match word {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ if is_number(word) => Value::Number(word),
            _ if length == left.len() => return Err(Error::CutOff),
            _ => return Err(self.syntax("a text, a whole number, true or false")),
        };
        self.skip(length);
        Ok(value)
    }
}

fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix('-').unwrap_or(word);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}
