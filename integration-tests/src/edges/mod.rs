//! Which edges of the run states' table the whole-VM runs have taken.
//!
//! ```text
//!   vmm-bin --trace FILE, each run ──▶ FOLDER/*.trace ─┐
//!   the rig's runs, as edges alone ──▶ FOLDER/*.edges ─┴▶ taken ──▶ against the table and `expected`
//! ```
//!
//! Each trace is played through the lifecycle's decisions, too: a run must have been what they say.
//!
//! The rule that must never be broken: what is missing has a reason on the list, and what is on the
//! list is missing.

mod expected;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use lifecycle::{Compat, Happening, TraceLine, TraceRecord, replay};
use runstate::{QEMU_10_2, RunState, TransitionTable};

/// A change of the state.
pub type Edge = (RunState, RunState);

/// What the runs did.
#[derive(Debug, Default)]
pub struct Runs {
    /// Each edge that was taken, with how many runs took it.
    taken: BTreeMap<Edge, u64>,
    /// Each state that was seen.
    reached: BTreeSet<RunState>,
    /// How many runs there were.
    runs: u64,
    /// What is wrong with them.
    wrong: Vec<String>,
}

impl Runs {
    /// Reads all runs in a folder.
    ///
    /// # Errors
    /// When it cannot be read, or has no run.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let failed = |error| format!("{}: {error}", folder.display());
        let mut runs = Self::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let text = || std::fs::read_to_string(&path).map_err(failed);
            let name = path.display().to_string();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("trace") => runs.add_trace(&name, &text()?),
                Some("edges") => runs.add_edges(&name, &text()?),
                _ => {}
            }
        }
        match runs.runs {
            0 => Err(format!(
                "{}: no run has left its trace here; run the tests with LIFECYCLE_TRACES set to it",
                folder.display()
            )),
            _ => Ok(runs),
        }
    }

    /// Adds a run. One that was killed may have lost the end of its last line.
    pub fn add_trace(&mut self, name: &str, text: &str) {
        self.runs = self.runs.saturating_add(1);
        let mut compat = Compat::Current;
        let mut records: Vec<TraceRecord> = Vec::new();
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            match line.parse() {
                Ok(TraceLine::Header(told)) => compat = told,
                Ok(TraceLine::Record { record, .. }) => records.push(record),
                Ok(_) => {}
                Err(_) if !line.ends_with('\n') => {}
                Err(error) => self.wrong.push(format!("{name}: line {number}: {error}")),
            }
        }
        if let Err(divergence) = replay(&records, compat) {
            self.wrong.push(format!("{name}: {divergence}"));
        }
        let mut edges = BTreeSet::new();
        for record in &records {
            match record.happening {
                Happening::State { from, to } => {
                    edges.insert((from, to));
                }
                Happening::Start { now, .. } => {
                    self.reached.insert(now.state);
                }
                _ => {}
            }
        }
        for (from, to) in edges {
            self.take(name, from, to);
        }
    }

    /// Adds the edges that runs elsewhere have taken: `from to`, one a line.
    pub fn add_edges(&mut self, name: &str, text: &str) {
        self.runs = self.runs.saturating_add(1);
        for line in text.lines() {
            let names = line.split_once(' ');
            let edge = names.and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            match edge {
                Some((from, to)) => self.take(name, from, to),
                None => self.wrong.push(format!("{name}: {line:?} is no edge")),
            }
        }
    }

    fn take(&mut self, name: &str, from: RunState, to: RunState) {
        const TABLE: TransitionTable<RunState> = QEMU_10_2;
        if !TABLE.allows(from, to) {
            self.wrong
                .push(format!("{name}: {from} -> {to} is in no table"));
        }
        self.reached.extend([from, to]);
        let count = self.taken.entry((from, to)).or_default();
        *count = count.saturating_add(1);
    }
}

/// The runs against the table.
#[derive(Debug)]
pub struct Coverage<'a> {
    runs: &'a Runs,
    failures: Vec<String>,
    untaken: Vec<String>,
    edges: usize,
}

impl<'a> Coverage<'a> {
    /// Compares them.
    #[must_use]
    pub fn of(runs: &'a Runs) -> Self {
        const TABLE: TransitionTable<RunState> = QEMU_10_2;
        let mut failures = runs.wrong.clone();
        let mut untaken = Vec::new();
        let mut edges: usize = 0;
        let excused = |state| {
            let found = expected::UNREACHED
                .iter()
                .find(|(other, _)| *other == state);
            found.map(|(_, why)| *why)
        };
        for state in RunState::ALL.iter().copied() {
            match (runs.reached.contains(&state), excused(state)) {
                (true, Some(why)) => failures.push(format!(
                    "{state} was reached: strike it off the list, where it says {why:?}"
                )),
                (false, None) => failures.push(format!("{state}: no run has reached it")),
                _ => {}
            }
        }
        let states = || RunState::ALL.iter().copied();
        for (from, to) in states().flat_map(|from| states().map(move |to| (from, to))) {
            if !TABLE.allows(from, to) || excused(from).is_some() || excused(to).is_some() {
                continue;
            }
            edges = edges.saturating_add(1);
            let listed = expected::UNTAKEN
                .iter()
                .find(|(a, b, _)| (*a, *b) == (from, to));
            match (runs.taken.contains_key(&(from, to)), listed) {
                (true, Some((_, _, why))) => failures.push(format!(
                    "{from} -> {to} was taken: strike it off the list, where it says {why:?}"
                )),
                (false, None) => {
                    untaken.push(format!("{from} -> {to}: no run has taken it"));
                    failures.push(format!("{from} -> {to} lacks a run, and a reason"));
                }
                (false, Some((_, _, why))) => untaken.push(format!("{from} -> {to}: {why}")),
                (true, None) => {}
            }
        }
        Self {
            runs,
            failures,
            untaken,
            edges,
        }
    }

    /// Nothing is missing that is not listed, and nothing listed is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Coverage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, edges, .. } = self;
        let taken = edges.saturating_sub(self.untaken.len());
        writeln!(
            f,
            "{} runs reached {} states and took {taken} of {edges} edges between them:",
            runs.runs,
            runs.reached.len(),
        )?;
        for ((from, to), count) in &runs.taken {
            writeln!(f, "  {from} -> {to}, in {count}")?;
        }
        for line in &self.untaken {
            writeln!(f, "not taken: {line}")?;
        }
        for line in &self.failures {
            writeln!(f, "WRONG: {line}")?;
        }
        let verdict = if self.is_complete() {
            "every edge was taken, or has its reason"
        } else {
            "FAILED"
        };
        f.write_str(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that takes all that must be taken.
    fn complete() -> Runs {
        let mut runs = Runs::default();
        let mut text = String::new();
        let states = || RunState::ALL.iter().copied();
        let listed = |state| expected::UNREACHED.iter().any(|(other, _)| *other == state);
        for (from, to) in states().flat_map(|from| states().map(move |to| (from, to))) {
            let excused = expected::UNTAKEN
                .iter()
                .any(|(a, b, _)| (*a, *b) == (from, to));
            let allowed = Compat::Current.table().allows(from, to);
            if allowed && !excused && !listed(from) && !listed(to) {
                text = format!("{text}{from} {to}\n");
            }
        }
        runs.add_edges("all", &text);
        runs
    }

    #[test]
    fn all_edges_are_enough_and_one_less_is_not() {
        let runs = complete();
        let coverage = Coverage::of(&runs);
        assert!(coverage.is_complete(), "{coverage}");
        let mut less = complete();
        less.taken.remove(&(RunState::Suspended, RunState::Paused));
        let text = Coverage::of(&less).to_string();
        assert!(text.contains("WRONG: suspended -> paused lacks a run, and a reason"));
        assert!(text.ends_with("FAILED"));
    }

    #[test]
    fn what_is_listed_as_missing_must_be_missing() {
        let mut runs = complete();
        runs.add_edges("more", "shutdown paused\nprelaunch inmigrate\n");
        let text = Coverage::of(&runs).to_string();
        assert!(
            text.contains("WRONG: shutdown -> paused was taken: strike it off"),
            "{text}"
        );
        assert!(
            text.contains("WRONG: inmigrate was reached: strike it off"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_edge_and_what_does_not_follow_is_found() {
        let mut runs = complete();
        runs.add_edges("odd", "paused shutdown\nhello\n");
        runs.add_trace(
            "forged",
            "{\"seq\":0,\"ns\":1,\"what\":\"state\",\"from\":\"running\",\"to\":\"paused\"}\n{\"seq\":1",
        );
        let text = Coverage::of(&runs).to_string();
        assert!(
            text.contains("odd: paused -> shutdown is in no table"),
            "{text}"
        );
        assert!(text.contains("odd: \"hello\" is no edge"), "{text}");
        assert!(
            text.contains("forged: record 0 of the trace does not follow"),
            "{text}"
        );
    }
}
