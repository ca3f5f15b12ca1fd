//! A trace as a picture: the run states as coloured bands, what was asked for, decided and told
//! above them, the pauses of the vCPUs below. The line of time goes on in the next row, as writing
//! does.
//!
//! The rule that must never be broken: no text covers another; what has no room is in a title that
//! a viewer shows.

use std::time::Duration;

use lifecycle::Compat;
use runstate::RunState;

use super::describe::duration;
use super::file::Timed;
use super::page::{LETTER, Page, count, escaped, mark_colour, shortened};
use super::timeline::{Kind, Mark, Timeline};

/// How wide a row is.
const ROW: f64 = 1160.0;
/// What is left of it, and right of it: names of lanes, and labels that lean over.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 120.0;
/// Things in a row, below its labels.
const REQUESTS: f64 = 10.0;
const DECISIONS: f64 = REQUESTS + 15.0;
const EVENTS: f64 = DECISIONS + 15.0;
const STATES: f64 = EVENTS + 12.0;
const STATE_HEIGHT: f64 = 26.0;
const VCPUS: f64 = STATES + STATE_HEIGHT + 8.0;
const VCPU_HEIGHT: f64 = 10.0;
const PAUSES: f64 = VCPUS + VCPU_HEIGHT + 11.0;
const AXIS: f64 = PAUSES + 32.0;
const ROW_HEIGHT: f64 = AXIS + 38.0;
/// How steep labels are: in degrees, and what of their length is height.
const SLOPE: f64 = -52.0;
const RISE: f64 = 0.79;
/// What is left over goes into the last row, if it is no longer than this.
const OVERHANG: f64 = 160.0;
/// The space above the first row, without the legend.
const HEAD: f64 = 40.0;
/// Time in which nothing happens for so long is named on the axis.
const IDLE: Duration = Duration::from_millis(1);

/// Every state has its colour: blue and green are life, grey is rest, warm colours are trouble.
const fn colour(state: RunState) -> &'static str {
    match state {
        RunState::Running => "#7fc97f",
        RunState::Suspended => "#8db4e2",
        RunState::Paused => "#c8c8c8",
        RunState::Prelaunch => "#e6e2d3",
        RunState::Shutdown => "#9a8f97",
        RunState::Debug => "#c7a9e0",
        RunState::GuestPanicked => "#ef8a80",
        RunState::InternalError => "#e0564f",
        RunState::IoError => "#d98a4e",
        RunState::Watchdog => "#f2c14e",
        RunState::InMigrate => "#9fd8cf",
        RunState::PostMigrate => "#77b8ad",
        RunState::FinishMigrate => "#bfe3dc",
        RunState::SaveVm => "#d5dba0",
        RunState::RestoreVm => "#bcc67c",
        RunState::Colo => "#e6b3cf",
    }
}

/// A row of the picture: the part of the timeline from `from` to `to`.
struct Row {
    from: f64,
    to: f64,
    /// Where its labels begin: they go up from there.
    base: f64,
}

impl Row {
    /// Where on the page a place of the timeline is.
    fn x(&self, x: f64) -> f64 {
        LEFT + x - self.from
    }

    /// The part of a stretch that is in this row.
    fn part(&self, from: f64, to: f64) -> Option<(f64, f64)> {
        let (from, to) = (from.max(self.from), to.min(self.to));
        (from < to).then(|| (self.x(from), to - from))
    }

    fn has(&self, x: f64) -> bool {
        (self.from < x || (self.from <= 0.0 && x <= 0.0)) && x <= self.to
    }
}

/// The picture of these records; `title` is what they are called.
pub(super) fn picture(title: &str, records: &[Timed], compat: Compat) -> String {
    let line = Timeline::of(records, compat);
    let rows = rows(&line);
    let bottom = rows.last().map_or(HEAD, |row| row.base + ROW_HEIGHT);
    let widths = rows.iter().map(|row| row.to - row.from);
    let width = LEFT + widths.fold(ROW, f64::max) + RIGHT;
    let mut page = Page(String::new());
    page.put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{bottom:.0}\" \
         viewBox=\"0 0 {width:.0} {bottom:.0}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <defs><pattern id=\"stand\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"5\" height=\"5\" fill=\"#f3f3f3\"/>\
         <rect width=\"1.6\" height=\"5\" fill=\"#777777\"/></pattern></defs>"
    ));
    let span = records.last().map_or(Duration::ZERO, |last| last.at);
    let head = format!("{title}: {} records, {}", records.len(), duration(span));
    page.text(LEFT, 18.0, "start", "#000000", 12.0, &head);
    page.legend(&line);
    for row in &rows {
        page.frame(row);
        page.bands(row, &line);
        page.vcpus(row, &line);
        page.axis(row, &line);
        for mark in line.marks.iter().filter(|mark| row.has(mark.x)) {
            page.mark(row, mark);
        }
    }
    page.put(format_args!("</svg>"));
    page.0
}

/// Cuts the timeline into rows, between records.
fn rows(line: &Timeline) -> Vec<Row> {
    let end = line.width();
    let mut cuts = vec![0.0];
    let (mut from, mut before) = (0.0, 0.0);
    for moment in &line.moments {
        if moment.x - from > ROW && end - before > OVERHANG {
            cuts.push(before);
            from = before;
        }
        before = moment.x;
    }
    cuts.push(end);
    let mut top = HEAD;
    let stretches = cuts.iter().zip(cuts.iter().skip(1));
    let row = |(from, to): (&f64, &f64)| {
        let mut row = Row {
            from: *from,
            to: *to,
            base: 0.0,
        };
        let marks = line.marks.iter().filter(|mark| row.has(mark.x));
        let lengths = marks.map(|mark| LETTER * count(&shortened(&mark.label)));
        row.base = top + lengths.fold(0.0, f64::max) * RISE + 14.0;
        top = row.base + ROW_HEIGHT;
        row
    };
    stretches.map(row).collect()
}

impl Page {
    fn legend(&mut self, line: &Timeline) {
        let mut x = LEFT;
        let y = 34.0;
        for state in RunState::ALL {
            if line.bands.iter().any(|band| band.state == *state) {
                self.box_(x, y - 9.0, 14.0, 11.0, colour(*state), state.as_str());
                self.text(x + 18.0, y, "start", "#333333", 10.0, state.as_str());
                x += 34.0 + LETTER * count(state.as_str());
            }
        }
        x += 10.0;
        for (kind, name) in [
            (Kind::Request, "request → outcome"),
            (Kind::Decision, "decision"),
            (Kind::Event, "event"),
            (Kind::Note, "note"),
        ] {
            self.glyph(kind, x, y - 4.0);
            self.text(x + 9.0, y, "start", "#333333", 10.0, name);
            x += 26.0 + LETTER * count(name);
        }
        for (fill, name) in [
            ("#4a9a4a", "vCPUs run"),
            ("#e8b04a", "are stopping"),
            ("url(#stand)", "stand"),
        ] {
            self.box_(x, y - 9.0, 14.0, 11.0, fill, name);
            self.text(x + 18.0, y, "start", "#333333", 10.0, name);
            x += 34.0 + LETTER * count(name);
        }
    }

    fn frame(&mut self, row: &Row) {
        let lanes = [
            (REQUESTS, "requests"),
            (DECISIONS, "decisions"),
            (EVENTS, "events"),
            (STATES + STATE_HEIGHT / 2.0, "state"),
            (VCPUS + VCPU_HEIGHT / 2.0, "vCPUs"),
            (AXIS, "time"),
        ];
        let end = row.x(row.to);
        for (y, name) in lanes {
            let y = row.base + y;
            self.text(LEFT - 12.0, y + 3.5, "end", "#666666", 10.0, name);
            if !matches!(name, "state" | "vCPUs") {
                self.put(format_args!(
                    "<path d=\"M{LEFT:.1} {y:.1}H{end:.1}\" stroke=\"#dddddd\"/>"
                ));
            }
        }
    }

    fn bands(&mut self, row: &Row, line: &Timeline) {
        let y = row.base + STATES;
        for band in &line.bands {
            let Some((x, width)) = row.part(band.from, band.to) else {
                continue;
            };
            let name = band.state.as_str();
            let title = format!("{name}, {}", duration(band.lasted));
            self.box_(x, y, width, STATE_HEIGHT, colour(band.state), &title);
            if width > LETTER * count(name) + 8.0 {
                let middle = y + STATE_HEIGHT / 2.0 + 3.5;
                self.text(x + width / 2.0, middle, "middle", "#000000", 10.0, name);
            }
        }
    }

    fn vcpus(&mut self, row: &Row, line: &Timeline) {
        let y = row.base + VCPUS;
        if let Some((x, width)) = row.part(0.0, line.width()) {
            self.box_(x, y + 3.0, width, VCPU_HEIGHT - 6.0, "#4a9a4a", "vCPUs run");
        }
        // Labels are in two lines, each filled from the left.
        let mut ends = [f64::NEG_INFINITY; 2];
        for pause in &line.pauses {
            let (took, lasted) = (duration(pause.took), duration(pause.lasted));
            let title = format!("vCPUs stood {lasted}; to stop them took {took}");
            if let Some((x, width)) = row.part(pause.asked, pause.from) {
                self.box_(x, y, width, VCPU_HEIGHT, "#e8b04a", &title);
            }
            let Some((x, width)) = row.part(pause.from, pause.to) else {
                continue;
            };
            self.box_(x, y, width, VCPU_HEIGHT, "url(#stand)", &title);
            if pause.lasted.is_zero() {
                // They do so to the end of the trace.
                continue;
            }
            let half = LETTER * count(&lasted) / 2.0;
            let middle = (x + width / 2.0).max(LEFT + half);
            for (end, down) in ends.iter_mut().zip([0.0, 11.0]) {
                if middle - half > *end + 4.0 {
                    *end = middle + half;
                    let y = row.base + PAUSES + down;
                    self.text(middle, y, "middle", "#444444", 9.0, &lasted);
                    break;
                }
            }
        }
    }

    fn axis(&mut self, row: &Row, line: &Timeline) {
        let y = row.base + AXIS;
        let mut end = f64::NEG_INFINITY;
        let mut before = None;
        for moment in &line.moments {
            let idle: Option<(f64, Duration)> =
                before.map(|(x, at)| (x, moment.at.saturating_sub(at)));
            before = Some((moment.x, moment.at));
            if !row.has(moment.x) {
                continue;
            }
            let x = row.x(moment.x);
            self.put(format_args!(
                "<path d=\"M{x:.1} {:.1}v4\" stroke=\"#999999\"/>",
                y - 2.0
            ));
            let starts = match idle {
                None => true,
                Some((from, idle)) => {
                    let text = if moment.gap {
                        "gap".into()
                    } else {
                        duration(idle)
                    };
                    let (room, long) = (moment.x - from, idle >= IDLE || moment.gap);
                    if long && room > LETTER * count(&text) {
                        let middle = row.x(from + room / 2.0);
                        self.text(middle, y - 7.0, "middle", "#777777", 9.0, &text);
                        self.put(format_args!(
                            "<path d=\"M{:.1} {:.1}l3 -8m2 0l-3 8\" stroke=\"#777777\" fill=\"none\"/>",
                            middle - 2.5,
                            y + 4.0
                        ));
                    }
                    long
                }
            };
            let text = format!("{:.6} s", moment.at.as_secs_f64());
            let half = LETTER * count(&text) / 2.0;
            if starts && x - half > end + 6.0 {
                end = x + half;
                self.put(format_args!(
                    "<path d=\"M{x:.1} {:.1}v8\" stroke=\"#333333\"/>",
                    y - 2.0
                ));
                self.text(x, y + 17.0, "middle", "#333333", 9.0, &text);
            }
        }
    }

    fn mark(&mut self, row: &Row, mark: &Mark) {
        let x = row.x(mark.x);
        let lane = match mark.kind {
            Kind::Request => REQUESTS,
            Kind::Decision | Kind::Note => DECISIONS,
            Kind::Event => EVENTS,
        };
        let fill = mark_colour(mark.kind);
        let (top, bottom) = (row.base + 2.0, row.base + STATES);
        self.put(format_args!(
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"{fill}\" stroke-opacity=\"0.25\"/>"
        ));
        self.glyph(mark.kind, x, row.base + lane);
        if mark.decided && mark.kind == Kind::Request {
            self.glyph(Kind::Decision, x, row.base + DECISIONS);
        }
        let title = escaped(&mark.label);
        let label = escaped(&shortened(&mark.label));
        let y = row.base;
        self.put(format_args!(
            "<text transform=\"translate({x:.1} {y:.1}) rotate({SLOPE})\" fill=\"{fill}\">\
             {label}<title>{title}</title></text>"
        ));
    }
}
