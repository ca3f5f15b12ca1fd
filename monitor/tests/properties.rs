//! Properties of the protocol: the cuts between reads do not matter, what serde_json takes is taken
//! alike, and what is written reads back.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod corpus;
#[path = "../fuzz/oracle/mod.rs"]
mod oracle;

use monitor::protocol::{Limits, Parser, to_line};
use oracle::{alike, alike_nearly, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Number, Value};

const COMMANDS: &[&[u8]] = &[
    b"{'execute':'qmp_capabilities'}",
    b"{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}",
    b"{'execute':'count','id':{'a':[1.5,null]}}",
    b"{'execute':'count','arguments':{'x':1}}",
    b"{'execute':'query-commands'}",
    b"{'execute':'bogus'}",
    b"{'exec-oob':'ping','id':'now'}",
    b"{'exec-oob':'count'}",
    b"{'exec",
    b"ute':'count'}",
    b"\xff",
];

const FRAGMENTS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b" ",
    b"\n",
    b"\"execute\"",
    b"'id'",
    b"'arguments'",
    b"\"",
    b"\\",
    b"\"\\u00e9\\ud83d\\ude00\"",
    b"\"\\ud800\"",
    b"\"\xc3\xa9\"",
    b"\"\xc3\"",
    b"true",
    b"nul",
    b"-12",
    b"0.5e3",
    b"1e999",
    b"01",
    b"\xff",
    b"\x01",
    b"\x00",
];

/// The names that a request's members may have, and one that they may not.
const MEMBERS: &[&str] = &["execute", "exec-oob", "arguments", "id", "extra"];

/// Bytes that look like QMP more often than chance has it.
fn qmp_like() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop_oneof![
        8 => select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 1..4),
    ];
    vec(bytes, 0..60).prop_map(|pieces| pieces.concat())
}

/// Characters that QMP can carry.
fn exchangeable() -> impl Strategy<Value = String> {
    let allowed = |c: &char| {
        let code = u32::from(*c);
        !(0xFDD0..=0xFDEF).contains(&code) && code & 0xFFFE != 0xFFFE
    };
    vec(any::<char>().prop_filter("a noncharacter", allowed), 0..12)
        .prop_map(|characters| characters.into_iter().collect())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter_map("not finite", Number::from_f64)
            .prop_map(Value::Number),
        exchangeable().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::Array),
            vec((exchangeable(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

#[test]
fn the_fuzzers_corpora_replay() {
    corpus::replay(include_str!("corpus/parser.txt"), oracle::parser);
    corpus::replay(include_str!("corpus/session.txt"), oracle::session);
    corpus::replay(include_str!("corpus/schema.txt"), oracle::schema);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_between_reads_do_not_matter(input in qmp_like(), cuts in vec(1_usize..9, 1..20)) {
        let limits = Limits::default().tokens(12).token_bytes(40).nesting(5);
        for limits in [Limits::default(), limits] {
            let whole = parse(limits, [&input[..]]);
            prop_assert_eq!(&whole, &parse(limits, input.chunks(1)));
            let mut pieces = Vec::new();
            let mut rest = &input[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(&whole, &parse(limits, pieces));
        }
    }

    #[test]
    fn what_is_written_reads_back(value in value()) {
        let line = to_line(&value);
        prop_assert!(line.is_ascii() && line.ends_with(b"\r\n"));
        prop_assert!(!line[..line.len() - 2].iter().any(u8::is_ascii_control));
        let messages = parse(Limits::default(), [&line[..]]);
        prop_assert_eq!(messages.len(), 1);
        let read = messages[0].as_ref().expect("our own output");
        prop_assert!(alike(read, &value), "{} became {}", value, read);
        let theirs: Value = serde_json::from_slice(&line).expect("JSON");
        prop_assert!(alike_nearly(&theirs, &value), "{} became {}", value, theirs);
    }

    #[test]
    fn what_is_forgotten_of_a_message_is_no_part_of_a_request(
        members in vec((select(MEMBERS), value()), 0..6),
        wrapped in any::<bool>(),
    ) {
        let mut message: Value = members.into_iter().collect();
        if wrapped {
            message = Value::Array(vec![message]);
        }
        oracle::requests(Limits::default(), &to_line(&message));
    }

    #[test]
    fn what_serde_json_writes_is_read_as_serde_json_reads_it(value in value()) {
        let text = value.to_string();
        let messages = parse(Limits::default(), [text.as_bytes()]);
        let theirs: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(messages.len(), 1);
        let ours = messages[0].as_ref().expect("JSON is QMP");
        prop_assert!(alike(ours, &value), "{} became {}", value, ours);
        prop_assert!(alike_nearly(ours, &theirs), "{} is not {}", ours, theirs);
    }

    #[test]
    fn the_fuzz_targets_hold_on_what_looks_like_qmp(
        seed in any::<u8>(),
        turns in vec((0_u8..3, qmp_like()), 0..12),
    ) {
        let mut parser_input = vec![seed];
        let mut session_input = Vec::new();
        for (who, bytes) in &turns {
            parser_input.extend(bytes);
            let bytes = &bytes[..bytes.len().min(255)];
            session_input.extend([*who, u8::try_from(bytes.len()).expect("at most 255")]);
            session_input.extend(bytes);
        }
        oracle::parser(&parser_input);
        oracle::session(&session_input);
    }

    #[test]
    fn sessions_hold_on_valid_commands_too(turns in vec((0_u8..3, select(COMMANDS)), 0..20)) {
        let mut input = Vec::new();
        for (who, command) in turns {
            input.extend([who, u8::try_from(command.len()).expect("short")]);
            input.extend(command);
        }
        oracle::session(&input);
    }

    #[test]
    fn a_schema_is_complete_whatever_is_registered(input in vec(any::<u8>(), 0..40)) {
        oracle::schema(&input);
    }

    #[test]
    fn nothing_is_held_after_the_resynchronisation_byte(input in qmp_like()) {
        let mut parser = Parser::new(Limits::default());
        let mut input = input;
        input.extend(b"\xff\n");
        let mut rest = &input[..];
        while !rest.is_empty() {
            let (used, _) = parser.feed(rest);
            rest = &rest[used..];
        }
        prop_assert!(parser.is_idle());
        let (_, message) = parser.feed(b"{}");
        prop_assert_eq!(message, Some(Ok(Value::Object(Map::new()))));
    }
}
