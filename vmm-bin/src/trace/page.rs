//! What a picture is made of: texts, boxes and marks, as elements of SVG.
//!
//! The rule that must never be broken: no text of a trace becomes an element.

use std::fmt::Write as _;

use super::timeline::Kind;

/// How wide a letter is, more or less.
pub(super) const LETTER: f64 = 5.8;
/// The longest label.
const MOST_LETTERS: usize = 34;

/// The page, as far as it is drawn.
pub(super) struct Page(pub(super) String);

impl Page {
    pub(super) fn put(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _it_does = writeln!(self.0, "{line}");
    }

    pub(super) fn text(
        &mut self,
        x: f64,
        y: f64,
        anchor: &str,
        colour: &str,
        size: f64,
        text: &str,
    ) {
        let text = escaped(text);
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\" \
             font-size=\"{size}\">{text}</text>"
        ));
    }

    pub(super) fn box_(
        &mut self,
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        fill: &str,
        title: &str,
    ) {
        let title = escaped(title);
        self.put(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{fill}\"><title>{title}</title></rect>"
        ));
    }

    pub(super) fn glyph(&mut self, kind: Kind, x: f64, y: f64) {
        let fill = mark_colour(kind);
        match kind {
            Kind::Event => self.put(format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\"/>"
            )),
            Kind::Request => self.put(format_args!(
                "<path d=\"M{x:.1} {:.1}l4.5 -8h-9z\" fill=\"{fill}\"/>",
                y + 4.0
            )),
            Kind::Decision | Kind::Note => self.put(format_args!(
                "<path d=\"M{x:.1} {:.1}l4.5 5l-4.5 5l-4.5 -5z\" fill=\"{fill}\"/>",
                y - 5.0
            )),
        }
    }
}

pub(super) const fn mark_colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Request => "#1f5fa8",
        Kind::Decision => "#333333",
        Kind::Event => "#b02a1e",
        Kind::Note => "#8a6d00",
    }
}

/// A label that is not too long.
pub(super) fn shortened(label: &str) -> String {
    if label.chars().count() <= MOST_LETTERS {
        return label.into();
    }
    let kept: String = label.chars().take(MOST_LETTERS.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// How many letters, as a length.
pub(super) fn count(text: &str) -> f64 {
    u32::try_from(text.chars().count()).map_or(0.0, f64::from)
}

/// The text without anything that means something in XML.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML has no place for these, not even escaped.
            control if control.is_control() => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}
