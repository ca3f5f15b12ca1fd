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

    /// What has been read, and the white space before it.
    pub(super) fn so_far(&self) -> &'a str {
        self.line.get(..self.read).unwrap_or_default()
    }
}

/// The word at the front, and what follows it. In double quotes it may have white space in it, and `\n`,
/// `\r` and a backslash before a quote or a backslash mean what they mean in C. Nothing if there is no
/// word, or what the quotes hold has no end or another escape.
pub(super) fn word(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches(is_space);
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(is_space).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        return (!word.is_empty()).then(|| (word.to_owned(), rest));
    };
    let mut word = String::new();
    let mut rest = quoted.chars();
    loop {
        word.push(match rest.next()? {
            '"' => return Some((word, rest.as_str())),
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                itself @ ('\\' | '\'' | '"') => itself,
                _ => return None,
            },
            other => other,
        });
    }
}

/// All words, or nothing if one of them is none.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (word, after) = word(rest)?;
        words.push(word);
        rest = after.trim_start_matches(is_space);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_divided_by_space_and_by_quotes() {
        let words = |text| words(text).map(|words| words.join("|"));
        for (text, divided) in [
            ("", Some("")),
            (" \t", Some("")),
            ("a  b", Some("a|b")),
            (r#""a b" c"#, Some("a b|c")),
            (r#""a"b"#, Some("a|b")),
            (r#"a"b" c"#, Some(r#"a"b"|c"#)),
            (r#""""#, Some("")),
            (r#""\"\\\'""#, Some(r#""\'"#)),
            (r#""\n\r""#, Some("\n\r")),
            (r#""a"#, None),
            (r#"b "\"#, None),
            (r#""\x41""#, None),
        ] {
            assert_eq!(words(text).as_deref(), divided, "{text}");
        }
    }
}
