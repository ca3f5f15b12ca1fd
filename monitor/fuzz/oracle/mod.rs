//! What must hold for every input: the bodies of the fuzz targets, which the property tests run too.

use monitor::protocol::{Limits, ParseError, Parser, read_request};
use monitor::{Command, CommandError, NoArguments, Registry, Session, Version};
use serde_json::Value;

/// Equal, where doubles without a fraction may have become integers on the wire.
pub(crate) fn alike(a: &Value, b: &Value) -> bool {
    same(a, b, |a, b| a == b)
}

/// The same, but serde_json's own reading of a double may be off by its last bits.
pub(crate) fn alike_nearly(a: &Value, b: &Value) -> bool {
    same(a, b, |a, b| {
        (a - b).abs() <= a.abs().max(b.abs()) * 1e-15 + 1e-320
    })
}

fn same(a: &Value, b: &Value, doubles: fn(f64, f64) -> bool) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let both = a.as_f64().zip(b.as_f64());
            a == b || both.is_some_and(|(a, b)| doubles(a, b))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b, doubles))
        }
        (Value::Object(a), Value::Object(b)) => {
            let matches = |name, a| b.get(name).is_some_and(|b| same(a, b, doubles));
            a.len() == b.len() && a.iter().all(|(name, a)| matches(name, a))
        }
        (a, b) => a == b,
    }
}

/// Feeds the pieces and collects what comes out. A final newline ends numbers and keywords.
pub(crate) fn parse<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Value, ParseError>> {
    parse_with(Parser::new(limits), pieces)
}

fn parse_with<'a>(
    mut parser: Parser,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Value, ParseError>> {
    let mut messages = Vec::new();
    for piece in pieces.into_iter().chain([&b"\n"[..]]) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (used, message) = parser.feed(rest);
            assert!(used > 0 || message.is_some(), "no progress");
            assert!(
                message.is_some() || used == rest.len(),
                "stopped without a message"
            );
            rest = &rest[used..];
            messages.extend(message);
        }
    }
    messages
}

/// What a parser for requests forgets is no part of any request.
pub(crate) fn requests(limits: Limits, input: &[u8]) {
    let [all, less] = [Parser::new(limits), Parser::for_requests(limits)].map(|parser| {
        let messages = parse_with(parser, [input]).into_iter();
        let requests = messages.map(|message| message.map(read_request));
        requests.collect::<Vec<_>>()
    });
    assert_eq!(less, all);
}

/// The cuts between reads do not matter, under any limits, nor does what nobody wants; what
/// serde_json takes is taken alike.
pub(crate) fn parser(data: &[u8]) {
    let Some((&seed, input)) = data.split_first() else {
        return;
    };
    let step = usize::from(seed % 7) + 1;
    let tight = Limits::default().tokens(12).token_bytes(40).nesting(5);
    for limits in [Limits::default(), tight] {
        assert_eq!(
            parse(limits, [input]),
            parse(limits, input.chunks(step)),
            "cut by {step}"
        );
        requests(limits, input);
    }
    let Ok(theirs) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    match parse(Limits::default(), [input]).as_slice() {
        [Ok(ours)] => assert!(alike_nearly(ours, &theirs), "{ours} is not {theirs}"),
        // Stricter than serde_json by intention.
        [
            Err(
                ParseError::DuplicateKey
                | ParseError::InvalidCharacter(_)
                | ParseError::InvalidUtf8,
            ),
        ] => {}
        [Err(ParseError::TokenBytes | ParseError::TokenCount)] => assert!(input.len() > 1 << 14),
        // QEMU's zero takes no exponent.
        other => {
            let exponent = |w: &[u8]| w.eq_ignore_ascii_case(b"0e");
            assert!(input.windows(2).any(exponent), "{other:?}");
        }
    }
}

/// What a client is owed: one reply for each request, in order, each a line of ASCII JSON.
struct Client {
    session: Session,
    negotiated: bool,
}

/// Several clients of one registry, their input interleaved. Each byte pair of `data` says who
/// sends, and how much of what follows.
pub(crate) fn session(data: &[u8]) {
    let mut registry: Registry<u64> = Registry::new(Version::new(1, 2, 3, "oracle"));
    registry
        .command("count", |count: &mut u64, _: NoArguments| {
            *count += 1;
            Ok::<_, CommandError>(*count)
        })
        .add(Command::out_of_band("ping", |_: NoArguments| Ok("pong")));
    let mut count = 0;
    let mut clients: Vec<_> = (0..3)
        .map(|_| Client {
            session: Session::new(Limits::default()),
            negotiated: false,
        })
        .collect();
    let mut rest = data;
    while let [who, length, after @ ..] = rest {
        let (mut input, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let client = &mut clients[usize::from(who % 3)];
        while !input.is_empty() {
            let used = client.session.feed(input);
            input = &input[used..];
            assert!(
                client.session.is_pending() || input.is_empty(),
                "stopped without a request"
            );
            if !client.session.is_pending() {
                continue;
            }
            if !client.session.takes_input() {
                let used = client.session.feed(b"{}");
                assert_eq!(used, 0, "input is taken while too many requests wait");
            }
            let before = count;
            let reply = client
                .session
                .execute(&registry, &mut count)
                .expect("it was pending");
            assert!(
                client.session.execute(&registry, &mut count).is_none(),
                "one reply only"
            );
            check(&reply.line);
            assert!(
                client.negotiated || count == before,
                "a command ran before negotiation"
            );
            assert!(!(reply.negotiated && client.negotiated), "negotiated twice");
            client.negotiated |= reply.negotiated;
            assert_eq!(client.negotiated, client.session.is_negotiated());
        }
    }
}

fn check(line: &[u8]) {
    let body = line.strip_suffix(b"\r\n").expect("a line ends in CR LF");
    assert!(
        body.iter().all(|b| (0x20..0x7F).contains(b)),
        "{}",
        body.escape_ascii()
    );
    let reply: Value = serde_json::from_slice(body).expect("JSON");
    let members = reply.as_object().expect("an object");
    assert_ne!(
        members.contains_key("return"),
        members.contains_key("error")
    );
}

/// A schema of types that the input invents: every name that is used is there, once, and every entry
/// has the members of its kind.
pub(crate) fn schema(data: &[u8]) {
    let mut registry: Registry<()> = Registry::new(Version::new(1, 2, 3, "oracle"));
    for byte in data {
        let name = format!("command-{}", byte >> 4);
        match byte & 7 {
            0 => registry.described(name, |(): &mut (), _: schema_types::Circle| Ok(())),
            1 => registry.described(name, |(): &mut (), _: schema_types::Words| {
                Ok(vec![Some(schema_types::Word::One)])
            }),
            2 => registry.described(name, |(): &mut (), _: NoArguments| Ok(vec![vec![1_u8]])),
            3 => registry.command(name, |(): &mut (), _: Value| Ok::<_, CommandError>(())),
            4 => registry.add(Command::out_of_band(name, |_: schema_types::Words| {
                Ok(true)
            })),
            5 => registry.add(
                Command::described(name, |(): &mut (), _: NoArguments| Ok(1.5)).disabled("off"),
            ),
            6 => registry.event(monitor::EventSpec::new(name).data::<schema_types::Words>()),
            _ => registry.event(&*name),
        };
    }
    let arguments = serde_json::Map::new();
    let schema = registry.execute(&mut (), "query-qmp-schema", arguments);
    let schema = schema.expect("it takes no arguments");
    let entries = schema.as_array().expect("a list");
    let mut names = std::collections::BTreeSet::new();
    for entry in entries {
        let kind = entry["meta-type"].as_str().expect("a kind");
        let name = entry["name"].as_str().expect("a name");
        // Commands and events may share a name with each other, and with no type.
        let of_type = !matches!(kind, "command" | "event");
        assert!(
            names.insert((of_type, kind == "event", name)),
            "{name} is there twice"
        );
    }
    let known = |name: &Value| {
        let name = name.as_str().expect("a name");
        assert!(names.contains(&(true, false, name)), "{name} is not there");
    };
    for entry in entries {
        let list = |member: &str| entry[member].as_array().cloned().unwrap_or_default();
        match entry["meta-type"].as_str() {
            Some("command") => [&entry["arg-type"], &entry["ret-type"]]
                .into_iter()
                .for_each(known),
            Some("event") => known(&entry["arg-type"]),
            Some("array") => known(&entry["element-type"]),
            Some("object") => {
                list("members")
                    .iter()
                    .for_each(|member| known(&member["type"]));
                list("variants")
                    .iter()
                    .for_each(|variant| known(&variant["type"]));
            }
            Some("enum") => assert_eq!(list("members").len(), list("values").len()),
            Some("builtin") => assert!(entry["json-type"].is_string()),
            other => assert_eq!(other, None, "it is no kind"),
        }
    }
    // What the schema lists can be called; what it leaves out cannot.
    for number in 0..16 {
        let name = format!("command-{number}");
        let result = registry.execute(&mut (), &name, serde_json::Map::new());
        let missing =
            |error: CommandError| error.class() == monitor::protocol::ErrorClass::CommandNotFound;
        let listed = names.contains(&(false, false, &name));
        assert_eq!(listed, !result.err().is_some_and(missing), "{name}");
    }
}

mod schema_types {
    monitor::qapi! {
        /// A type that contains itself.
        #[derive(serde::Deserialize)]
        pub(super) struct Circle {
            next: Option<Box<Circle>>,
            others: Vec<Circle>,
        }
    }

    monitor::qapi! {
        #[derive(serde::Deserialize, serde::Serialize)]
        pub(super) struct Words {
            first: Word,
            more: Option<Vec<Word>>,
            any as "x-any": Option<serde_json::Value>,
        }
    }

    monitor::qapi! {
        #[derive(serde::Deserialize, serde::Serialize)]
        pub(super) enum Word { One, TwoWords, Three as "3" }
    }
}
