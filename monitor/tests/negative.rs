//! Malformed input: one line of `negative.tsv` each, with the replies that it must lead to.
//!
//! Each line is fed three times, whole, byte by byte and cut in the middle: the replies may not
//! differ. Afterwards the connection must be in the state that the table says.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

use monitor::protocol::Limits;
use monitor::{Command, CommandError, NoArguments, Registry, Session, Version};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Reset,
    Pause,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct Typed {
    flag: bool,
    count: Option<u32>,
    name: Option<String>,
    action: Option<Action>,
    list: Option<Vec<Action>>,
    size: Option<f64>,
    inner: Option<Inner>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct Inner {
    id: i64,
}

#[derive(Deserialize)]
struct Echo {
    value: Value,
}

/// Counts how many commands have run: none of the table's may.
fn registry() -> Registry<u32> {
    fn count<A>(runs: &mut u32, _: A) -> Result<(), CommandError> {
        *runs += 1;
        Ok(())
    }
    let mut registry = Registry::new(Version::new(7, 2, 0, ""));
    registry
        .command("probe", |_: &mut u32, _: NoArguments| {
            Ok::<_, CommandError>(())
        })
        .command("typed", count::<Typed>)
        .command("echo", |runs: &mut u32, echo: Echo| {
            *runs += 1;
            Ok::<_, CommandError>(echo.value)
        })
        .command("refuse", |_: &mut u32, _: NoArguments| {
            Err::<(), _>(CommandError::generic("not now"))
        })
        .add(Command::new("off", count::<NoArguments>).disabled("not built in"))
        .add(Command::new("silent-off", count::<NoArguments>).disabled(""));
    registry
}

struct Connection {
    registry: Registry<u32>,
    session: Session,
    runs: u32,
}

impl Connection {
    fn new(negotiated: bool) -> Self {
        let session = Session::new(Limits::default());
        let mut connection = Connection {
            registry: registry(),
            session,
            runs: 0,
        };
        if negotiated {
            let replies = connection.feed([&b"{'execute':'qmp_capabilities'}"[..]]);
            assert_eq!(replies, ["{\"return\": {}}"]);
        }
        connection
    }

    /// Feeds the pieces and returns the replies, without their line ends.
    fn feed<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut replies = Vec::new();
        for piece in pieces {
            let mut rest = piece;
            loop {
                let used = self.session.feed(rest);
                rest = &rest[used..];
                match self.session.execute(&self.registry, &mut self.runs) {
                    Some(reply) => {
                        let line = String::from_utf8(reply.line).expect("output is ASCII");
                        let line = line.strip_suffix("\r\n").expect("a line ends in CR LF");
                        assert!(line.bytes().all(|b| (0x20..0x7F).contains(&b)), "{line}");
                        replies.push(line.to_owned());
                    }
                    None if rest.is_empty() => break,
                    None => {}
                }
            }
        }
        replies
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

fn check(class: &str, input: &[u8], expected: &[String], follows: &str) -> Result<(), String> {
    let middle = input.len() / 2;
    let cuts: [Vec<&[u8]>; 3] = [
        vec![input],
        input.chunks(1).collect(),
        vec![&input[..middle], &input[middle..]],
    ];
    for pieces in cuts {
        let mut connection = Connection::new(class != "greeting");
        let replies = connection.feed(pieces);
        if replies != expected {
            return Err(format!("replies {replies:#?}\ninstead of {expected:#?}"));
        }
        if connection.runs > 0 {
            return Err("a command was run".to_owned());
        }
        if follows == "open" {
            let replies = connection.feed([&b"\xff"[..]]);
            let last = replies.last().map(String::as_str).unwrap_or_default();
            if !last.contains("\"JSON parse error, stray '") {
                return Err(format!("0xFF in the middle led to {replies:#?}"));
            }
        }
        if class == "greeting" {
            connection.feed([&b"{'execute':'qmp_capabilities'}"[..]]);
        }
        let replies = connection.feed([&b"{'execute':'probe','id':'after'}"[..]]);
        if replies != ["{\"return\": {}, \"id\": \"after\"}"] {
            return Err(format!("a good command afterwards led to {replies:#?}"));
        }
    }
    Ok(())
}

#[test]
fn every_malformed_input_gets_its_reply() {
    let mut wrong = Vec::new();
    let mut rows = 0;
    let table = include_str!("negative.tsv");
    let lines = table
        .lines()
        .enumerate()
        .filter(|(_, l)| !l.is_empty() && !l.starts_with("# "));
    for (number, line) in lines.filter(|(_, line)| *line != "#") {
        rows += 1;
        let [class, input, replies, follows] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("line {} has not four columns", number + 1);
        };
        assert!(
            matches!(follows, "ok" | "open"),
            "line {}: {follows}",
            number + 1
        );
        let expected: Vec<_> = match replies {
            "-" => Vec::new(),
            several => several.split(" ; ").map(expected_line).collect(),
        };
        if let Err(why) = check(class, &expand(input), &expected, follows) {
            let shown: String = input.chars().take(60).collect();
            wrong.push(format!("line {}: {shown}\n{why:.2000}", number + 1));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {rows} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    assert!(rows >= 300, "the table has only {rows} rows");
}
