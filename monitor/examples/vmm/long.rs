//! Commands that take long: one works in steps on the main loop's thread, one on a thread of its own.

use super::Vmm;
use monitor::jobs::{Job, JobOptions, Jobs, Step};
use monitor::{CommandError, NoArguments, Registry};
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

/// Bytes between two looks at what else there is to do.
const PIECE: usize = 64 << 10;

monitor::qapi! {
    /// The arguments of `x-checksum`.
    #[derive(serde::Deserialize)]
    struct Checksum {
        job_id: String,
        auto_finalize: Option<bool>,
        auto_dismiss: Option<bool>,
    }
}

monitor::qapi! {
    /// The arguments of `x-dump`.
    #[derive(serde::Deserialize)]
    struct Dump {
        job_id: String,
        path: String,
        auto_finalize: Option<bool>,
        auto_dismiss: Option<bool>,
    }
}

fn options(kind: &str, id: &str, finalize: Option<bool>, dismiss: Option<bool>) -> JobOptions {
    let mut options = JobOptions::new(kind, id);
    if finalize == Some(false) {
        options = options.finalized_by_hand();
    }
    if dismiss == Some(false) {
        options = options.dismissed_by_hand();
    }
    options
}

/// Adds the commands.
pub(super) fn register(registry: &mut Registry<Vmm>) {
    let jobs = registry.jobs();
    let dumps = jobs.clone();
    registry
        .described("x-checksum", move |vmm: &mut Vmm, asked: Checksum| {
            checksum(&jobs, vmm, &asked)
        })
        .described("x-query-checksum", |vmm: &mut Vmm, _: NoArguments| {
            Ok(vmm.checksum)
        })
        .described("x-dump", move |vmm: &mut Vmm, asked: Dump| {
            dump(&dumps, vmm, asked)
        });
}

/// Adds up the memory, a piece in each turn.
fn checksum(jobs: &Jobs<Vmm>, vmm: &mut Vmm, asked: &Checksum) -> Result<(), CommandError> {
    vmm.checksum = 0;
    let mut done: usize = 0;
    let options = options(
        "checksum",
        &asked.job_id,
        asked.auto_finalize,
        asked.auto_dismiss,
    );
    jobs.in_steps(options, move |vmm: &mut Vmm, job| {
        let memory = Arc::clone(&vmm.memory);
        let piece = memory.iter().skip(done).take(PIECE);
        let sum = piece.fold(vmm.checksum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
        vmm.checksum = sum;
        done = done.saturating_add(PIECE).min(memory.len());
        report(job, done, memory.len());
        Ok(if done < memory.len() {
            Step::More
        } else {
            Step::Done
        })
    })
}

/// Writes the memory into a file, on a thread of its own.
fn dump(jobs: &Jobs<Vmm>, vmm: &mut Vmm, asked: Dump) -> Result<(), CommandError> {
    let options = options(
        "dump",
        &asked.job_id,
        asked.auto_finalize,
        asked.auto_dismiss,
    );
    let job = jobs.start(options)?;
    let memory = Arc::clone(&vmm.memory);
    std::thread::spawn(move || {
        let result = write(&job, &asked.path, &memory);
        job.finish(result);
    });
    Ok(())
}

fn write(job: &Job, path: &str, memory: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut done: usize = 0;
    for piece in memory.chunks(PIECE) {
        if job.checkpoint().is_err() {
            return std::fs::remove_file(path);
        }
        file.write_all(piece)?;
        done = done.saturating_add(piece.len());
        report(job, done, memory.len());
    }
    Ok(())
}

fn report(job: &Job, done: usize, of: usize) {
    let count = |bytes| u64::try_from(bytes).unwrap_or(u64::MAX);
    job.progress(count(done), count(of));
}
