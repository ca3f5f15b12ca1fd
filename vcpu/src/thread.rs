//! One vCPU's thread, as every other thread sees it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::control::ControlWord;
use crate::error::{Failure, PauseError, Stuck, VcpuError};
use crate::pause::VcpuPause;
use crate::run::{Kicker, LastExit, LastExitCell, VcpuId, VcpuRun};
use crate::set::{VcpuEvent, VcpuEvents};
use crate::sync::{Builder, JoinHandle, Mutex, ThreadId, current, lock};
use crate::word::{VcpuState, Word};
use crate::work::{Job, Outcome, Refused, Reply, WorkQueue};
use crate::worker;

/// A vCPU and the thread that runs it. Handles are shared (`Arc`); one that outlives its vCPU reads
/// [`VcpuState::Exited`] and refuses work. It never refers to a later vCPU of the same number.
pub struct VcpuThread<R: VcpuRun> {
    id: VcpuId,
    incarnation: u64,
    pub(crate) control: ControlWord,
    pub(crate) queue: WorkQueue<R>,
    pub(crate) last_exit: LastExitCell,
    kicker: OnceLock<Arc<dyn Kicker>>,
    thread_id: OnceLock<ThreadId>,
    failure: Mutex<Option<Failure>>,
    /// The vCPU on its way into the thread and, later, out of it.
    vcpu: Mutex<Option<R>>,
    join: Mutex<Option<JoinHandle<()>>>,
    events: Arc<dyn VcpuEvents>,
}

impl<R: VcpuRun> VcpuThread<R> {
    pub(crate) fn spawn(
        id: VcpuId,
        incarnation: u64,
        control: ControlWord,
        events: Arc<dyn VcpuEvents>,
        vcpu: R,
    ) -> Result<Arc<Self>, VcpuError> {
        let thread = Arc::new(Self {
            id,
            incarnation,
            control,
            queue: WorkQueue::new(),
            last_exit: LastExitCell::new(),
            kicker: OnceLock::new(),
            thread_id: OnceLock::new(),
            failure: Mutex::new(None),
            vcpu: Mutex::new(Some(vcpu)),
            join: Mutex::new(None),
            events,
        });
        let inside = Arc::clone(&thread);
        let join = Builder::new()
            .name(format!("vcpu{}", id.0))
            .spawn(move || inside.main())
            .map_err(|source| VcpuError::Spawn { id, source })?;
        *lock(&thread.join) = Some(join);
        Ok(thread)
    }

    /// The body of the thread.
    fn main(&self) {
        let vcpu = lock(&self.vcpu).take();
        if let Some(vcpu) = vcpu {
            let (vcpu, by_itself) = worker::run(self, vcpu);
            *lock(&self.vcpu) = Some(vcpu);
            self.queue.close();
            self.control.end();
            if by_itself {
                self.events.vcpu_event(self.id, VcpuEvent::Exited);
            }
        }
    }

    /// Called on the vCPU's thread before its first entry.
    pub(crate) fn attach(&self, kicker: Arc<dyn Kicker>) {
        self.kicker.get_or_init(|| kicker);
        self.thread_id.get_or_init(|| current().id());
    }

    /// Kicks. A vCPU that was seen in the guest has attached its kicker.
    pub(crate) fn kick(&self) {
        if let Some(kicker) = self.kicker.get() {
            kicker.kick();
        }
    }

    pub(crate) fn fail(&self, failure: Failure) {
        *lock(&self.failure) = Some(failure.clone());
        self.control.fail();
        self.events.vcpu_event(self.id, VcpuEvent::Failed(failure));
    }

    /// The vCPU's number.
    pub fn id(&self) -> VcpuId {
        self.id
    }

    /// Differs between two vCPUs that had the same number one after the other. Never used twice in a set.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// What the vCPU does. One atomic load, from any thread, in a signal handler too.
    pub fn state(&self) -> VcpuState {
        self.control.load().state()
    }

    /// The whole control word: state, pauses in force and epoch, of one moment.
    pub fn word(&self) -> Word {
        self.control.load()
    }

    /// The last exit's name, and its port or guest physical address, if any.
    pub fn last_exit(&self) -> Option<(&'static str, Option<u64>)> {
        let LastExit { code, address } = self.last_exit.load()?;
        Some((R::exit_name(code), address))
    }

    /// Why the vCPU reads [`VcpuState::Failed`].
    pub fn failure(&self) -> Option<Failure> {
        lock(&self.failure).clone()
    }

    /// Whether the caller is this vCPU's own thread.
    pub fn is_current(&self) -> bool {
        self.thread_id.get().is_some_and(|id| *id == current().id())
    }

    /// Says that there is something for the guest to take (an interrupt from a user-space controller, say): a halted vCPU
    /// runs on, one in the guest comes out and in again, one outside looks before it enters. Nothing waits.
    pub fn notify(&self) {
        self.control.notify(|| self.kick());
    }

    /// Lets go of this vCPU alone, if its exit handler holds it or is about to.
    pub fn release_hold(&self) {
        self.control.release_hold();
    }

    /// Pauses this vCPU alone, with the same guarantees as [`crate::VcpuSet::pause_all`] gives for all: for a debugger that lets
    /// some vCPUs run and others not. It runs on when this pause and all those of the set have been taken back.
    ///
    /// # Errors
    /// [`VcpuError::OwnThread`], [`VcpuError::TooManyPauses`], and [`VcpuError::Deadline`]: then it runs on.
    pub fn pause(self: &Arc<Self>, deadline: Option<Instant>) -> Result<VcpuPause<R>, PauseError> {
        self.pause_alone(deadline)
    }

    /// Runs `f` on the vCPU's thread and waits for its result: at once if the vCPU is paused, halted, held or failed, else
    /// between two stays in the guest, when no instruction is half done.
    ///
    /// # Errors
    /// [`VcpuError::OwnThread`] on the vCPU's own thread (whoever has the vCPU at hand there calls
    /// [`VcpuThread::run_on_or_here`]), [`VcpuError::Exited`], [`VcpuError::QueueFull`], [`VcpuError::Panicked`], and
    /// [`VcpuError::Deadline`]: then `f` has not run and will not, unless it is what takes so long.
    pub fn run_on<T, F>(&self, deadline: Option<Instant>, f: F) -> Result<T, VcpuError>
    where
        T: Send + 'static,
        F: FnOnce(&mut R) -> T + Send + 'static,
    {
        if self.is_current() {
            return Err(VcpuError::OwnThread(self.id));
        }
        let reply = self.send(f)?;
        self.receive(&reply, deadline)
    }

    /// [`VcpuThread::run_on`] for a caller that may be on this vCPU's thread with the vCPU at hand: then `f` is called directly.
    ///
    /// # Errors
    /// Those of [`VcpuThread::run_on`].
    pub fn run_on_or_here<T, F>(
        &self,
        here: &mut R,
        deadline: Option<Instant>,
        f: F,
    ) -> Result<T, VcpuError>
    where
        T: Send + 'static,
        F: FnOnce(&mut R) -> T + Send + 'static,
    {
        if self.is_current() {
            return Ok(f(here));
        }
        self.run_on(deadline, f)
    }

    /// Has `f` run on the vCPU's thread, and does not wait: legal on every thread, the vCPU's own too (there it runs
    /// after the exit at hand). Closures run in the order in which they were queued. If `f` panics, the vCPU fails.
    ///
    /// # Errors
    /// [`VcpuError::Exited`] and [`VcpuError::QueueFull`].
    pub fn queue_on<F>(&self, f: F) -> Result<(), VcpuError>
    where
        F: FnOnce(&mut R) + Send + 'static,
    {
        self.push(Box::new(f))
    }

    /// Queues `f`; its answer comes through the reply.
    pub(crate) fn send<T, F>(&self, f: F) -> Result<Arc<Reply<T>>, VcpuError>
    where
        T: Send + 'static,
        F: FnOnce(&mut R) -> T + Send + 'static,
    {
        let reply = Reply::new();
        self.push(reply.job(f))?;
        Ok(reply)
    }

    pub(crate) fn receive<T: Send + 'static>(
        &self,
        reply: &Reply<T>,
        deadline: Option<Instant>,
    ) -> Result<T, VcpuError> {
        match reply.wait(deadline) {
            Outcome::Done(value) => Ok(value),
            Outcome::Panicked(failure) => Err(VcpuError::Panicked {
                id: self.id,
                failure,
            }),
            Outcome::Abandoned => Err(VcpuError::Exited(self.id)),
            Outcome::Late => Err(VcpuError::Deadline {
                stuck: vec![self.stuck(self.control.load())],
            }),
        }
    }

    fn push(&self, job: Job<R>) -> Result<(), VcpuError> {
        self.queue.push(job).map_err(|refused| match refused {
            Refused::Closed => VcpuError::Exited(self.id),
            Refused::Full => VcpuError::QueueFull(self.id),
        })?;
        self.control.request_work(|| self.kick());
        Ok(())
    }

    pub(crate) fn stuck(&self, word: Word) -> Stuck {
        Stuck {
            id: self.id,
            incarnation: self.incarnation,
            phase: word.phase(),
            last_exit: self.last_exit(),
        }
    }

    /// Asks the thread to end.
    pub(crate) fn request_exit(&self) {
        self.control.request_exit(|| self.kick());
    }

    /// Waits for the end of the thread, and takes the vCPU back. A second call gets nothing.
    pub(crate) fn finish(&self, deadline: Option<Instant>) -> Result<Option<R>, VcpuError> {
        self.control
            .wait_gone(deadline)
            .map_err(|word| VcpuError::Deadline {
                stuck: vec![self.stuck(word)],
            })?;
        let join = lock(&self.join).take();
        if let Some(join) = join.filter(|_| !self.is_current()) {
            // The thread has said that it ends, and catches every panic of others: there is nothing to wait for.
            drop(join.join());
        }
        Ok(lock(&self.vcpu).take())
    }

    /// Clears the marks of a failure or a halt.
    pub(crate) fn recover(&self) {
        *lock(&self.failure) = None;
        self.control.recover();
    }
}

impl<R: VcpuRun> fmt::Debug for VcpuThread<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcpuThread")
            .field("id", &self.id)
            .field("incarnation", &self.incarnation)
            .field("word", &self.control.load())
            .finish_non_exhaustive()
    }
}
