//! The trace of a VM's lifecycle: written while it runs, and looked at afterwards.
//!
//! ```text
//!   lifecycle ─▶ recorder ─▶ FILE ─▶ file ─┬─▶ show      a table
//!                                          ├─▶ timeline ─▶ svg   a picture
//!                                          └─▶ check     do the decisions lead there?
//! ```
//!
//! The lines of the file are the lifecycle's own: see [`lifecycle::TraceLine`].
//!
//! The rule that must never be broken: a file that is broken is shown as far as it is good, and
//! what is wrong with it is said.

mod describe;
mod file;
mod page;
mod recorder;
mod show;
mod svg;
mod timeline;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use lifecycle::{Divergence, replay};

pub(crate) use file::Error;
use file::{Recorded, Timed};
pub(crate) use recorder::Recorder;

/// How many records a picture has at most: some hundred rows.
const MOST_IN_A_PICTURE: usize = 4000;

/// How a trace is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// As a table.
    Table,
    /// As a picture.
    Picture,
    /// Whether the decisions lead where it goes.
    Check,
}

/// What of which trace is to be seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// How.
    pub(crate) view: View,
    /// The file.
    pub(crate) file: PathBuf,
    /// The numbers of the records.
    pub(crate) records: RangeInclusive<u64>,
}

/// What there is to see, and what is wrong.
#[derive(Debug)]
pub(crate) struct Seen {
    /// For standard output.
    pub(crate) text: String,
    /// For standard error: a word of advice.
    pub(crate) note: Option<String>,
    /// Why it is not all.
    pub(crate) error: Option<Error>,
}

/// Looks at a trace.
///
/// # Errors
/// When there is nothing to see.
pub(crate) fn look(look: &Look) -> Result<Seen, Error> {
    let Recorded {
        compat,
        mut records,
        broken,
    } = file::read(&look.file)?;
    let name = look.file.display().to_string();
    let mut note = None;
    let mut error = broken;
    let text = match look.view {
        View::Table => {
            records.retain(|timed| look.records.contains(&timed.record.sequence));
            show::table(&records, compat)
        }
        View::Picture => {
            records.retain(|timed| look.records.contains(&timed.record.sequence));
            if records.len() > MOST_IN_A_PICTURE {
                note = Some(format!(
                    "the picture has the first {MOST_IN_A_PICTURE} of {} records; \
                     choose others with --from and --to",
                    records.len()
                ));
                records.truncate(MOST_IN_A_PICTURE);
            }
            svg::picture(&title(&name), &records, compat)
        }
        View::Check => match replay(records.iter().map(|timed| &timed.record), compat) {
            Ok(state) => checked(&records, state),
            Err(source) => {
                error = Some(divergence(name, source));
                String::new()
            }
        },
    };
    Ok(Seen { text, note, error })
}

fn divergence(file: String, source: Divergence) -> Error {
    Error::Divergence { file, source }
}

fn checked(records: &[Timed], state: Option<runstate::RunState>) -> String {
    let numbers = records.iter().map(|timed| timed.record.sequence);
    let gaps = numbers.clone().zip(numbers.skip(1));
    let gaps = gaps.filter(|(a, b)| a.wrapping_add(1) != *b).count();
    let state = state.map_or("in no state that it tells", runstate::RunState::as_str);
    format!(
        "{} records, {gaps} gaps: the decisions lead there; it ends {state}\n",
        records.len()
    )
}

/// What a picture is called.
fn title(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.into()
}

#[cfg(test)]
mod tests;
