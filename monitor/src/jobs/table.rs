//! What a job can become, and which command it takes when: one table for each.
//!
//! Source: QEMU 7.2, `qapi/job.json`, and what it answers.

use std::fmt;

crate::qapi! {
    /// How far a job is. QAPI's `JobStatus`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
    pub enum JobStatus {
        /// Before there is a job.
        Undefined,
        /// It is there and has not begun.
        Created,
        /// It works.
        Running,
        /// A client has stopped it for a while.
        Paused,
        /// All is done but what a client must ask for.
        Ready,
        /// Stopped for a while when it was ready.
        Standby,
        /// Its work is done; it waits for others that belong to it.
        Waiting,
        /// It waits to be made final.
        Pending,
        /// It has failed or was cancelled, and cleans up.
        Aborting,
        /// It has ended, and its result can be seen until it is dismissed.
        Concluded,
        /// It is gone.
        Null,
    }
}

impl JobStatus {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            JobStatus::Undefined => "undefined",
            JobStatus::Created => "created",
            JobStatus::Running => "running",
            JobStatus::Paused => "paused",
            JobStatus::Ready => "ready",
            JobStatus::Standby => "standby",
            JobStatus::Waiting => "waiting",
            JobStatus::Pending => "pending",
            JobStatus::Aborting => "aborting",
            JobStatus::Concluded => "concluded",
            JobStatus::Null => "null",
        }
    }

    /// What it can become.
    pub(super) const fn next(self) -> &'static [JobStatus] {
        use JobStatus::{
            Aborting, Concluded, Created, Null, Paused, Pending, Ready, Running, Standby,
            Undefined, Waiting,
        };
        match self {
            Undefined => &[Created],
            Created => &[Running, Aborting, Null],
            Running => &[Paused, Ready, Waiting, Aborting],
            Paused => &[Running],
            Ready => &[Standby, Waiting, Aborting],
            Standby => &[Ready],
            Waiting => &[Pending, Aborting],
            Pending | Aborting => &[Aborting, Concluded],
            Concluded => &[Null],
            Null => &[],
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client can ask of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Cancel,
    Pause,
    Resume,
    Complete,
    Finalize,
    Dismiss,
}

impl Verb {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Verb::Cancel => "cancel",
            Verb::Pause => "pause",
            Verb::Resume => "resume",
            Verb::Complete => "complete",
            Verb::Finalize => "finalize",
            Verb::Dismiss => "dismiss",
        }
    }

    /// Whether a job takes it now.
    pub(super) const fn fits(self, status: JobStatus) -> bool {
        use JobStatus::{Concluded, Created, Paused, Pending, Ready, Running, Standby, Waiting};
        match self {
            Verb::Cancel => matches!(
                status,
                Created | Running | Paused | Ready | Standby | Waiting | Pending
            ),
            Verb::Pause | Verb::Resume => {
                matches!(status, Created | Running | Paused | Ready | Standby)
            }
            Verb::Complete => matches!(status, Ready),
            Verb::Finalize => matches!(status, Pending),
            Verb::Dismiss => matches!(status, Concluded),
        }
    }
}
