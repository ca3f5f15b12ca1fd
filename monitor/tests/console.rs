//! The human monitor at a terminal: editing, completion, history, limits, and whatever bytes come.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod corpus;
#[path = "../fuzz/oracle/console.rs"]
mod oracle;

use monitor::console::Conversation;
use oracle::{Lines, commands, terminal};
use proptest::prelude::*;

const GREETING: &str = "vmm 1.0 monitor - type 'help' for more information\r\n(qemu) ";

fn screen(input: &str) -> (String, Lines) {
    let mut lines = Lines::new();
    let mut person = Conversation::new("vmm 1.0");
    let out = terminal(&mut person, &mut lines, input.as_bytes());
    let text = String::from_utf8(out).expect("text");
    let rest = text.strip_prefix(GREETING).expect("greeting and prompt");
    (rest.to_owned(), lines)
}

#[test]
fn the_fuzzers_corpus_replays() {
    corpus::replay(include_str!("corpus/console.txt"), oracle::check);
}

#[test]
fn a_program_reads_what_it_sent_and_the_answer() {
    let (text, lines) = screen("stop\ninfo status\r\n");
    assert_eq!(lines, ["stop|s"]);
    assert_eq!(text, "stop\r\n(qemu) info status\r\n1 lines\r\n(qemu) ");
}

#[test]
fn a_mistake_is_mended_before_the_line_is_executed() {
    // Backspace, a word deleted, the arrow keys, Home.
    for input in [
        "stpo\x7f\x7fop\r",
        "nonsense\x17stop\r",
        "stp\x1b[Do\r",
        "top\x01s\r",
    ] {
        assert_eq!(screen(input).1, ["stop|s"], "{input:?}");
    }
}

#[test]
fn a_line_is_given_up() {
    let (text, lines) = screen("stop\x03cont\r");
    assert_eq!(lines, ["cont|c"]);
    assert!(text.starts_with("stop\r\n(qemu) cont\r\n"), "{text:?}");
}

#[test]
fn the_line_before_comes_back() {
    let (_, lines) = screen("stop\rcont\r\x1b[A\x1b[A\r\x10\x10\x0e\r");
    assert_eq!(lines, ["stop|s", "cont|c", "stop|s", "stop|s"]);
}

#[test]
fn words_are_completed_or_listed() {
    let (text, lines) = screen("sy\tr\t\r");
    assert_eq!(lines, ["system_reset"]);
    assert_eq!(text, "system_reset \r\n(qemu) ");
    let (text, _) = screen("system_\t");
    assert_eq!(
        text,
        "system_\r\nsystem_reset\r\nsystem_wakeup\r\n(qemu) system_"
    );
    assert_eq!(screen("in\tst\t\r").0, "info status \r\n0 lines\r\n(qemu) ");
    assert_eq!(screen("zz\t").0, "zz");
}

#[test]
fn a_line_that_is_too_long_is_not_executed_in_part() {
    let long = format!("stop{}\rcont\r", " ".repeat(5000));
    let (text, lines) = screen(&long);
    assert_eq!(lines, ["cont|c"]);
    assert!(text.contains("line too long: at most 4095 bytes"), "{text}");
    assert!(text.contains('\u{7}'), "it is said at once too");
}

#[test]
fn a_byte_that_is_no_text_makes_no_other_command_of_a_word() {
    let mut lines = Lines::new();
    let mut person = Conversation::new("vmm 1.0");
    let out = terminal(&mut person, &mut lines, b"st\xffop\rst\xc3op\r");
    assert_eq!(lines, Lines::new());
    let text = String::from_utf8(out).expect("text");
    assert!(text.contains("unknown command: 'st\u{fffd}op'"), "{text:?}");
}

#[test]
fn nothing_is_taken_while_a_line_waits_or_nobody_reads() {
    let commands = commands();
    let mut person = Conversation::new("vmm 1.0");
    assert_eq!(person.feed(b"s\rs\r", &commands), 2);
    assert!(person.is_pending());
    assert_eq!(person.feed(b"s\r", &commands), 0);
    person.execute(&commands, &mut Lines::new());
    assert_eq!(person.feed(b"s\r", &commands), 0, "the answer comes first");
    person.finish();
    // A list for each key, and nobody reads.
    let keys = [b'\t'; 1 << 16];
    person.feed(b"system_", &commands);
    let used = person.feed(&keys, &commands);
    assert!(used < keys.len() && !person.takes_input());
    assert!(person.output().len() < 70_000, "{}", person.output().len());
    person.written(person.output().len());
    assert!(person.feed(&keys, &commands) > 0);
}

#[test]
fn the_next_person_knows_nothing_of_the_one_before() {
    let commands = commands();
    let mut person = Conversation::new("vmm 1.0");
    let mut lines = Lines::new();
    terminal(&mut person, &mut lines, b"stop\rcon");
    person.restart();
    assert_eq!(person.output(), GREETING.as_bytes());
    person.feed(b"\x1b[A\r", &commands);
    person.execute(&commands, &mut lines);
    assert_eq!(lines, ["stop|s"]);
}

#[test]
fn on_a_terminal_of_others_it_keeps_to_its_lines() {
    let mut person = Conversation::silent("vmm 1.0");
    let mut lines = Lines::new();
    assert_eq!(person.output(), b"");
    person.enter();
    assert_eq!(person.output(), format!("\r\n{GREETING}").as_bytes());
    terminal(&mut person, &mut lines, b"sto");
    person.leave();
    person.enter();
    assert_eq!(person.output(), b"\r\n\r\n(qemu) sto");
    terminal(&mut person, &mut lines, b"p\r");
    assert_eq!(lines, ["stop|s"]);
}

#[test]
fn the_end_shows_the_last_answer_and_no_prompt() {
    let commands = commands();
    let mut person = Conversation::new("vmm 1.0");
    person.feed(b"info status\r", &commands);
    person.written(usize::MAX);
    person.execute(&commands, &mut Lines::new());
    person.end();
    assert_eq!(person.output(), b"0 lines\r\n");
}

/// What people type, and what nobody types.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "stop",
            "s",
            "system_",
            "info ",
            "\t",
            "\r",
            "\n",
            "\x7f",
            "\x1b[A",
            "\x1b[B",
            "\x1b[C",
            "\x1b[D",
            "\x1b[3~",
            "\x1bb",
            "\x1bf",
            "\x1bd",
            "\x17",
            "\x15",
            "\x0b",
            "\x19",
            "\x14",
            "\x01",
            "\x05",
            "\x0c",
            "\x03",
            "\x04",
            "\u{6f22}",
            "e\u{301}",
            "\u{1f469}\u{200d}\u{1f680}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    #[test]
    fn whatever_comes_it_does_not_matter_how_it_is_split(input in input(), cut in any::<u8>()) {
        oracle::check(&[&[cut], input.as_slice()].concat());
    }

    /// The terminal, played by a model that knows the few sequences that are sent, shows what would be
    /// executed.
    #[test]
    fn the_terminal_shows_the_line(keys in prop::collection::vec(prop::sample::select(vec![
        "a", "b", " ", "\x7f", "\x1b[C", "\x1b[D", "\x1b[3~", "\x1bb", "\x1bf", "\x17", "\x15", "\x0b",
        "\x19", "\x14", "\x01", "\x05", "\x1b[A", "\x1b[B",
    ]), 0..50)) {
        let mut person = Conversation::new("vmm 1.0");
        let mut lines = Lines::new();
        // No part of it is a command.
        terminal(&mut person, &mut lines, b"f1r2t\r");
        let out = terminal(&mut person, &mut lines, keys.concat().as_bytes());
        let shown = shown(&String::from_utf8(out).expect("text"));
        let commands = commands();
        person.feed(b"\r", &commands);
        person.execute(&commands, &mut lines);
        person.finish();
        let answer = String::from_utf8(person.output().to_vec()).expect("text");
        // The error repeats the space before the word too.
        let space = shown.len().saturating_sub(shown.trim_start().len());
        match shown.split_ascii_whitespace().next() {
            Some(word) => {
                let named = &shown[..space.saturating_add(word.len())];
                prop_assert!(answer.contains(&format!("unknown command: '{named}'")), "{:?} {:?}", shown, answer);
            }
            None => prop_assert_eq!(answer, "\r\n(qemu) "),
        }
    }
}

/// One line of a terminal.
fn shown(out: &str) -> String {
    let mut line: Vec<char> = Vec::new();
    let mut column: usize = 0;
    let mut rest = out.chars();
    while let Some(character) = rest.next() {
        if character != '\x1b' {
            if column == line.len() {
                line.push(character);
            } else {
                line[column] = character;
            }
            column = column.saturating_add(1);
            continue;
        }
        let sequence: String = rest
            .by_ref()
            .take_while(|c| !c.is_ascii_alphabetic())
            .collect();
        let count: usize = sequence.trim_start_matches('[').parse().unwrap_or(0);
        // `take_while` has used up the letter, and there are three: D and C have a number, K has none.
        if sequence == "[" {
            line.truncate(column);
        } else if out_is_left(out, &rest) {
            column = column.saturating_sub(count);
        } else {
            column = column.saturating_add(count).min(line.len());
        }
    }
    line.into_iter().collect()
}

/// Whether the letter before the rest is a D.
fn out_is_left(out: &str, rest: &std::str::Chars<'_>) -> bool {
    let end = out.len().saturating_sub(rest.as_str().len());
    out[..end].ends_with('D')
}
