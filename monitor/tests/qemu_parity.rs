//! The tables of malformed input against QEMU itself: what it replies is compared byte for byte.
//!
//! Needs `qemu-system-x86_64` of version 7.2; without it the test says so and passes. Left out are
//! the classes that name this test program's own commands, and the limits that differ by intention.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod qemu;
mod support;
mod table;

use support::Client;
use table::Row;

const CLASSES: [&str; 16] = [
    "lexical", "control", "resync", "utf-8", "escape", "syntax", "open", "form", "nesting",
    "types", "ids", "members", "greeting", "again", "oob", "joined",
];

/// Rows for one QEMU, which has a monitor for each.
const ROWS: usize = 100;

/// What QEMU replies to a row's input.
fn ask(mut client: Client, row: &Row) -> Vec<String> {
    match row.class {
        "greeting" => {}
        "oob" => {
            client.call("{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}");
        }
        _ => client.negotiate(),
    }
    client.send(&row.input);
    // The resynchronisation byte ends whatever is under way, with an error of its own.
    client.send(b"\xff");
    if row.class == "greeting" {
        client.send(b"{'execute':'qmp_capabilities','id':'end'}");
    } else {
        client.send(b"{'execute':'query-name','id':'end'}");
    }
    let mut replies = Vec::new();
    loop {
        let line = client.line().expect("QEMU goes on");
        if line.ends_with("\"id\": \"end\"}") {
            break;
        }
        replies.push(line);
    }
    let last = replies.pop().expect("the byte leads to an error");
    assert!(last.contains("JSON parse error, stray"), "{last}");
    if row.open {
        // What the byte has cut off (a number, say) may have led to one more.
        replies.truncate(row.replies.len());
    }
    replies
}

#[test]
fn qemu_replies_as_the_table_says() {
    let nesting = |row: &Row| {
        row.replies
            .iter()
            .any(|reply| reply.contains("nesting depth"))
    };
    // QEMU offers `oob` on a socket.
    let oob = |row: &Row| {
        row.replies
            .iter()
            .any(|reply| reply.contains("Capability oob"))
    };
    let rows: Vec<_> = table::rows()
        .into_iter()
        .filter(|row| (CLASSES.contains(&row.class) || nesting(row)) && !oob(row))
        .collect();
    assert!(rows.len() > 900, "only {} rows", rows.len());
    let mut wrong = Vec::new();
    for rows in rows.chunks(ROWS) {
        let Some((_qemu, clients)) = qemu::start::<ROWS>(&["-M", "none"]) else {
            return;
        };
        for (row, client) in rows.iter().zip(clients) {
            let replies = ask(client, row);
            if replies != row.replies {
                let (place, shown, ours) = (&row.place, &row.shown, &row.replies);
                wrong.push(format!(
                    "{place}: {shown}\nQEMU: {replies:#?}\nours: {ours:#?}"
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n\n")
    );
}
