//! The tables of malformed input in `negative/`, read.
//!
//! A line that begins with `# ` says what the table is about. The others have four columns, separated
//! by tabs: class, input, replies, what follows.
//!
//! * The class says what is wrong, and how far the connection is: with `greeting` it has not negotiated,
//!   with `oob` it has enabled that, otherwise it has negotiated and no more.
//! * In the input, `\xNN`, `\t`, `\n`, `\r` and `\\` are escapes, and `{{COUNT*TEXT}}` repeats.
//! * Replies: `E` = GenericError, `C` = CommandNotFound, `D` = DeviceNotFound, then the text as it is on
//!   the wire; `R` and the value of a success; then ` #ID` if an id is echoed. Several are separated by
//!   ` ; `; `-` is none.
//! * What follows: `ok` = the next command is answered; `open` = the server waits for more, and 0xFF
//!   makes it start afresh.

#![allow(dead_code, reason = "each test file uses a part of this one")]

/// What the tables are called, and what is in them.
const TABLES: [(&str, &str); 8] = [
    ("lexical", include_str!("../negative/lexical.tsv")),
    ("syntax", include_str!("../negative/syntax.tsv")),
    ("limits", include_str!("../negative/limits.tsv")),
    ("types", include_str!("../negative/types.tsv")),
    ("members", include_str!("../negative/members.tsv")),
    ("capabilities", include_str!("../negative/capabilities.tsv")),
    ("oob", include_str!("../negative/oob.tsv")),
    ("joined", include_str!("../negative/joined.tsv")),
];

/// One line of a table.
pub(crate) struct Row {
    /// Table and line.
    pub(crate) place: String,
    pub(crate) class: &'static str,
    /// The input as the table writes it, cut for a message.
    pub(crate) shown: String,
    pub(crate) input: Vec<u8>,
    /// The replies, without their line ends.
    pub(crate) replies: Vec<String>,
    /// Whether the message is not over, so that the server waits for more.
    pub(crate) open: bool,
}

/// All tables.
pub(crate) fn rows() -> Vec<Row> {
    let tables = TABLES.into_iter();
    let rows = tables.flat_map(|(name, text)| {
        columns(text).map(move |(line, [class, input, replies, follows])| {
            assert!(matches!(follows, "ok" | "open"), "{name} {line}: {follows}");
            Row {
                place: format!("{name}.tsv, line {line}"),
                class,
                shown: input.chars().take(60).collect(),
                input: expand(input),
                replies: expected_lines(replies),
                open: follows == "open",
            }
        })
    });
    rows.collect()
}

/// The lines of a table that say something, with their numbers.
pub(crate) fn columns<const N: usize>(
    table: &'static str,
) -> impl Iterator<Item = (usize, [&'static str; N])> {
    let lines = table.lines().enumerate();
    let filled = lines.filter(|(_, text)| *text != "#" && !text.starts_with("# "));
    filled.map(|(number, text)| {
        let columns: Vec<_> = text.split('\t').collect();
        let columns = <[&str; N]>::try_from(columns);
        (
            number + 1,
            columns.expect("as many columns as there should be"),
        )
    })
}

/// What the third column stands for, without line ends.
pub(crate) fn expected_lines(replies: &str) -> Vec<String> {
    match replies {
        "-" => Vec::new(),
        several => several.split(" ; ").map(expected_line).collect(),
    }
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
pub(crate) fn expand(text: &str) -> Vec<u8> {
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
    let (text, id) = match text.rsplit_once(" #") {
        Some((text, id)) => (text, Some(id)),
        None => (text, None),
    };
    let id = id.map(|id| format!("\"id\": {id}"));
    let class = match class {
        "R " => {
            let id = id.map_or_else(String::new, |id| format!(", {id}"));
            return format!("{{\"return\": {text}{id}}}");
        }
        "E " => "GenericError",
        "C " => "CommandNotFound",
        "D " => "DeviceNotFound",
        other => panic!("unknown class {other:?}"),
    };
    let id = id.map_or_else(String::new, |id| format!("{id}, "));
    let line = format!("{{{id}\"error\": {{\"class\": \"{class}\", \"desc\": \"{text}\"}}}}");
    String::from_utf8(expand(&line)).expect("output is ASCII")
}
