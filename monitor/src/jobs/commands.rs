//! The commands, and the event.

use super::JOB_STATUS_CHANGE;
use super::ledger::{JobInfo, Ledger, StatusChange};
use super::table::Verb;
use crate::registry::{EventSpec, NoArguments, Registry};
use std::sync::Arc;

crate::qapi! {
    /// Which job is meant.
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
}

const VERBS: [(&str, Verb); 6] = [
    ("job-pause", Verb::Pause),
    ("job-resume", Verb::Resume),
    ("job-cancel", Verb::Cancel),
    ("job-complete", Verb::Complete),
    ("job-dismiss", Verb::Dismiss),
    ("job-finalize", Verb::Finalize),
];

pub(super) fn register<C: 'static>(registry: &mut Registry<C>, ledger: &Arc<Ledger>) {
    registry.event(EventSpec::new(JOB_STATUS_CHANGE).data::<StatusChange>());
    let jobs = Arc::clone(ledger);
    registry.described("query-jobs", move |_: &mut C, _: NoArguments| {
        Ok::<Vec<JobInfo>, _>(jobs.list())
    });
    for (name, verb) in VERBS {
        let jobs = Arc::clone(ledger);
        registry.described(name, move |_: &mut C, asked: Named| {
            jobs.apply(&asked.id, verb)
        });
    }
}
