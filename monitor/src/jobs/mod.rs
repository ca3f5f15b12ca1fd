//! Long commands: a job is started by a command, which is answered at once, and works on while
//! everything else goes on.
//!
//! ```text
//!                    pause                     job.ready()
//!   created ─▶ running ⇄ paused      running ─────────────▶ ready ⇄ standby
//!                 │                                           │ complete
//!                 ▼ done                                      ▼
//!              waiting ─▶ pending ─▶ concluded ─▶ null    waiting ─▶ ...
//!                 │          │ finalize   ▲ dismiss
//!                 ▼ failed   ▼ cancel     │
//!              aborting ──────────────────┘
//! ```
//!
//! A job works in steps between the turns of the main loop ([`Jobs::in_steps`]) or wherever the VMM
//! lets it, on a thread of its own for instance ([`Jobs::start`]). It is paused and cancelled only
//! where it looks: before each step, and at [`Job::checkpoint`].
//!
//! The rule that must never be broken: **a job does what the table allows and says so**. Each change
//! of its status is one event `JOB_STATUS_CHANGE`, in order, from whatever thread.
//!
//! | command | what it does |
//! |---|---|
//! | `query-jobs` | all that are not dismissed, the latest first |
//! | `job-pause`, `job-resume` | stops it for a while, and lets it go on |
//! | `job-cancel` | ends it; its error is `Operation canceled` |
//! | `job-complete` | ends one that is ready |
//! | `job-finalize` | makes one final that was started with [`JobOptions::finalized_by_hand`] |
//! | `job-dismiss` | forgets one that was started with [`JobOptions::dismissed_by_hand`] |
//!
//! Source: QEMU 7.2, `qapi/job.json`.

mod commands;
mod ledger;
mod table;

pub use table::JobStatus;

use crate::events::EventSender;
use crate::registry::{CommandError, Registry};
use ledger::{Ledger, Look};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The event that tells of a change.
pub const JOB_STATUS_CHANGE: &str = "JOB_STATUS_CHANGE";

/// Somebody has cancelled the job: it is to end, with whatever result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job was cancelled")]
pub struct Cancelled;

/// What a job is, and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobOptions {
    kind: String,
    id: String,
    finalize: bool,
    dismiss: bool,
}

impl JobOptions {
    /// A job of a kind of the VMM's (`type` in `query-jobs`), with the name that the client has
    /// given it. When its work is done it ends and is forgotten.
    #[must_use]
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        JobOptions {
            kind: kind.into(),
            id: id.into(),
            finalize: false,
            dismiss: false,
        }
    }

    /// Lets it wait for `job-finalize` when its work is done: QAPI's `auto-finalize: false`.
    #[must_use]
    pub fn finalized_by_hand(mut self) -> Self {
        self.finalize = true;
        self
    }

    /// Keeps it to be looked at until `job-dismiss`: QAPI's `auto-dismiss: false`.
    #[must_use]
    pub fn dismissed_by_hand(mut self) -> Self {
        self.dismiss = true;
        self
    }
}

/// Whether a job that works in steps has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// All is done.
    Done,
}

/// The work's own view of its job. Dropping it without [`Job::finish`] ends the job as failed.
#[derive(Debug)]
pub struct Job {
    ledger: Arc<Ledger>,
    key: u64,
}

impl Job {
    /// Says how much is done, and how much there is; in units of the job's own.
    pub fn progress(&self, current: u64, total: u64) {
        self.ledger.progress(self.key, current, total);
    }

    /// Waits for as long as the job is paused. Not for the main loop's thread: there, nothing could
    /// let it go on.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]: clean up and call [`Job::finish`].
    pub fn checkpoint(&self) -> Result<(), Cancelled> {
        self.ledger.wait_while_paused(self.key)
    }

    /// Says that all is done but what `job-complete` asks for.
    pub fn ready(&self) {
        self.ledger.ready(self.key);
    }

    /// Whether `job-complete` was called.
    #[must_use]
    pub fn is_completing(&self) -> bool {
        self.ledger.is_completing(self.key)
    }

    /// Waits for `job-complete`. Not for the main loop's thread.
    ///
    /// # Errors
    ///
    /// [`Cancelled`]: clean up and call [`Job::finish`].
    pub fn wait_for_complete(&self) -> Result<(), Cancelled> {
        self.ledger.wait_for_complete(self.key)
    }

    /// Ends the job. The text of an error is what `query-jobs` shows; one that was cancelled has
    /// failed in any case.
    pub fn finish<E: fmt::Display>(self, result: Result<(), E>) {
        let result = result.map_err(|error| error.to_string());
        self.ledger.finish(self.key, result);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // One that has finished takes no notice.
        let text = "The job has ended without a result".to_owned();
        self.ledger.finish(self.key, Err(text));
    }
}

type Work<C> = dyn FnMut(&mut C, &Job) -> Result<Step, CommandError> + Send;

struct Stepper<C> {
    job: Job,
    work: Box<Work<C>>,
}

/// The jobs of a VMM with the context `C`. Clones share them; any thread may start one.
///
/// # Example
///
/// ```
/// use monitor::jobs::{JobOptions, Step};
/// use monitor::{Registry, Version};
///
/// monitor::qapi! {
///     #[derive(serde::Deserialize)]
///     struct CountTo { job_id: String, number: u64 }
/// }
///
/// let mut registry: Registry<u64> = Registry::new(Version::new(1, 0, 0, ""));
/// let jobs = registry.jobs();
/// let counting = jobs.clone();
/// registry.described("x-count-to", move |_: &mut u64, asked: CountTo| {
///     let number = asked.number;
///     counting.in_steps(JobOptions::new("count", asked.job_id), move |counter: &mut u64, job| {
///         *counter += 1;
///         job.progress(*counter, number);
///         Ok(if *counter < number { Step::More } else { Step::Done })
///     })
/// });
/// let arguments = serde_json::json!({"job-id": "job0", "number": 3});
/// let mut counter = 0;
/// let arguments = arguments.as_object().cloned().unwrap_or_default();
/// registry.execute(&mut counter, "x-count-to", arguments)?;
/// while jobs.step(&mut counter) {} // a server does this, a step in each turn
/// assert_eq!(counter, 3);
/// # Ok::<(), monitor::CommandError>(())
/// ```
pub struct Jobs<C> {
    ledger: Arc<Ledger>,
    steppers: Arc<Mutex<Vec<Stepper<C>>>>,
}

impl<C> Jobs<C> {
    fn new() -> Self {
        Jobs {
            ledger: Arc::new(Ledger::new()),
            steppers: Arc::default(),
        }
    }

    /// Starts a job that works elsewhere: hand the [`Job`] to the thread that does it.
    ///
    /// # Errors
    ///
    /// The name is taken or cannot be one, or too many jobs are there. Hand the error to the client.
    pub fn start(&self, options: JobOptions) -> Result<Job, CommandError> {
        let key = self.ledger.start(options)?;
        Ok(Job {
            ledger: Arc::clone(&self.ledger),
            key,
        })
    }

    /// Starts a job that works on the main loop's thread, one call of `work` in each turn. A step
    /// must be short: between two of them, and only then, all else goes on.
    ///
    /// When the job is cancelled, `work` is dropped.
    ///
    /// # Errors
    ///
    /// As [`Jobs::start`].
    pub fn in_steps<F>(&self, options: JobOptions, work: F) -> Result<(), CommandError>
    where
        F: FnMut(&mut C, &Job) -> Result<Step, CommandError> + Send + 'static,
    {
        let job = self.start(options)?;
        let work = Box::new(work);
        self.with_steppers(|steppers| steppers.push(Stepper { job, work }));
        Ok(())
    }

    /// Lets each job that works in steps do one. Returns whether there is more to do at once.
    ///
    /// A [`Server`](crate::Server) calls this in each turn; whoever uses sessions alone calls it.
    pub fn step(&self, context: &mut C) -> bool {
        // Nothing is locked while the work runs: it may start jobs itself.
        let steppers = self.with_steppers(std::mem::take);
        let mut left = Vec::new();
        let mut more = false;
        for Stepper { job, mut work } in steppers {
            let result = match job.ledger.look(job.key) {
                Look::Go => work(context, &job),
                Look::Paused => {
                    left.push(Stepper { job, work });
                    continue;
                }
                Look::Cancelled => Ok(Step::Done),
            };
            match result {
                Ok(Step::More) => {
                    more = true;
                    left.push(Stepper { job, work });
                }
                Ok(Step::Done) => job.finish(Ok::<(), CommandError>(())),
                Err(error) => job.finish(Err(error)),
            }
        }
        self.with_steppers(|steppers| {
            more |= !steppers.is_empty();
            left.append(steppers);
            *steppers = left;
        });
        more
    }

    /// Whether a job waits to make a step.
    pub(crate) fn has_steps(&self) -> bool {
        let runs = |stepper: &Stepper<C>| self.ledger.look(stepper.job.key) != Look::Paused;
        self.with_steppers(|steppers| steppers.iter().any(runs))
    }

    /// Cancels all jobs: for the VMM's end. Their threads notice at their next
    /// [`Job::checkpoint`].
    pub fn cancel_all(&self) {
        self.ledger.cancel_all();
        self.with_steppers(std::mem::take);
    }

    pub(crate) fn report_to(&self, sender: EventSender) {
        self.ledger.report_to(sender);
    }

    fn with_steppers<T>(&self, act: impl FnOnce(&mut Vec<Stepper<C>>) -> T) -> T {
        // Nothing is left half done where this is locked.
        act(&mut self.steppers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C: 'static> Registry<C> {
    /// The VMM's jobs. With the first call, the commands for them and their event are registered.
    pub fn jobs(&mut self) -> Jobs<C> {
        if let Some(jobs) = self.known_jobs() {
            return jobs.clone();
        }
        let jobs = Jobs::new();
        commands::register(self, &jobs.ledger);
        self.know_jobs(jobs.clone());
        jobs
    }
}

impl<C> Clone for Jobs<C> {
    fn clone(&self) -> Self {
        Jobs {
            ledger: Arc::clone(&self.ledger),
            steppers: Arc::clone(&self.steppers),
        }
    }
}

impl<C> fmt::Debug for Jobs<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs")
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
