//! A recorded trace as a table and as a picture, and files that are none.

use std::time::Duration;

use lifecycle::Compat;

use super::file::read_lines;
use super::timeline::Timeline;
use super::*;

/// The one that the README shows.
const RECORDED: &str = include_str!("../../docs/timeline.trace");

fn read(text: &str) -> Result<Recorded, Error> {
    read_lines("FILE".into(), text.as_bytes())
}

fn recorded() -> Vec<Timed> {
    let read = read(RECORDED).unwrap();
    assert!(read.broken.is_none());
    read.records
}

#[test]
fn the_table_has_each_record_with_what_it_means() {
    let table = show::table(&recorded(), Compat::Current);
    assert!(table.starts_with("number        time (s)     after  kind      what\n"));
    for row in [
        "request   start",
        "event     RESET host-qmp-system-reset",
        "state     suspended → paused",
        "state     paused → suspended",
        "request   wakeup: other",
        "event     GUEST_PANICKED pause",
        "decision  exit",
        "note      the process ends",
        "vCPUs     stand",
    ] {
        assert!(
            table.lines().any(|line| line.ends_with(row)),
            "{row}:\n{table}"
        );
    }
}

#[test]
fn records_that_are_missing_are_counted() {
    let mut records = recorded();
    drop(records.drain(10..13));
    let table = show::table(&records, Compat::Current);
    assert!(table.contains("(3 records are missing here)"), "{table}");
    let picture = svg::picture("t", &records, Compat::Current);
    assert!(picture.contains(">gap<"), "{picture}");
}

#[test]
fn time_goes_to_the_right_and_labels_keep_their_distance() {
    let line = Timeline::of(&recorded(), Compat::Current);
    let later = |pair: &[f64]| matches!(pair, [a, b] if a <= b);
    let places: Vec<f64> = line.moments.iter().map(|moment| moment.x).collect();
    assert!(places.windows(2).all(later));
    let marks: Vec<f64> = line.marks.iter().map(|mark| mark.x).collect();
    assert!(
        marks
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if b - a >= 14.9)),
        "{marks:?}"
    );
    for band in &line.bands {
        assert!(band.from <= band.to, "{band:?}");
    }
    for pause in &line.pauses {
        assert!(
            pause.asked <= pause.from && pause.from <= pause.to,
            "{pause:?}"
        );
    }
    // Each state is where the one before it ends.
    let edges: Vec<_> = line.bands.iter().map(|band| (band.from, band.to)).collect();
    assert!(
        edges
            .windows(2)
            .all(|pair| matches!(pair, [a, b] if (a.1 - b.0).abs() < 0.01)),
        "{edges:?}"
    );
}

#[test]
fn pauses_are_as_long_as_they_were() {
    let lines = [
        r#"{"trace":"lifecycle","version":1,"compat":"current"}"#,
        r#"{"seq":0,"ns":0,"what":"resumed"}"#,
        r#"{"seq":1,"ns":1000,"what":"pausing"}"#,
        r#"{"seq":2,"ns":4000,"what":"paused"}"#,
        // One that stands already stands no longer for it.
        r#"{"seq":3,"ns":5000,"what":"pausing"}"#,
        r#"{"seq":4,"ns":6000,"what":"paused"}"#,
        r#"{"seq":5,"ns":9000,"what":"resumed"}"#,
        r#"{"seq":6,"ns":9500,"what":"pausing"}"#,
        r#"{"seq":7,"ns":9900,"what":"pause-failed"}"#,
    ];
    let read = read(&(lines.join("\n") + "\n")).unwrap();
    let line = Timeline::of(&read.records, Compat::Current);
    let pauses: Vec<_> = line.pauses.iter().map(|p| (p.took, p.lasted)).collect();
    let (took, lasted) = (Duration::from_nanos(3000), Duration::from_nanos(5000));
    assert_eq!(pauses, [(took, lasted)]);
}

#[test]
fn the_picture_is_well_formed_and_within_its_page() {
    let picture = svg::picture("<a> & \"b\"\u{1b}", &recorded(), Compat::Current);
    assert!(picture.contains("&lt;a&gt; &amp; &quot;b&quot;\u{fffd}: "));
    // Every element is closed, in order.
    let mut open = Vec::new();
    for tag in picture.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for state in ["running", "paused", "suspended", "guest-panicked"] {
        assert!(picture.contains(&format!(">{state}<")), "{state}");
    }
    let number = |text: &str, name: &str| -> Option<f64> {
        let (_, rest) = text.split_once(&format!(" {name}=\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    let page = picture.lines().next().unwrap();
    let (width, height) = (
        number(page, "width").unwrap(),
        number(page, "height").unwrap(),
    );
    for line in picture.lines().filter(|line| line.starts_with("<text x=")) {
        let (x, y) = (number(line, "x").unwrap(), number(line, "y").unwrap());
        assert!(
            (0.0..width).contains(&x) && (0.0..height).contains(&y),
            "{line}"
        );
    }
}

#[test]
fn an_empty_trace_has_an_empty_picture() {
    let read = read("{\"trace\":\"lifecycle\",\"version\":1,\"compat\":\"current\"}\n").unwrap();
    assert!(read.records.is_empty() && read.broken.is_none());
    let picture = svg::picture("t", &read.records, Compat::Current);
    assert!(picture.contains("0 records"));
    assert!(picture.ends_with("</svg>\n"));
}

#[test]
fn a_broken_file_is_read_up_to_the_line_that_is_named() {
    let good: Vec<&str> = RECORDED.lines().collect();
    let whole = good.join("\n") + "\n";
    let cases = [
        (
            whole[..whole.len() - 20].to_owned(),
            good.len(),
            "the line is cut off",
        ),
        // The last digit may be missing: that is another number.
        (
            whole[..whole.len() - 1].to_owned(),
            good.len(),
            "the line is cut off",
        ),
        (
            good[..5].join("\n") + "\nnot json\n",
            6,
            "column 1: expected an object, {",
        ),
        (
            good[..5].join("\n") + "\n\n" + good[5],
            6,
            "the line is cut off",
        ),
        (
            good[..3].join("\n") + "\n" + &"x".repeat(100_000) + "\n",
            4,
            "is no line of a trace",
        ),
        (
            good[..3].join("\n") + "\n{\"seq\":1,\"what\":\"dance\",\"ns\":1}\n",
            4,
            "the field \"what\" cannot be \"dance\"",
        ),
    ];
    for (text, line, problem) in cases {
        let read = read(&text).unwrap();
        assert_eq!(read.records.len() + 1, line - 1, "{problem}");
        let error = read.broken.unwrap().to_string();
        let expected = format!("FILE: line {line}: {problem}; what comes before it is good");
        assert_eq!(error, expected);
    }
    let bytes = [good[..2].join("\n").as_bytes(), b"\n\xff\xfe\n"].concat();
    let read = read_lines("FILE".into(), bytes.as_slice()).unwrap();
    assert!(read.broken.unwrap().to_string().contains("line 3"));
}

#[test]
fn a_file_that_is_no_trace_is_refused() {
    for text in [
        "",
        "\n",
        "hello\n",
        "{\"seq\":0,\"ns\":1,\"what\":\"exit\"}\n",
        "\u{0}\u{1}",
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(
            error.starts_with("FILE: line 1: is no trace"),
            "{text:?}: {error}"
        );
    }
}
