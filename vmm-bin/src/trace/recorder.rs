//! Writes the lifecycle's trace to a file, line by line, while the VM runs.
//!
//! ```text
//!   main loop ── record ─▶ batch ── flush, once a turn ──▶ queue ──▶ thread "trace" ──▶ FILE
//!   (never waits)                                       bounded      (may wait for the disk)
//! ```
//!
//! A thread that is woken for each record would take longer over that than over the records.
//!
//! The file ends at 64 MiB; what is left out then is told, and the last records of the VM are added
//! at its end. A disk that is slower than the guest costs records: the numbers of those that are
//! there tell which.
//!
//! The rule that must never be broken: the main loop does not wait for the file, and the guest does
//! not decide how long it gets.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifecycle::{Compat, Deadline, TraceLine, TraceRecord};
use log::{error, warn};

/// How large the file may get, apart from the end of the trace.
const LIMIT: u64 = 64 << 20;
/// How many records of the end are added to a file that has reached its limit.
const TAIL: usize = 1000;
/// How many batches may wait for the thread.
const QUEUE: usize = 1024;
/// How many records wait for the end of a turn at most: more than a turn makes.
const BATCH: usize = 256;
/// How many bytes are written at once, more or less.
const AT_ONCE: usize = 64 << 10;
/// How long the file may take at the end, when nobody says otherwise.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A trace that is being written.
pub(crate) struct Recorder {
    started: Instant,
    batch: RefCell<Vec<TraceLine>>,
    queue: RefCell<Option<SyncSender<Vec<TraceLine>>>>,
    thread: RefCell<Option<JoinHandle<()>>>,
    lost: Cell<u64>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl Recorder {
    /// Begins a trace in this file; one that is there is replaced. `confine` is called first thing
    /// on the thread that writes.
    ///
    /// # Errors
    /// When the file cannot be made or is none, when there is no thread, or what `confine` says.
    pub(crate) fn open(
        path: &Path,
        confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let file = create(path)?;
        let (queue, batches) = sync_channel(QUEUE);
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("trace".into());
        let thread = thread.spawn(move || {
            let confined = confine();
            let go_on = confined.is_ok();
            // The other end waits for this.
            drop(tell.send(confined));
            if go_on {
                write(&batches, file);
            }
        })?;
        told.recv()
            .map_err(|_| io::Error::other("the thread that writes it has ended"))??;
        let recorder = Self {
            started: Instant::now(),
            batch: RefCell::new(vec![TraceLine::Header(Compat::Current)]),
            queue: RefCell::new(Some(queue)),
            thread: RefCell::new(Some(thread)),
            lost: Cell::new(0),
        };
        recorder.flush();
        Ok(recorder)
    }

    /// Adds a record. Does not wait.
    pub(crate) fn record(&self, record: &TraceRecord) {
        let (at, record) = (self.started.elapsed(), *record);
        let mut batch = self.batch.borrow_mut();
        batch.push(TraceLine::Record { at, record });
        if batch.len() >= BATCH {
            drop(batch);
            self.flush();
        }
    }

    /// Has the thread write what was recorded. Does not wait for it.
    pub(crate) fn flush(&self) {
        let batch = self.batch.take();
        let Some(queue) = &*self.queue.borrow() else {
            return;
        };
        let records = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if records > 0 && queue.try_send(batch).is_err() {
            self.lost.set(self.lost.get().saturating_add(records));
        }
    }

    /// Ends the trace: what waits is written, if that takes no longer than `bound`.
    pub(crate) fn finish(&self, bound: Duration) {
        self.flush();
        drop(self.queue.take());
        let Some(thread) = self.thread.take() else {
            return;
        };
        if Deadline::after(bound).join(thread).is_err() {
            warn!("the trace is not complete: its file was not written in {bound:?}");
        }
        match self.lost.get() {
            0 => {}
            lost => warn!("the trace lacks {lost} records: its file was too slow"),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish(LAST_WORDS);
    }
}

/// Makes the file, or empties it. Anything but a plain file could keep its writer waiting for ever.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // A pipe that nobody reads is an error, and nothing to wait for.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    file.set_len(0)?;
    Ok(file)
}

/// The thread: writes until the queue is closed.
fn write(batches: &Receiver<Vec<TraceLine>>, file: File) {
    let mut writer = Writer::new(file, LIMIT);
    let mut result = Ok(());
    while let Ok(first) = batches.recv() {
        if result.is_err() {
            // Nobody is to find the queue full.
            continue;
        }
        first.into_iter().for_each(|line| writer.add(line));
        while writer.text.len() < AT_ONCE {
            let Ok(next) = batches.try_recv() else { break };
            next.into_iter().for_each(|line| writer.add(line));
        }
        result = writer.flush();
        if let Err(error) = &result {
            error!("the trace ends here: {error}");
        }
    }
    if result.is_ok()
        && let Err(error) = writer.finish()
    {
        error!("the trace lacks its end: {error}");
    }
}

/// Lines on their way to a file with a limit.
struct Writer<W> {
    out: W,
    text: String,
    room: u64,
    /// From when the limit is reached: the last lines.
    tail: Option<VecDeque<TraceLine>>,
}

impl<W: Write> Writer<W> {
    fn new(out: W, limit: u64) -> Self {
        Self {
            out,
            text: String::new(),
            room: limit,
            tail: None,
        }
    }

    fn add(&mut self, line: TraceLine) {
        if let Some(tail) = &mut self.tail {
            if tail.len() >= TAIL {
                tail.pop_front();
            }
            tail.push_back(line);
            return;
        }
        let before = self.text.len();
        append(&mut self.text, line);
        let length = self.text.len().saturating_sub(before);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        match self.room.checked_sub(length) {
            Some(room) => self.room = room,
            None => {
                warn!("the trace has reached its limit: of what follows, the end is kept");
                self.text.truncate(before);
                append(&mut self.text, TraceLine::Truncated);
                self.tail = Some(VecDeque::from([line]));
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.write_all(self.text.as_bytes());
        self.text.clear();
        result
    }

    fn finish(&mut self) -> io::Result<()> {
        for line in self.tail.take().unwrap_or_default() {
            append(&mut self.text, line);
        }
        self.flush()
    }
}

fn append(text: &mut String, line: TraceLine) {
    // A string takes everything.
    let _it_does = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use lifecycle::Happening;

    use super::*;

    fn line(sequence: u64) -> TraceLine {
        TraceLine::Record {
            at: Duration::from_nanos(sequence),
            record: TraceRecord {
                sequence,
                happening: Happening::Paused,
            },
        }
    }

    fn written(lines: u64, limit: u64) -> Vec<TraceLine> {
        let mut writer = Writer::new(Vec::new(), limit);
        writer.add(TraceLine::Header(Compat::Current));
        for sequence in 0..lines {
            writer.add(line(sequence));
            if sequence % 7 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.finish().unwrap();
        let text = String::from_utf8(writer.out).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn a_file_within_its_limit_has_everything() {
        let lines = written(100, LIMIT);
        let expected: Vec<_> = std::iter::once(TraceLine::Header(Compat::Current))
            .chain((0..100).map(line))
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_file_at_its_limit_has_the_beginning_and_the_end() {
        let lines = written(100_000, 10_000);
        let cut = lines
            .iter()
            .position(|line| *line == TraceLine::Truncated)
            .unwrap();
        assert!((200..300).contains(&cut), "{cut}");
        assert_eq!(lines[cut - 1], line(u64::try_from(cut).unwrap() - 2));
        assert_eq!(lines.len(), cut + 1 + TAIL);
        assert_eq!(*lines.last().unwrap(), line(99_999));
    }

    #[test]
    fn only_a_plain_file_will_do() {
        let error = create(Path::new("/dev/null")).unwrap_err();
        assert_eq!(error.to_string(), "is no regular file");
        assert!(create(Path::new("/nonexistent/trace")).is_err());
    }
}
