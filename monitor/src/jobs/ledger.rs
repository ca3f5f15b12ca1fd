//! All jobs, and what each is asked to do: shared by the commands and the workers.
//!
//! The rule that must never be broken: **events leave in the order of the changes**. They are sent
//! while the ledger is locked.

use super::table::{JobStatus, Verb};
use super::{Cancelled, JOB_STATUS_CHANGE, JobOptions};
use crate::events::EventSender;
use crate::registry::CommandError;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Jobs that may be there at once, those that wait to be dismissed included.
const MOST_JOBS: usize = 64;

/// Bytes of a job's name.
const LONGEST_ID: usize = 127;

/// What QEMU calls `ECANCELED`.
const CANCELED: &str = "Operation canceled";

crate::qapi! {
    /// A job in `query-jobs`. QAPI's `JobInfo`.
    #[derive(serde::Serialize)]
    pub(super) struct JobInfo {
        id: String,
        r#type: String,
        status: JobStatus,
        current_progress: u64,
        total_progress: u64,
        error: Option<String>,
    }
}

crate::qapi! {
    /// The data of `JOB_STATUS_CHANGE`.
    #[derive(serde::Serialize)]
    pub(super) struct StatusChange {
        id: String,
        status: JobStatus,
    }
}

/// What a job's work finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Go,
    Paused,
    Cancelled,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    options: JobOptions,
    status: JobStatus,
    pause: bool,
    cancel: bool,
    complete: bool,
    /// The work is over; nothing that it says counts any more.
    over: bool,
    progress: (u64, u64),
    error: Option<String>,
}

impl Entry {
    fn change(&mut self, to: JobStatus, sender: Option<&EventSender>) {
        debug_assert!(self.status.next().contains(&to), "{} to {to}", self.status);
        self.status = to;
        let change = StatusChange {
            id: self.options.id.clone(),
            status: to,
        };
        if let Some(sender) = sender {
            // It fails only if the VMM has registered no such event, and then wants none.
            sender.emit(JOB_STATUS_CHANGE, &change).ok();
        }
    }

    /// Enters or leaves a pause, if that was asked for.
    fn heed_pause(&mut self, sender: Option<&EventSender>) {
        let stop = self.pause && !self.cancel;
        let to = match self.status {
            JobStatus::Running if stop => JobStatus::Paused,
            JobStatus::Ready if stop => JobStatus::Standby,
            JobStatus::Paused if !stop => JobStatus::Running,
            JobStatus::Standby if !stop => JobStatus::Ready,
            _ => return,
        };
        self.change(to, sender);
    }

    fn look(&self) -> Look {
        match self.status {
            _ if self.cancel => Look::Cancelled,
            JobStatus::Paused | JobStatus::Standby => Look::Paused,
            _ => Look::Go,
        }
    }

    fn fail(&mut self, error: String, sender: Option<&EventSender>) {
        self.error = Some(error);
        self.change(JobStatus::Aborting, sender);
        self.conclude(sender);
    }

    fn conclude(&mut self, sender: Option<&EventSender>) {
        self.change(JobStatus::Concluded, sender);
        if !self.options.dismiss {
            self.change(JobStatus::Null, sender);
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    jobs: Vec<Entry>,
    sender: Option<EventSender>,
    next_key: u64,
}

impl Inner {
    fn with<T>(
        &mut self,
        key: u64,
        act: impl FnOnce(&mut Entry, Option<&EventSender>) -> T,
    ) -> Option<T> {
        let job = self.jobs.iter_mut().find(|job| job.key == key)?;
        Some(act(job, self.sender.as_ref()))
    }

    fn forget_the_dismissed(&mut self) {
        self.jobs.retain(|job| job.status != JobStatus::Null);
    }
}

/// The jobs.
pub(super) struct Ledger {
    inner: Mutex<Inner>,
    /// Somebody has asked something of a job.
    asked: Condvar,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Ledger {
            inner: Mutex::default(),
            asked: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change of an entry is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report_to(&self, sender: EventSender) {
        self.lock().sender = Some(sender);
    }

    pub(super) fn start(&self, options: JobOptions) -> Result<u64, CommandError> {
        let mut inner = self.lock();
        let id = &options.id;
        if id.len() > LONGEST_ID {
            let text = format!("Job ID is too long: at most {LONGEST_ID} characters are possible");
            return Err(CommandError::generic(text));
        }
        if !is_well_formed(id) {
            return Err(CommandError::generic(format!("Invalid job ID '{id}'")));
        }
        if inner.jobs.iter().any(|job| job.options.id == *id) {
            let text = format!("Job ID '{id}' already in use");
            return Err(CommandError::generic(text));
        }
        if inner.jobs.len() >= MOST_JOBS {
            return Err(CommandError::generic(format!(
                "Too many jobs: at most {MOST_JOBS} can be there, those that wait for \
                 'job-dismiss' included"
            )));
        }
        let key = inner.next_key;
        inner.next_key = key.saturating_add(1);
        let mut job = Entry {
            key,
            options,
            status: JobStatus::Undefined,
            pause: false,
            cancel: false,
            complete: false,
            over: false,
            progress: (0, 0),
            error: None,
        };
        job.change(JobStatus::Created, inner.sender.as_ref());
        job.change(JobStatus::Running, inner.sender.as_ref());
        inner.jobs.push(job);
        Ok(key)
    }

    /// The jobs, the latest first.
    pub(super) fn list(&self) -> Vec<JobInfo> {
        let inner = self.lock();
        let infos = inner.jobs.iter().rev().map(|job| JobInfo {
            id: job.options.id.clone(),
            r#type: job.options.kind.clone(),
            status: job.status,
            current_progress: job.progress.0,
            total_progress: job.progress.1,
            error: job.error.clone(),
        });
        infos.collect()
    }

    /// Does what a client asks for, or says why not.
    pub(super) fn apply(&self, id: &str, verb: Verb) -> Result<(), CommandError> {
        let mut inner = self.lock();
        let Inner { jobs, sender, .. } = &mut *inner;
        let sender = sender.as_ref();
        let refuse = |text: String| Err(CommandError::generic(text));
        let Some(job) = jobs.iter_mut().find(|job| job.options.id == id) else {
            return refuse("Job not found".to_owned());
        };
        if verb == Verb::Resume && !job.pause {
            return refuse("Can't resume a job that was not paused".to_owned());
        }
        let status = job.status;
        if !verb.fits(status) {
            let verb = verb.as_str();
            return refuse(format!(
                "Job '{id}' in state '{status}' cannot accept command verb '{verb}'"
            ));
        }
        match verb {
            Verb::Pause if job.pause => return refuse("Job is already paused".to_owned()),
            Verb::Pause => job.pause = true,
            Verb::Resume => job.pause = false,
            Verb::Complete if job.cancel => {
                return refuse(format!("The active block job '{id}' cannot be completed"));
            }
            Verb::Complete => job.complete = true,
            Verb::Cancel if job.over => job.fail(CANCELED.to_owned(), sender),
            Verb::Cancel => job.cancel = true,
            Verb::Finalize => job.conclude(sender),
            Verb::Dismiss => job.change(JobStatus::Null, sender),
        }
        inner.forget_the_dismissed();
        self.asked.notify_all();
        Ok(())
    }

    pub(super) fn cancel_all(&self) {
        for job in &mut self.lock().jobs {
            job.cancel = true;
        }
        self.asked.notify_all();
    }

    pub(super) fn progress(&self, key: u64, current: u64, total: u64) {
        self.lock()
            .with(key, |job, _| job.progress = (current, total));
    }

    pub(super) fn ready(&self, key: u64) {
        self.lock().with(key, |job, sender| {
            job.heed_pause(sender);
            // A paused one says so again when it goes on.
            if job.status == JobStatus::Running {
                job.change(JobStatus::Ready, sender);
            }
        });
    }

    pub(super) fn is_completing(&self, key: u64) -> bool {
        self.lock().with(key, |job, _| job.complete).unwrap_or(true)
    }

    /// Whether the job may work now. Enters or leaves a pause.
    pub(super) fn look(&self, key: u64) -> Look {
        let look = self.lock().with(key, |job, sender| {
            job.heed_pause(sender);
            job.look()
        });
        look.unwrap_or(Look::Cancelled)
    }

    pub(super) fn wait_while_paused(&self, key: u64) -> Result<(), Cancelled> {
        self.wait_until(key, |_| true)
    }

    pub(super) fn wait_for_complete(&self, key: u64) -> Result<(), Cancelled> {
        self.wait_until(key, |job| job.complete)
    }

    /// Waits until the job may work and `done` holds, or it is cancelled.
    fn wait_until(&self, key: u64, done: fn(&Entry) -> bool) -> Result<(), Cancelled> {
        let mut inner = self.lock();
        loop {
            let look = inner.with(key, |job, sender| {
                job.heed_pause(sender);
                (job.look(), done(job))
            });
            match look {
                None | Some((Look::Cancelled, _)) => return Err(Cancelled),
                Some((Look::Go, true)) => return Ok(()),
                _ => {}
            }
            let waited = self.asked.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn finish(&self, key: u64, result: Result<(), String>) {
        let mut inner = self.lock();
        inner.with(key, |job, sender| {
            if std::mem::replace(&mut job.over, true) {
                return;
            }
            // One that finishes while it is paused has not looked; the pause ends here.
            job.pause = false;
            job.heed_pause(sender);
            match result {
                _ if job.cancel => job.fail(CANCELED.to_owned(), sender),
                Err(error) => job.fail(error, sender),
                Ok(()) => {
                    job.change(JobStatus::Waiting, sender);
                    job.change(JobStatus::Pending, sender);
                    if !job.options.finalize {
                        job.conclude(sender);
                    }
                }
            }
        });
        inner.forget_the_dismissed();
    }
}

/// QEMU's rule for ids: a letter, then letters, digits, `-`, `.` and `_`.
fn is_well_formed(id: &str) -> bool {
    let mut characters = id.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_list().entries(&inner.jobs).finish()
    }
}
