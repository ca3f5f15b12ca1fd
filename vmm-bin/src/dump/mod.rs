//! Dumps of the guest's memory, for debuggers: `dump-guest-memory`.
//!
//! ```text
//!   command ─▶ file made ─▶ VM stopped (save-vm) ─▶ registers read ─▶ thread writes ─▶ DUMP_COMPLETED ─▶ VM goes on
//!              [folder]     if it was live          [notes] [elf]      [writer]
//! ```
//!
//! With `detach` the command is answered when the work has begun, everybody is served meanwhile, and
//! the work is a job, too. Without, the main loop waits, as in QEMU; a signal that ends the program
//! ends the wait.
//!
//! The rule that must never be broken: the VM does not run while its memory is written, and goes on
//! afterwards only if it was stopped for that.

mod elf;
mod folder;
mod notes;
mod writer;

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lifecycle::{Lifecycle, ShutdownCause};
use log::{info, warn};
use monitor::dump::{DUMP_COMPLETED, DumpQueryResult, DumpRequest, DumpStatus, dump_completed};
use monitor::jobs::{Job, JobOptions, Jobs};
use monitor::{CommandError, EventSender};
use runstate::RunState;

use crate::doorbell::Doorbell;
use crate::events::Announcer;
use crate::machine::Vm;
use crate::platform;
use elf::Layout;
use folder::Folder;
use writer::{End, Order, Progress, Work};

/// What the job of a dump is, and how it is called: there is one at a time.
const JOB: &str = "dump-guest-memory";

/// How long making a file may take, and reading the registers of vCPUs that stand.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often who waits for a dump looks for signals.
const LOOK: Duration = Duration::from_millis(50);

/// Where dumps go: the thread that writes them.
#[derive(Debug)]
pub(crate) struct Desk {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Opens the directory and starts the thread. `confine` is called first thing on it, with the
    /// directory, beneath which it will make files. `bell` is rung at the end of each dump.
    ///
    /// # Errors
    /// When there is no such directory, when there is no thread, or what `confine` says.
    pub(crate) fn open(
        directory: &Path,
        bell: Arc<Doorbell>,
        confine: impl FnOnce(BorrowedFd<'_>) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let folder = Folder::open(directory)?;
        let (orders, ordered) = channel();
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("dump".into());
        let thread = thread.spawn(move || {
            let confined = confine(folder.fd());
            let go_on = confined.is_ok();
            drop(tell.send(confined));
            if go_on {
                writer::serve(&ordered, &folder, &bell);
            }
        })?;
        told.recv()
            .map_err(|_| io::Error::other("the thread that writes there has ended"))??;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Has a file made. What is to be written goes to the sender; dropping that removes the file.
    fn create(&self, path: &str) -> Result<Sender<Work>, CommandError> {
        let refused =
            |why: String| CommandError::generic(format!("Could not open '{path}': {why}"));
        let (opened, is_open) = sync_channel(1);
        let (work, wanted) = channel();
        let order = Order {
            path: path.into(),
            opened,
            work: wanted,
        };
        let orders = self.orders.as_ref();
        let sent = orders.is_some_and(|orders| orders.send(order).is_ok());
        if !sent {
            return Err(refused("the thread that writes dumps has ended".to_owned()));
        }
        match is_open.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Ok(work),
            Ok(Err(error)) => Err(refused(error.to_string())),
            Err(_) => Err(refused("the file system does not answer".to_owned())),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        drop(self.orders.take());
        let Some(thread) = self.thread.take() else {
            return;
        };
        if lifecycle::Deadline::after(PATIENCE).join(thread).is_err() {
            warn!("a dump is left behind that is not complete: its file system does not answer");
        }
    }
}

/// A dump that is being written.
struct Running {
    ends: Receiver<End>,
    progress: Arc<Progress>,
    total: u64,
    /// The VM was stopped for this.
    resumes: bool,
}

/// The VM's dumps.
pub(crate) struct Dumps {
    desk: Option<Desk>,
    events: EventSender,
    running: RefCell<Option<Running>>,
    last: Cell<DumpQueryResult>,
}

impl std::fmt::Debug for Dumps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dumps")
            .field("desk", &self.desk)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Dumps {
    /// None yet. Without a desk there will be none.
    pub(crate) fn new(desk: Option<Desk>, events: EventSender) -> Self {
        Self {
            desk,
            events,
            running: RefCell::new(None),
            last: Cell::default(),
        }
    }

    /// Whether one is being written.
    pub(crate) fn is_active(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// How far it is, or how the last one ended.
    pub(crate) fn progress(&self) -> DumpQueryResult {
        match &*self.running.borrow() {
            Some(running) => DumpQueryResult {
                status: DumpStatus::Active,
                completed: running.progress.completed.load(Ordering::Acquire),
                total: running.total,
            },
            None => self.last.get(),
        }
    }

    /// Begins a dump; without `detach`, does it.
    ///
    /// # Errors
    /// When it cannot begin: then nothing has changed. When it has failed.
    pub(crate) fn dump<C>(
        &self,
        request: &DumpRequest,
        lifecycle: &Lifecycle<Vm, Announcer>,
        machine: &platform::Machine,
        jobs: &Jobs<C>,
    ) -> Result<(), CommandError> {
        let desk = self.desk.as_ref().ok_or_else(no_directory)?;
        let memory = machine.snapshot();
        let ranges = wanted(&memory.ranges(), request.range.as_ref())?;
        let file = desk.create(&request.file)?;
        // The job is the last that can be refused while the VM runs.
        let job = match request.detach {
            true => Some(jobs.start(JobOptions::new(JOB, JOB))?),
            false => None,
        };
        let resumes = lifecycle.state().is_live();
        if resumes && let Err(error) = lifecycle.stop(RunState::SaveVm) {
            return Err(give_up(job, error.to_string()));
        }
        let layout = registers(machine).and_then(|cpus| {
            let layout = Layout::new(&notes::notes(&cpus), &ranges);
            layout.ok_or_else(|| "dump: the guest has too much memory".to_owned())
        });
        let layout = match layout {
            Ok(layout) => layout,
            Err(error) => {
                resume(lifecycle, resumes);
                return Err(give_up(job, error));
            }
        };
        let (tell, ends) = channel();
        let progress = Arc::new(Progress::default());
        let total = layout.total;
        if let Some(job) = &job {
            job.progress(0, total);
        }
        let work = Work {
            layout,
            memory,
            job,
            progress: Arc::clone(&progress),
            ends: tell,
        };
        info!("the guest's memory is written to {}", request.file);
        *self.running.borrow_mut() = Some(Running {
            ends,
            progress,
            total,
            resumes,
        });
        // If the thread has gone, so has the other end of `ends`.
        drop(file.send(work));
        if request.detach {
            return Ok(());
        }
        self.wait(lifecycle)
    }

    /// Waits for the end of the dump, or of the program.
    fn wait(&self, lifecycle: &Lifecycle<Vm, Announcer>) -> Result<(), CommandError> {
        let mut deadline = None;
        loop {
            let ended = match &*self.running.borrow() {
                Some(running) => running.ends.recv_timeout(LOOK),
                None => return Ok(()),
            };
            match ended {
                Ok(end) => return self.finish(lifecycle, end.result, end.job),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.finish(lifecycle, Err(thread_has_gone()), None);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if lifecycle.requests().shutdown_pending() == ShutdownCause::None {
                continue;
            }
            self.cancel();
            let deadline = *deadline.get_or_insert_with(|| Instant::now().checked_add(PATIENCE));
            if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                return Err(CommandError::generic("Operation canceled"));
            }
        }
    }

    /// Has the dump end soon, if there is one.
    pub(crate) fn cancel(&self) {
        if let Some(running) = &*self.running.borrow() {
            running.progress.cancelled.store(true, Ordering::Release);
        }
    }

    /// Ends the dump if it is done. To be called in each turn of the main loop.
    pub(crate) fn advance(&self, lifecycle: &Lifecycle<Vm, Announcer>) {
        let ended = match &*self.running.borrow() {
            Some(running) => running.ends.try_recv(),
            None => return,
        };
        let end = match ended {
            Ok(end) => end,
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => End {
                result: Err(thread_has_gone()),
                job: None,
            },
        };
        // Who did not wait for it hears the event.
        drop(self.finish(lifecycle, end.result, end.job));
    }

    fn finish(
        &self,
        lifecycle: &Lifecycle<Vm, Announcer>,
        result: Result<(), String>,
        job: Option<Job>,
    ) -> Result<(), CommandError> {
        let reached = self.progress();
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        let status = match &result {
            Ok(()) => DumpStatus::Completed,
            Err(_) => DumpStatus::Failed,
        };
        let last = DumpQueryResult { status, ..reached };
        self.last.set(last);
        match &result {
            Ok(()) => info!("the guest's memory is written"),
            Err(error) => warn!("{error}"),
        }
        let data = dump_completed(last, result.clone().err());
        if let Err(error) = self.events.emit(DUMP_COMPLETED, &data) {
            warn!("monitor: {error}");
        }
        if let Some(job) = job {
            job.finish(result.clone());
        }
        resume(lifecycle, running.resumes);
        result.map_err(CommandError::generic)
    }
}

fn no_directory() -> CommandError {
    CommandError::generic(
        "There is no directory for dumps: the program must be started with --dump-dir DIR, and \
         the file be below DIR",
    )
}

fn thread_has_gone() -> String {
    "dump: the thread that writes it has ended".to_owned()
}

/// Ends the job of a dump that has not begun.
fn give_up(job: Option<Job>, error: String) -> CommandError {
    if let Some(job) = job {
        job.finish(Err::<(), _>(&error));
    }
    CommandError::generic(error)
}

/// Lets the VM go on as it was, if it was stopped for the dump and nobody has stopped it for another
/// reason since.
fn resume(lifecycle: &Lifecycle<Vm, Announcer>, resumes: bool) {
    if resumes
        && lifecycle.state() == RunState::SaveVm
        && let Err(error) = lifecycle.start()
    {
        warn!("the VM stays stopped after the dump: {error}");
    }
}

/// What of the memory is in the range that a client wants.
fn wanted(
    memory: &[Range<u64>],
    range: Option<&Range<u64>>,
) -> Result<Vec<Range<u64>>, CommandError> {
    let Some(range) = range else {
        return Ok(memory.to_vec());
    };
    let parts = memory
        .iter()
        .map(|own| own.start.max(range.start)..own.end.min(range.end));
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(CommandError::generic(
            "Invalid parameter 'begin': there is no memory in that range",
        ));
    }
    Ok(parts)
}

/// The registers of the vCPUs that have any.
fn registers(machine: &platform::Machine) -> Result<Vec<(u32, platform::CoreRegisters)>, String> {
    let deadline = Instant::now().checked_add(PATIENCE);
    let read = machine.core_registers(deadline);
    read.map_err(|error| format!("dump: failed to read the registers: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_is_written_and_only_what_is_wanted() {
        let memory = [0..0x1000, 0x10_0000..0x20_0000];
        let parts = |range: Range<u64>| wanted(&memory, Some(&range));
        assert_eq!(wanted(&memory, None), Ok(memory.to_vec()));
        let inner = parts(0x10..0x20).unwrap();
        assert_eq!(inner.first(), Some(&(0x10..0x20)));
        let both = vec![0x800..0x1000, 0x10_0000..0x10_0001];
        assert_eq!(parts(0x800..0x10_0001), Ok(both));
        assert_eq!(parts(0..u64::MAX), Ok(memory.to_vec()));
        let text = parts(0x1000..0x10_0000).unwrap_err().to_string();
        assert!(text.contains("no memory in that range"), "{text}");
    }
}
