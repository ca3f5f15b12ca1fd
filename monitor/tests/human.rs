//! The human monitor: what each line is answered with, and that QEMU answers the same.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod qemu;
mod soft;
mod support;

use serde_json::{Value, json};
use soft::Soft;
use std::path::Path;
use support::Client;

/// Lines in the order in which both servers get them. Where the text is the same for every server,
/// it stands here too.
const LINES: &[(&str, Option<&str>)] = &[
    ("info status", Some("VM status: paused (prelaunch)\r\n")),
    ("info name", Some("soft\r\n")),
    (
        "info uuid",
        Some("00000000-0000-0000-0000-000000000000\r\n"),
    ),
    ("cont", Some("")),
    ("info status", Some("VM status: running\r\n")),
    ("s", Some("")),
    ("info  status  ", Some("VM status: paused\r\n")),
    ("\tstop\n", Some("")),
    ("", Some("")),
    ("   ", Some("")),
    ("system_reset", Some("")),
    ("system_powerdown", Some("")),
    (
        "system_wakeup",
        Some("Error: Unable to wake up: guest is not in suspended state\r\n"),
    ),
    ("nmi", Some("")),
    ("foo", Some("unknown command: 'foo'\r\n")),
    ("foo bar", None),
    ("foo/bar", None),
    ("/x", Some("unknown command: ''\r\n")),
    (" \tfoo bar", Some("unknown command: ' \tfoo'\r\n")),
    ("  stop now", None),
    (" info  foo", None),
    ("info foo", Some("unknown command: 'info foo'\r\n")),
    ("info   foo bar", None),
    ("info/x", None),
    ("STOP", None),
    ("\"stop\"", None),
    ("c;s", None),
    ("# stop", None),
    ("caf\u{e9}", None),
    (
        "stop now",
        Some(
            "stop|s: extraneous characters at the end of line\r\n\
             Try \"help stop\" for more information\r\n",
        ),
    ),
    ("s now", None),
    ("cont x y", None),
    ("stop\ninfo status", None),
    ("nmi 0", None),
    ("info status x", None),
    ("info  status x", None),
    ("quit 1", None),
    ("help stop", Some("stop|s  -- stop emulation\r\n")),
    ("? c", None),
    ("help help", None),
    ("help ?", None),
    ("help quit", None),
    ("help nmi extra", None),
    ("help \"nmi\"", None),
    ("help \"info\"\"status\"x", None),
    ("help \"nmi", Some("")),
    ("help nmi \"\\x\"", Some("")),
    ("help system_reset", None),
    ("help system_powerdown", None),
    ("help system_wakeup", None),
    ("help info status", None),
    ("help info version", None),
    ("help info cpus", None),
    ("help info name", None),
    ("help info uuid", None),
    ("help info registers", None),
    ("info registers -b", None),
    ("info registers foo", None),
    ("info registers 1 2", None),
    ("info registers -a x", None),
    ("info registers 08", None),
    ("info registers 0x", None),
    ("info registers 4294967296", None),
    ("info registers 99999999999999999999", None),
    ("info registers 7", Some("CPU#7 not available\r\n")),
    ("info registers 0x7fffffff", None),
    ("help foo", Some("unknown command: 'foo'\r\n")),
    ("help  info   foo", None),
    ("help foo bar", None),
    ("help info foo bar", None),
    // A machine that was reset while it stood has not run yet.
    ("info status", Some("VM status: paused (prelaunch)\r\n")),
];

fn human(client: &mut Client, arguments: &Value) -> Value {
    let request = json!({"execute": "human-monitor-command", "arguments": arguments});
    client.call(&request.to_string())
}

fn say(client: &mut Client, line: &str) -> String {
    let reply = human(client, &json!({"command-line": line}));
    reply["return"].as_str().expect("a text").to_owned()
}

/// What the lines are answered with.
fn answers(mut client: Client) -> Vec<String> {
    client.negotiate();
    LINES
        .iter()
        .map(|(line, _)| say(&mut client, line))
        .collect()
}

fn with_server(test: impl FnOnce(&Path)) {
    let soft = Soft::start();
    test(soft.path());
    // `quit` for people is `quit`: the event, the empty text, the end.
    let mut client = soft.client();
    client.send("{'execute':'human-monitor-command','arguments':{'command-line':'q'}}");
    assert_eq!(client.order(2), ["SHUTDOWN", "reply", "end"]);
    soft.cause();
}

#[test]
fn lines_are_answered_as_the_table_says() {
    with_server(|path| {
        for ((line, expected), answer) in LINES.iter().zip(answers(Client::connect(path))) {
            if let Some(expected) = expected {
                assert_eq!(answer, *expected, "{line:?}");
            }
            assert!(answer.is_empty() || answer.ends_with("\r\n"), "{line:?}");
        }
    });
}

#[test]
fn qemu_answers_the_same_lines_with_the_same_text() {
    let arguments = ["-M", "pc,accel=tcg", "-smp", "2", "-name", "soft"];
    let Some((_qemu, [theirs])) = qemu::start(&arguments) else {
        return;
    };
    with_server(|ours| {
        let wrong: Vec<_> = LINES
            .iter()
            .zip(
                answers(Client::connect(ours))
                    .into_iter()
                    .zip(answers(theirs)),
            )
            .filter(|(_, (our, their))| our != their)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn a_client_chooses_the_cpu_for_each_line_by_itself() {
    with_server(|path| {
        let mut client = Client::connect(path);
        client.negotiate();
        let id = std::process::id();
        let second = json!({"command-line": "info cpus", "cpu-index": 1});
        let text = format!("  CPU #0: thread_id={id}\r\n* CPU #1: thread_id={id}\r\n");
        assert_eq!(human(&mut client, &second), json!({"return": text}));
        let text = format!("* CPU #0: thread_id={id}\r\n  CPU #1: thread_id={id}\r\n");
        assert_eq!(say(&mut client, "info cpus"), text);
        for index in [-1, 2, i64::MAX] {
            let line = json!({"command-line": "stop", "cpu-index": index});
            let reply = human(&mut client, &line);
            let text = "Parameter 'cpu-index' expects a CPU number";
            assert_eq!(reply["error"]["desc"], text);
        }
    });
}

#[test]
fn help_lists_every_command_once_and_in_order() {
    with_server(|path| {
        let mut client = Client::connect(path);
        client.negotiate();
        let names = |text: &str, word: usize| -> Vec<String> {
            let lines = text.lines();
            lines
                .map(|line| line.split(' ').nth(word).expect("a name").to_owned())
                .collect()
        };
        let help = say(&mut client, "help");
        let expected = [
            "cont|c",
            "help|?",
            "info",
            "nmi",
            "quit|q",
            "stop|s",
            "system_powerdown",
            "system_reset",
            "system_wakeup",
        ];
        assert_eq!(names(&help, 0), expected);
        let infos = say(&mut client, "info");
        assert_eq!(
            names(&infos, 1),
            ["cpus", "name", "registers", "status", "uuid", "version"]
        );
        assert_eq!(say(&mut client, "help info"), infos);
        assert_eq!(say(&mut client, "info version"), "7.2.0soft-vmm\r\n");
    });
}

#[test]
fn registers_are_shown_of_one_cpu_or_of_all() {
    with_server(|path| {
        let mut client = Client::connect(path);
        client.negotiate();
        let [first, second] = ["0", "1"].map(|n| format!("\r\nCPU#{n}\r\nR0={n}\r\n"));
        assert_eq!(say(&mut client, "info registers"), first);
        assert_eq!(say(&mut client, "info registers 0x1"), second);
        assert_eq!(
            say(&mut client, "info registers -a"),
            [first, second.clone()].concat()
        );
        let chosen = json!({"command-line": "info registers", "cpu-index": 1});
        assert_eq!(human(&mut client, &chosen), json!({"return": second}));
    });
}
