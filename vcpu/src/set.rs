//! The vCPUs of one VM.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::control::ControlWord;
use crate::error::{Failure, PauseError, VcpuError};
use crate::exclusive::Turnstile;
use crate::pause::PauseGuard;
use crate::run::{VcpuId, VcpuRun};
use crate::sync::{Mutex, lock};
use crate::thread::VcpuThread;
use crate::word::VcpuState;

/// What a vCPU's thread tells the owner of the set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VcpuEvent {
    /// The vCPU cannot go on. It is out of the guest and counts as paused.
    Failed(Failure),
    /// The vCPU's thread has ended because its exit handler said so.
    Exited,
}

/// The owner's ear. Called on the vCPU's thread, after the state changed, without a lock.
///
/// It must not wait for this vCPU: post, and wake the main loop.
pub trait VcpuEvents: Send + Sync + 'static {
    /// Something happened to a vCPU.
    fn vcpu_event(&self, id: VcpuId, event: VcpuEvent);
}

impl<F: Fn(VcpuId, VcpuEvent) + Send + Sync + 'static> VcpuEvents for F {
    fn vcpu_event(&self, id: VcpuId, event: VcpuEvent) {
        self(id, event);
    }
}

/// The vCPUs of one VM. A cheap handle: clones are the same set.
///
/// When the last handle and the last guard are gone, the threads are asked to end, and are not waited for;
/// [`VcpuSet::shutdown`] waits.
pub struct VcpuSet<R: VcpuRun> {
    inner: Arc<SetInner<R>>,
}

pub(crate) struct SetInner<R: VcpuRun> {
    pub(crate) members: Mutex<Members<R>>,
    pub(crate) sections: Turnstile,
    events: Arc<dyn VcpuEvents>,
}

/// What changes together. Locked for short: never over a wait, a callback or a closure.
pub(crate) struct Members<R: VcpuRun> {
    pub(crate) vcpus: Arc<[Arc<VcpuThread<R>>]>,
    /// How many pauses are in force: at most 4095.
    pub(crate) pauses: u16,
    /// An exclusive section is under way.
    pub(crate) exclusive: bool,
    next_incarnation: u64,
}

impl<R: VcpuRun> VcpuSet<R> {
    /// An empty set, not paused: a vCPU runs as soon as it is added.
    pub fn new(events: impl VcpuEvents) -> Self {
        let members = Members {
            vcpus: Arc::from([]),
            pauses: 0,
            exclusive: false,
            next_incarnation: 1,
        };
        Self {
            inner: Arc::new(SetInner {
                members: Mutex::new(members),
                sections: Turnstile::new(),
                events: Arc::new(events),
            }),
        }
    }

    /// An empty set that is paused: the vCPUs that are added run when the guard is resumed.
    pub fn new_paused(events: impl VcpuEvents) -> (Self, PauseGuard<R>) {
        let set = Self::new(events);
        lock(&set.inner.members).pauses = 1;
        let guard = PauseGuard::new(Arc::clone(&set.inner));
        (set, guard)
    }

    /// Adds a vCPU and starts its thread. If the set is paused, the vCPU is born paused.
    ///
    /// # Errors
    /// [`VcpuError::IdInUse`] and [`VcpuError::Spawn`]; `vcpu` is dropped.
    pub fn add(&self, id: VcpuId, vcpu: R) -> Result<Arc<VcpuThread<R>>, VcpuError> {
        let mut members = lock(&self.inner.members);
        if members.vcpus.iter().any(|member| member.id() == id) {
            return Err(VcpuError::IdInUse(id));
        }
        let incarnation = members.next_incarnation;
        members.next_incarnation = incarnation.wrapping_add(1);
        let control = ControlWord::new(members.pauses, members.exclusive);
        let events = Arc::clone(&self.inner.events);
        let thread = VcpuThread::spawn(id, incarnation, control, events, vcpu)?;
        let joined = members
            .vcpus
            .iter()
            .cloned()
            .chain([Arc::clone(&thread)])
            .collect();
        members.vcpus = joined;
        Ok(thread)
    }

    /// Ends a vCPU's thread, and gives the vCPU back. Works whatever it does: running, paused, halted, failed, exited.
    ///
    /// # Errors
    /// [`VcpuError::NoSuchVcpu`], [`VcpuError::OwnThread`], [`VcpuError::Exited`] when another thread removes it too, and
    /// [`VcpuError::Deadline`]: then the vCPU stays in the set and runs on.
    pub fn remove(&self, id: VcpuId, deadline: Option<Instant>) -> Result<R, VcpuError> {
        let vcpu = self.get(id).ok_or(VcpuError::NoSuchVcpu(id))?;
        if vcpu.is_current() {
            return Err(VcpuError::OwnThread(id));
        }
        vcpu.request_exit();
        let taken = vcpu.finish(deadline);
        if taken.is_err() && vcpu.control.cancel_exit() {
            return taken.and(Err(VcpuError::NoSuchVcpu(id)));
        }
        // It has ended: either in time, or just after.
        self.inner.forget(&vcpu);
        let taken = match taken {
            Err(_) => vcpu.finish(None),
            in_time => in_time,
        };
        taken?.ok_or(VcpuError::Exited(id))
    }

    /// The vCPUs, in the order in which they were added.
    pub fn vcpus(&self) -> Arc<[Arc<VcpuThread<R>>]> {
        Arc::clone(&lock(&self.inner.members).vcpus)
    }

    /// One vCPU.
    pub fn get(&self, id: VcpuId) -> Option<Arc<VcpuThread<R>>> {
        lock(&self.inner.members)
            .vcpus
            .iter()
            .find(|vcpu| vcpu.id() == id)
            .cloned()
    }

    /// The vCPU on whose thread the caller runs, if on one.
    pub fn current(&self) -> Option<Arc<VcpuThread<R>>> {
        self.vcpus().iter().find(|vcpu| vcpu.is_current()).cloned()
    }

    /// Whether at least one pause is in force.
    pub fn is_paused(&self) -> bool {
        lock(&self.inner.members).pauses > 0
    }

    /// Pauses all vCPUs. When it returns a guard, every vCPU is out of the guest, has no instruction half done and is
    /// not in an exit handler; or it has exited or failed, and is not waited for. It stays so until the guard is dropped.
    ///
    /// Pauses are counted: one within another costs no kick. Legal on a vCPU's own thread: that vCPU is
    /// excepted, and parks at its next exit if the guard lives on; two vCPUs that pause at the same time except each other.
    ///
    /// Do not call it with a lock that an exit handler may want. `None` waits for ever.
    ///
    /// # Errors
    /// [`VcpuError::Deadline`]: a vCPU did not stop in time. Nothing is paused: all run on. [`VcpuError::TooManyPauses`].
    pub fn pause_all(&self, deadline: Option<Instant>) -> Result<PauseGuard<R>, PauseError> {
        self.inner.pause(deadline)?;
        Ok(PauseGuard::new(Arc::clone(&self.inner)))
    }

    /// Lets go of every vCPU that its exit handler holds, or is about to: for a main loop that drops a request while the VM runs.
    pub fn release_held(&self) {
        for vcpu in self.vcpus().iter() {
            vcpu.control.release_hold();
        }
    }

    /// [`VcpuThread::run_on`] by number.
    ///
    /// # Errors
    /// [`VcpuError::NoSuchVcpu`], and those of [`VcpuThread::run_on`].
    pub fn run_on<T, F>(&self, id: VcpuId, deadline: Option<Instant>, f: F) -> Result<T, VcpuError>
    where
        T: Send + 'static,
        F: FnOnce(&mut R) -> T + Send + 'static,
    {
        self.get(id)
            .ok_or(VcpuError::NoSuchVcpu(id))?
            .run_on(deadline, f)
    }

    /// Runs `f` on every vCPU's thread, all at the same time, and waits for all results.
    pub fn run_on_all<T, F>(
        &self,
        deadline: Option<Instant>,
        f: F,
    ) -> Vec<(VcpuId, Result<T, VcpuError>)>
    where
        T: Send + 'static,
        F: Fn(&mut R) -> T + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let send = |vcpu: &Arc<VcpuThread<R>>| {
            if vcpu.is_current() {
                return Err(VcpuError::OwnThread(vcpu.id()));
            }
            let f = Arc::clone(&f);
            vcpu.send(move |r: &mut R| f(r))
        };
        let vcpus = self.vcpus();
        let replies: Vec<_> = vcpus.iter().map(|vcpu| (vcpu, send(vcpu))).collect();
        replies
            .into_iter()
            .map(|(vcpu, reply)| {
                (
                    vcpu.id(),
                    reply.and_then(|reply| vcpu.receive(&reply, deadline)),
                )
            })
            .collect()
    }

    /// Puts every vCPU that has not exited into its state of power-on, and revives those that failed or halted. The set must be
    /// paused, so that they run only when everything else is reset too.
    ///
    /// # Errors
    /// [`VcpuError::NotPaused`]; [`VcpuError::Registers`] and those of [`VcpuThread::run_on`] for the first vCPU that
    /// could not be reset: the others were, as far as they could.
    pub fn reset_all(&self, deadline: Option<Instant>) -> Result<(), VcpuError> {
        if !self.is_paused() {
            return Err(VcpuError::NotPaused);
        }
        let mut first = Ok(());
        for (id, outcome) in self.run_on_all(deadline, |vcpu| vcpu.reset()) {
            let outcome = match outcome {
                Ok(Ok(())) => {
                    if let Some(vcpu) = self.get(id) {
                        vcpu.recover();
                    }
                    Ok(())
                }
                Ok(Err(error)) => Err(VcpuError::Registers {
                    id,
                    message: error.to_string(),
                }),
                Err(VcpuError::Exited(_)) => Ok(()),
                Err(error) => Err(error),
            };
            first = first.and(outcome);
        }
        first
    }

    /// Runs `f` while no vCPU executes guest code (the caller's own aside, which is in its exit handler). Unlike a pause it does not
    /// wait for exit handlers, which go on beside `f`, so it is legal in one. Sections take turns.
    ///
    /// # Errors
    /// [`VcpuError::Deadline`]: a vCPU did not leave the guest in time, or the section before did not end: then no vCPU is named. `f`
    /// was not called.
    pub fn exclusive<T>(
        &self,
        deadline: Option<Instant>,
        f: impl FnOnce() -> T,
    ) -> Result<T, VcpuError> {
        self.inner.run_exclusive(deadline, f)
    }

    /// Ends every thread and drops the vCPUs. Works from every state; a vCPU's own thread cannot call it.
    ///
    /// # Errors
    /// [`VcpuError::OwnThread`]; [`VcpuError::Deadline`] with those that did not end: they stay in the set and end when they can.
    pub fn shutdown(&self, deadline: Option<Instant>) -> Result<(), VcpuError> {
        let vcpus = self.vcpus();
        if let Some(own) = vcpus.iter().find(|vcpu| vcpu.is_current()) {
            return Err(VcpuError::OwnThread(own.id()));
        }
        for vcpu in vcpus.iter() {
            vcpu.request_exit();
        }
        let mut left = Vec::new();
        for vcpu in vcpus.iter() {
            match vcpu.finish(deadline) {
                Ok(ended) => {
                    drop(ended);
                    self.inner.forget(vcpu);
                }
                Err(VcpuError::Deadline { stuck }) => left.extend(stuck),
                Err(other) => return Err(other),
            }
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(VcpuError::Deadline { stuck: left })
        }
    }

    /// The number and the state of each vCPU.
    pub fn states(&self) -> Vec<(VcpuId, VcpuState)> {
        self.vcpus()
            .iter()
            .map(|vcpu| (vcpu.id(), vcpu.state()))
            .collect()
    }
}

impl<R: VcpuRun> SetInner<R> {
    fn forget(&self, gone: &Arc<VcpuThread<R>>) {
        let mut members = lock(&self.members);
        let left = members
            .vcpus
            .iter()
            .filter(|vcpu| !Arc::ptr_eq(vcpu, gone))
            .cloned()
            .collect();
        members.vcpus = left;
    }
}

impl<R: VcpuRun> Drop for SetInner<R> {
    fn drop(&mut self) {
        for vcpu in lock(&self.members).vcpus.iter() {
            vcpu.request_exit();
        }
    }
}

impl<R: VcpuRun> Clone for VcpuSet<R> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<R: VcpuRun> fmt::Debug for VcpuSet<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VcpuSet")
            .field("vcpus", &self.vcpus())
            .finish_non_exhaustive()
    }
}
