//! The thread that writes dumps: of all threads the only one that opens files while the guest runs.
//!
//! ```text
//!   main loop ── Order: PATH ──▶ opens ── Ok or why not ──▶ main loop stops the VM
//!             ── Work ─────────▶ writes ── progress ──▶ End, and a bell
//! ```
//!
//! It is there if the command line names a directory for dumps, is started with the VM, and ends
//! with it. It is asked to stop through its flag, between two pieces.
//!
//! The rule that must never be broken: a dump is complete or it is not there; and it is of one
//! moment: a guest that was reset meanwhile has none.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use monitor::jobs::Job;

use super::elf::{Layout, Load};
use super::folder::{Folder, Part};
use crate::doorbell::Doorbell;
use crate::platform::Snapshot;

/// Bytes of memory that are written at once, a multiple of [`PAGE`].
const PIECE: usize = 256 << 10;
/// What is all zero becomes a hole in the file.
const PAGE: usize = 4096;
static ZEROES: [u8; PAGE] = [0; PAGE];

/// A dump that somebody wants.
pub(super) struct Order {
    /// Where.
    pub(super) path: PathBuf,
    /// Hears whether the file is there.
    pub(super) opened: SyncSender<io::Result<()>>,
    /// Says what to write; hangs up if it comes to nothing.
    pub(super) work: Receiver<Work>,
}

/// What is to be written.
pub(super) struct Work {
    pub(super) layout: Layout,
    pub(super) memory: Snapshot,
    pub(super) job: Option<Job>,
    pub(super) progress: Arc<Progress>,
    pub(super) ends: Sender<End>,
}

/// How a dump has ended.
pub(super) struct End {
    pub(super) result: Result<(), String>,
    pub(super) job: Option<Job>,
}

/// How far it is; and whether it is to go on.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) completed: AtomicU64,
    pub(super) cancelled: AtomicBool,
}

/// Does what is ordered until nobody can order any more.
pub(super) fn serve(orders: &Receiver<Order>, folder: &Folder, bell: &Doorbell) {
    for order in orders {
        let part = match folder.create(&order.path) {
            Ok(part) => part,
            Err(error) => {
                drop(order.opened.send(Err(error)));
                continue;
            }
        };
        if order.opened.send(Ok(())).is_err() {
            continue;
        }
        let Ok(work) = order.work.recv() else {
            continue;
        };
        let result = dump(&work, part);
        let Work { job, ends, .. } = work;
        drop(ends.send(End { result, job }));
        bell.ring();
    }
}

fn dump(work: &Work, part: Part) -> Result<(), String> {
    let failed = |error: io::Error| format!("dump: failed to save memory: {error}");
    let file = part.file();
    file.write_all_at(&work.layout.front, 0).map_err(failed)?;
    let mut piece = vec![0; PIECE];
    for load in &work.layout.loads {
        write(work, load, &mut piece, file)?;
    }
    // What was skipped at the end, too.
    file.set_len(work.layout.length).map_err(failed)?;
    part.keep().map_err(failed)
}

fn write(work: &Work, load: &Load, piece: &mut [u8], file: &File) -> Result<(), String> {
    let Load { range, offset } = load;
    let mut at = range.start;
    while at < range.end {
        checkpoint(work)?;
        let left = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let most = piece.len().min(left);
        let piece = piece.get_mut(..most).unwrap_or_default();
        work.memory
            .read(at, piece)
            .map_err(|error| format!("dump: failed to read memory: {error}"))?;
        // What was read of a guest that is reset meanwhile is of two lives.
        if !work.memory.is_current() {
            return Err("dump: the guest was reset before its memory was saved".to_owned());
        }
        let done = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        let file_at = offset.saturating_add(at.saturating_sub(range.start));
        write_sparse(file, piece, file_at)
            .map_err(|error| format!("dump: failed to save memory: {error}"))?;
        at = at.saturating_add(done);
        let completed = work.progress.completed.fetch_add(done, Ordering::AcqRel);
        if let Some(job) = &work.job {
            job.progress(completed.saturating_add(done), work.layout.total);
        }
    }
    Ok(())
}

/// Writes what is not zero, page by page; neighbours together.
fn write_sparse(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let pages = || bytes.chunks(PAGE).map(is_zero);
    let mut at = at;
    let mut rest = bytes;
    let mut pages = pages().peekable();
    while let Some(zero) = pages.next() {
        let mut count: usize = 1;
        while pages.next_if_eq(&zero).is_some() {
            count = count.saturating_add(1);
        }
        let run;
        (run, rest) = rest.split_at(count.saturating_mul(PAGE).min(rest.len()));
        if !zero {
            file.write_all_at(run, at)?;
        }
        at = at.saturating_add(u64::try_from(run.len()).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    // Two slices are compared by a loop that is fast in every build.
    ZEROES.get(..bytes.len()) == Some(bytes)
}

/// Waits while the job is paused; an error if the dump is not to go on.
fn checkpoint(work: &Work) -> Result<(), String> {
    let paused = work.job.as_ref().map_or(Ok(()), Job::checkpoint);
    if paused.is_err() || work.progress.cancelled.load(Ordering::Acquire) {
        return Err("Operation canceled".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_zero_is_a_hole_and_reads_as_zero() {
        let name = format!("vmm-bin-sparse-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::create(&path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        for at in [0, 5 * PAGE + 7, 6 * PAGE, (1 << 20) - 1] {
            bytes[at] = 0xa5;
        }
        // The last page is not whole.
        bytes.push(1);
        write_sparse(&file, &bytes, PAGE as u64).unwrap();
        let written = std::fs::read(&path).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        drop(std::fs::remove_file(&path));
        assert_eq!(written[..PAGE], [0; PAGE]);
        assert!(written[PAGE..] == bytes);
        assert!(blocks * 512 < 1 << 19, "{blocks} blocks");
    }
}
