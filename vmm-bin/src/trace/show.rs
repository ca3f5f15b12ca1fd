//! A trace as a table.

use std::fmt::Write as _;
use std::time::Duration;

use lifecycle::{Compat, Happening};

use super::describe;
use super::file::Timed;

/// The table: one record a line, with its time and how long after the one before it came.
pub(super) fn table(records: &[Timed], compat: Compat) -> String {
    let mut table = format!(
        "{:>6}  {:>14}  {:>8}  {:<8}  what\n",
        "number", "time (s)", "after", "kind"
    );
    let mut before: Option<&Timed> = None;
    for timed in records {
        let number = timed.record.sequence;
        if let Some(before) = before
            && before.record.sequence.wrapping_add(1) != number
        {
            let missing = number
                .saturating_sub(before.record.sequence)
                .saturating_sub(1);
            push(
                &mut table,
                format_args!("        ({missing} records are missing here)"),
            );
        }
        let after = before.map(|before| timed.at.saturating_sub(before.at));
        let after = after.map(describe::duration).unwrap_or_default();
        for (kind, text) in rows(&timed.record.happening, compat) {
            let time = seconds(timed.at);
            push(
                &mut table,
                format_args!("{number:>6}  {time:>14}  {after:>8}  {kind:<8}  {text}"),
            );
        }
        before = Some(timed);
    }
    table
}

fn push(table: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _it_does = writeln!(table, "{line}");
}

/// Seconds with all digits.
pub(super) fn seconds(at: Duration) -> String {
    format!("{}.{:09}", at.as_secs(), at.subsec_nanos())
}

fn rows(happening: &Happening, compat: Compat) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(request) = describe::request(happening) {
        rows.push(("request", request));
    }
    if let Some(steps) = describe::steps(happening, compat) {
        rows.push(("decision", describe::decision(&steps)));
    }
    match happening {
        Happening::State { from, to } => rows.push(("state", format!("{from} → {to}"))),
        Happening::Event(event) => rows.push(("event", describe::event(event))),
        Happening::Pausing => rows.push(("vCPUs", "are to stop".into())),
        Happening::Paused => rows.push(("vCPUs", "stand".into())),
        Happening::Resumed => rows.push(("vCPUs", "go on".into())),
        other => {
            if let Some(remark) = describe::remark(other) {
                rows.push(("note", remark));
            }
        }
    }
    rows
}
