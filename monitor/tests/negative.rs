//! Malformed input: one line of a table in `negative/` each, with the replies that it must lead to.
//!
//! Each line is fed several times, whole, byte by byte and cut in the middle, the longest ones whole and
//! in pieces: the replies may not differ. Afterwards the connection must be in the state that the table says. The commands that the
//! tables name are refused for their arguments, and none of them runs.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

#[path = "negative/commands.rs"]
mod commands;
mod table;

use monitor::inventory::{Inventory, MemorySize};
use monitor::protocol::Limits;
use monitor::{Command, CommandError, NoArguments, Registry, Session, Version};
use serde::Deserialize;
use serde_json::Value;
use table::Row;

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

/// How many commands have run: none of the tables' may.
#[derive(Default)]
struct Runs(u32);

impl Inventory for Runs {
    fn memory(&self) -> MemorySize {
        MemorySize {
            base_memory: 0,
            plugged_memory: None,
        }
    }
}

fn count<A>(runs: &mut Runs, _: A) -> Result<(), CommandError> {
    runs.0 += 1;
    Ok(())
}

fn nothing(_: &mut Runs, _: NoArguments) -> Result<(), CommandError> {
    Ok(())
}

fn registry(oob: bool) -> Registry<Runs> {
    let mut registry = Registry::new(Version::new(7, 2, 0, ""));
    registry
        .command("probe", nothing)
        .command("typed", count::<Typed>)
        .command("echo", |runs: &mut Runs, echo: Echo| {
            runs.0 += 1;
            Ok::<_, CommandError>(echo.value)
        })
        .command("refuse", |_: &mut Runs, _: NoArguments| {
            Err::<(), _>(CommandError::generic("not now"))
        })
        .add(Command::new("off", count::<NoArguments>).disabled("not built in"))
        .add(Command::new("silent-off", count::<NoArguments>).disabled(""));
    commands::register(&mut registry);
    if oob {
        monitor::inventory::register(&mut registry);
    }
    registry
}

struct Connection {
    registry: Registry<Runs>,
    session: Session,
    runs: Runs,
}

impl Connection {
    /// A connection that is as far as the class says.
    fn new(class: &str) -> Self {
        let mut connection = Connection {
            registry: registry(class == "oob"),
            session: Session::new(Limits::default()),
            runs: Runs::default(),
        };
        let negotiation: &[u8] = match class {
            "greeting" => return connection,
            "oob" => b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
            _ => b"{'execute':'qmp_capabilities'}",
        };
        assert_eq!(connection.feed([negotiation]), ["{\"return\": {}}"]);
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

fn check(class: &str, input: &[u8], expected: &[String], open: bool) -> Result<(), String> {
    let middle = input.len() / 2;
    let cuts: &[Vec<&[u8]>] = if input.len() < 4 << 10 {
        &[
            vec![input],
            input.chunks(1).collect(),
            vec![&input[..middle], &input[middle..]],
        ]
    } else {
        &[vec![input], input.chunks(997).collect()]
    };
    for pieces in cuts {
        let mut connection = Connection::new(class);
        let replies = connection.feed(pieces.iter().copied());
        if replies != expected {
            return Err(format!("replies {replies:#?}\ninstead of {expected:#?}"));
        }
        if connection.runs.0 > 0 {
            return Err("a command was run".to_owned());
        }
        if open {
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
    let rows = table::rows();
    for Row {
        place,
        class,
        shown,
        input,
        replies,
        open,
    } in &rows
    {
        if let Err(why) = check(class, input, replies, *open) {
            wrong.push(format!("{place}: {shown}\n{why:.2000}"));
        }
    }
    let count = rows.len();
    assert!(
        wrong.is_empty(),
        "{} of {count} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    assert!(count >= 1000, "the tables have only {count} rows");
}
