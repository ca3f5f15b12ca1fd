//! What of a trace has a place in a picture, and where: the horizontal half of the drawing.
//!
//! Time is bent: what follows each other within microseconds must be told apart, and seconds in
//! which nothing happens must not fill the page. The way from one record to the next is as long as
//! the logarithm of the time between them, and marks with a label keep a distance, so that labels
//! do not cover each other. How long the time was is written on the axis.
//!
//! The rule that must never be broken: later is never further left.

use std::time::Duration;

use lifecycle::{Compat, Happening};
use runstate::RunState;

use super::describe;
use super::file::Timed;

/// How far apart two marks with a label are at least.
const LABEL_DISTANCE: f64 = 15.0;
/// How long a factor of ten of time is.
const DECADE: f64 = 9.0;
/// How far the last state goes on, so that it is seen.
const END: f64 = 24.0;
/// What is shorter than this has no length.
const SHORTEST: f64 = 100e-9;

/// What a mark is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody asked for something, and something was decided about it.
    Request,
    /// Something was decided without being asked for.
    Decision,
    /// An event.
    Event,
    /// Something else.
    Note,
}

/// Something with a label.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) kind: Kind,
    pub(super) label: String,
    pub(super) decided: bool,
}

/// A stretch of time in one run state.
#[derive(Debug)]
pub(super) struct Band {
    pub(super) state: RunState,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) lasted: Duration,
}

/// A stretch of time in which vCPUs stand.
#[derive(Debug)]
pub(super) struct Pause {
    /// When they were asked to.
    pub(super) asked: f64,
    /// When all of them did.
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) took: Duration,
    pub(super) lasted: Duration,
}

/// The place of a record, and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) x: f64,
    pub(super) at: Duration,
    /// Records are missing before it.
    pub(super) gap: bool,
}

/// A trace with places.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    pub(super) moments: Vec<Moment>,
    pub(super) marks: Vec<Mark>,
    pub(super) bands: Vec<Band>,
    pub(super) pauses: Vec<Pause>,
    end: f64,
}

/// The vCPUs, while a timeline is made.
#[derive(Clone, Copy)]
enum Vcpus {
    Run,
    Asked(Moment),
    Stand { asked: Option<Moment>, from: Moment },
}

impl Timeline {
    /// Gives everything its place.
    pub(super) fn of(records: &[Timed], compat: Compat) -> Self {
        let mut line = Self::default();
        let (mut state, mut since) = (None, None);
        let mut vcpus = None;
        let mut labelled = f64::NEG_INFINITY;
        let mut before: Option<(Moment, u64)> = None;
        for Timed { at, record } in records {
            let happening = &record.happening;
            let mark = mark(happening, compat);
            let mut x = before.map_or(0.0, |(before, _)| {
                before.x + length(at.saturating_sub(before.at))
            });
            if mark.is_some() {
                x = x.max(labelled + LABEL_DISTANCE);
                labelled = x;
            }
            let gap = before.is_some_and(|(_, number)| number.wrapping_add(1) != record.sequence);
            let moment = Moment { x, at: *at, gap };
            before = Some((moment, record.sequence));
            line.moments.push(moment);
            let begun = *since.get_or_insert(moment);
            if let Some((kind, label, decided)) = mark {
                line.marks.push(Mark {
                    x,
                    kind,
                    label,
                    decided,
                });
            }
            match happening {
                Happening::State { from, to } | Happening::RolledBack { from, to } => {
                    line.close_band(state.or(Some(*from)), begun, moment);
                    (state, since) = (Some(*to), Some(moment));
                }
                Happening::Turn { now, .. }
                | Happening::Start { now, .. }
                | Happening::Stop { now, .. }
                    if state != Some(now.state) =>
                {
                    // The first that tells; or what is missing had changed it.
                    line.close_band(state, begun, moment);
                    (state, since) = (Some(now.state), Some(if gap { moment } else { begun }));
                }
                _ => {}
            }
            vcpus = line.advance(vcpus, happening, moment);
        }
        if let (Some((last, _)), Some(begun)) = (before, since) {
            let end = Moment {
                x: last.x + END,
                ..last
            };
            line.end = end.x;
            line.close_band(state, begun, end);
            if let Some(Vcpus::Stand { asked, from }) = vcpus {
                line.close_pause(asked, from, end);
            }
        }
        line
    }

    /// How far right it goes.
    pub(super) fn width(&self) -> f64 {
        self.end
    }

    fn close_band(&mut self, state: Option<RunState>, from: Moment, to: Moment) {
        if let Some(state) = state {
            self.bands.push(Band {
                state,
                from: from.x,
                to: to.x,
                lasted: to.at.saturating_sub(from.at),
            });
        }
    }

    fn close_pause(&mut self, asked: Option<Moment>, from: Moment, to: Moment) {
        let asked = asked.unwrap_or(from);
        self.pauses.push(Pause {
            asked: asked.x,
            from: from.x,
            to: to.x,
            took: from.at.saturating_sub(asked.at),
            lasted: to.at.saturating_sub(from.at),
        });
    }

    fn advance(
        &mut self,
        vcpus: Option<Vcpus>,
        happening: &Happening,
        now: Moment,
    ) -> Option<Vcpus> {
        match (happening, vcpus) {
            (Happening::Pausing, Some(Vcpus::Run)) => Some(Vcpus::Asked(now)),
            (Happening::PauseFailed, Some(Vcpus::Asked(_))) => Some(Vcpus::Run),
            (Happening::Paused, Some(Vcpus::Asked(asked))) => Some(Vcpus::Stand {
                asked: Some(asked),
                from: now,
            }),
            (Happening::Resumed, Some(Vcpus::Stand { asked, from })) => {
                self.close_pause(asked, from, now);
                Some(Vcpus::Run)
            }
            (Happening::Resumed, _) => Some(Vcpus::Run),
            // A machine that has just been made stands.
            (_, None) => Some(Vcpus::Stand {
                asked: None,
                from: now,
            }),
            (_, known) => known,
        }
    }
}

fn mark(happening: &Happening, compat: Compat) -> Option<(Kind, String, bool)> {
    if let Happening::Event(event) = happening {
        return Some((Kind::Event, describe::event(event), false));
    }
    if let Some(remark) = describe::remark(happening) {
        return Some((Kind::Note, remark, false));
    }
    let outcome = describe::steps(happening, compat).map(|steps| describe::outcome(&steps));
    let decided = outcome.is_some();
    let request = describe::request(happening);
    // What was asked for is done: no need to say it twice.
    let says = |outcome: &str| {
        request
            .as_ref()
            .is_some_and(|request| request.starts_with(outcome) || request.ends_with(outcome))
    };
    let outcome = outcome.filter(|outcome| !says(outcome) && !outcome.is_empty());
    match (request, outcome) {
        (Some(request), Some(outcome)) => {
            Some((Kind::Request, format!("{request} → {outcome}"), decided))
        }
        (Some(request), None) => Some((Kind::Request, request, decided)),
        (None, Some(outcome)) => Some((Kind::Decision, format!("→ {outcome}"), decided)),
        (None, None) => None,
    }
}

/// How long a stretch of time is drawn.
fn length(time: Duration) -> f64 {
    logarithm((time.as_secs_f64() / SHORTEST).max(1.0)) * DECADE
}

/// The decimal logarithm of a number from 1 on, to two digits: its binary one, with straight lines between
/// the powers of two. The C library's would bring its mathematical part into the memory of every VM.
fn logarithm(number: f64) -> f64 {
    let mut rest = number;
    let mut octaves = 0.0;
    while rest >= 2.0 && octaves < 1024.0 {
        rest /= 2.0;
        octaves += 1.0;
    }
    (octaves + rest - 1.0) * std::f64::consts::LOG10_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_exact_enough_for_a_picture() {
        for number in [1.0, 1.5, 2.0, 10.0, 12345.6, 3e12, f64::MAX] {
            let wrong = logarithm(number) - number.log10();
            assert!(wrong.abs() < 0.03, "{number}: {wrong}");
        }
    }
}
