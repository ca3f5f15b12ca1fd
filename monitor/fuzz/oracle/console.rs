//! What must hold for whatever a terminal sends: the body of a fuzz target and of a property test.

use monitor::console::Conversation;
use monitor::human::Console;

/// The lines that were executed.
pub(crate) type Lines = Vec<String>;

/// The most output that may wait: what is allowed, and what one key can add to it.
const MOST_OUTPUT: usize = 64 * 1024 + 16 * 1024;

/// Commands that remember that they were called.
pub(crate) fn commands() -> Console<Lines> {
    let mut console: Console<Lines> = Console::new();
    for name in ["stop|s", "cont|c", "system_reset", "system_wakeup"] {
        console.command(name, "", move |lines: &mut Lines, _| {
            lines.push(name.to_owned());
            Ok(String::new())
        });
    }
    console.info("status", "the status", |lines, _| {
        Ok(format!("{} lines\n", lines.len()))
    });
    console
}

/// Types it all, with a turn of the main loop for each line; gives what the terminal got.
pub(crate) fn terminal(person: &mut Conversation, lines: &mut Lines, input: &[u8]) -> Vec<u8> {
    let commands = commands();
    let mut out = Vec::new();
    let mut rest = input;
    loop {
        let used = person.feed(rest, &commands);
        rest = rest.get(used..).expect("no more is used than there is");
        person.execute(&commands, lines);
        person.finish();
        assert!(person.output().len() <= MOST_OUTPUT, "too much waits");
        out.extend_from_slice(person.output());
        person.written(usize::MAX);
        assert!(person.takes_input(), "it takes nothing, and nothing waits");
        if rest.is_empty() {
            return out;
        }
    }
}

/// However the bytes are split, the terminal gets the same, and the same lines are executed. The first byte
/// says where they are split.
pub(crate) fn check(data: &[u8]) {
    let Some((&at, input)) = data.split_first() else {
        return;
    };
    let run = |parts: &[&[u8]]| {
        let mut person = Conversation::new("vmm 1.0");
        let mut lines = Lines::new();
        let parts = parts.iter();
        let out: Vec<_> = parts
            .flat_map(|part| terminal(&mut person, &mut lines, part))
            .collect();
        (String::from_utf8(out).expect("text"), lines)
    };
    let (one, other) = input.split_at(usize::from(at).min(input.len()));
    let (out, lines) = run(&[input]);
    assert_eq!(run(&[one, other]), (out.clone(), lines));
    // Nothing that could do something to the terminal comes back, but our own sequences.
    let control = |c: char| c.is_control() && !matches!(c, '\r' | '\n' | '\u{7}' | '\u{1b}');
    assert!(!out.contains(control), "{out:?}");
}
