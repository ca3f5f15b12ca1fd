//! The README's table of exit codes: those of the causes are what the lifecycle makes of them, and no
//! two ends that are not the guest's own share one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use lifecycle::{ExitStatus, ShutdownCause, ShutdownRequest};

/// How it ended, its cause if it has one, and its two codes.
struct Row<'a> {
    how: &'a str,
    cause: Option<ShutdownCause>,
    codes: [&'a str; 2],
}

fn rows(readme: &str) -> Vec<Row<'_>> {
    let section = readme.split("\n## Exit codes\n").nth(1).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = table.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [how, cause, qemu, by_cause] = <[&str; 4]>::try_from(cells).unwrap();
        let cause = (!cause.is_empty()).then(|| cause.trim_matches('`').parse().unwrap());
        Row {
            how,
            cause,
            codes: [qemu, by_cause],
        }
    })
    .collect()
}

#[test]
fn the_table_says_what_the_lifecycle_does() {
    let readme = include_str!("../README.md");
    let rows = rows(readme);
    assert!(rows.len() >= 12);
    for Row { how, cause, codes } in &rows {
        // The guest's own code, and what has no cause, are in the tests of those ends.
        let (Some(cause), false) = (cause, codes[0] == "2n+1") else {
            continue;
        };
        let failure = how.contains("exit-failure");
        let status = ExitStatus::new(ShutdownRequest::new(*cause), failure, None);
        let says = [status.code(), status.cause_code()].map(|code| code.to_string());
        assert_eq!(codes[..], says[..], "{how}");
    }
    let told = |cause| rows.iter().any(|row| row.cause == Some(cause));
    for cause in ShutdownCause::ALL {
        // Those that nothing in this program asks for.
        let elsewhere = matches!(
            cause,
            ShutdownCause::None
                | ShutdownCause::HostError
                | ShutdownCause::SubsystemReset
                | ShutdownCause::SnapshotLoad
        );
        assert_eq!(told(*cause), !elsewhere, "{cause}");
    }
}

#[test]
fn no_two_ends_share_a_code_of_the_causes() {
    let mut codes = BTreeMap::new();
    for row in rows(include_str!("../README.md")) {
        let [_, code] = row.codes;
        let other = codes.insert(code.to_owned(), row.how.to_owned());
        assert_eq!(other, None, "{} has the code {code}, too", row.how);
    }
}
