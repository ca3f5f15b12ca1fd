//! The table of malformed input, read.

/// One line of the table.
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) class: &'static str,
    /// The input as the table writes it, cut for a message.
    pub(crate) shown: String,
    pub(crate) input: Vec<u8>,
    /// The replies, without their line ends.
    pub(crate) replies: Vec<String>,
    /// Whether the message is not over, so that the server waits for more.
    pub(crate) open: bool,
}

/// The whole table.
pub(crate) fn rows() -> Vec<Row> {
    let lines = include_str!("../negative.tsv").lines().enumerate();
    lines
        .filter(|(_, text)| !text.is_empty() && *text != "#" && !text.starts_with("# "))
        .map(|(number, text)| {
            let line = number + 1;
            let [class, input, replies, follows] = text.split('\t').collect::<Vec<_>>()[..] else {
                panic!("line {line} has not four columns");
            };
            assert!(matches!(follows, "ok" | "open"), "line {line}: {follows}");
            let replies = match replies {
                "-" => Vec::new(),
                several => several.split(" ; ").map(expected_line).collect(),
            };
            Row {
                line,
                class,
                shown: input.chars().take(60).collect(),
                input: expand(input),
                replies,
                open: follows == "open",
            }
        })
        .collect()
}

/// Undoes the table's escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first == '\\' {
            let kind = rest.chars().next().expect("an escape");
            rest = &rest[1..];
            match kind {
                'x' => {
                    out.push(u8::from_str_radix(&rest[..2], 16).expect("two hex digits"));
                    rest = &rest[2..];
                }
                't' => out.push(b'\t'),
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                '\\' => out.push(b'\\'),
                other => panic!("unknown escape \\{other} in {text}"),
            }
        } else {
            out.extend(first.to_string().bytes());
        }
    }
    out
}

/// Undoes the table's repetitions and escapes.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let count = after
            .split_once('*')
            .and_then(|(count, _)| count.parse::<usize>().ok());
        let Some(count) = count else {
            // A brace that stands for itself.
            out.extend(unescape(&rest[..=at]));
            rest = &rest[at + 1..];
            continue;
        };
        out.extend(unescape(before));
        let (_, after) = after.split_once('*').expect("a repetition has a text");
        let (unit, after) = after.split_once("}}").expect("a repetition ends");
        out.extend(unescape(unit).repeat(count));
        rest = after;
    }
    out.extend(unescape(rest));
    out
}

/// The line that an entry of the third column stands for.
fn expected_line(entry: &str) -> String {
    let (class, text) = entry.split_at(2);
    let class = match class {
        "E " => "GenericError",
        "C " => "CommandNotFound",
        other => panic!("unknown class {other:?}"),
    };
    let (text, id) = match text.rsplit_once(" #") {
        Some((text, id)) => (text, format!("\"id\": {id}, ")),
        None => (text, String::new()),
    };
    let text = String::from_utf8(expand(text)).expect("texts are ASCII");
    format!("{{{id}\"error\": {{\"class\": \"{class}\", \"desc\": \"{text}\"}}}}")
}
