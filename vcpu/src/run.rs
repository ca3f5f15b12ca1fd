//! What this crate asks of a vCPU: the trait that a hypervisor's vCPU implements, and the values that
//! pass between it and its thread.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::control::ControlWord;
use crate::error::Failure;
use crate::sync::{AtomicU64, Ordering};

/// The number of a vCPU within its set, as the guest's topology counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u32);

impl fmt::Display for VcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {}", self.0)
    }
}

/// What a vCPU's thread does after an exit: the exit handler's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Enter the guest again.
    Continue,
    /// Run no further guest instruction until the next resume. For an exit whose request the main loop must serve
    /// first (a write to a reset port, say): post the request, then answer this. If the main loop has already released
    /// this vCPU since the exit, there is nothing left to hold for, and it runs on.
    Hold,
    /// The guest halted the vCPU: sleep until [`crate::VcpuThread::notify`]. An event that came since the vCPU set
    /// out for the guest is not lost: then it does not sleep.
    Halted,
    /// The vCPU is done for good. Its thread ends.
    Exited,
    /// The vCPU cannot go on. The owner is told ([`crate::VcpuEvents`]); the thread stays and serves `run_on`.
    Failed(Failure),
}

/// Gets a vCPU out of the guest. Shared with every thread that may kick.
///
/// Both methods are called without a lock of this crate, must not block, and must not panic.
pub trait Kicker: Send + Sync {
    /// Makes the vCPU's entry, the one that is under way or else the next one, return at once.
    ///
    /// For KVM: `immediate_exit = 1`, then a signal to the thread, in this order.
    fn kick(&self);

    /// Forgets the kicks so far. Called on the vCPU's thread before it looks at its requests.
    ///
    /// For KVM: `immediate_exit = 0`.
    fn rearm(&self);
}

/// A vCPU: something that can run until it exits.
///
/// It is owned by its thread. All methods are called there and may block only as long as a pause
/// may have to wait; [`VcpuRun::run`] may block in the guest, from where the kicker gets it out.
pub trait VcpuRun: Send + 'static {
    /// All registers, as [`VcpuRun::save`] gives them.
    type State: Send + 'static;
    /// Why registers could not be read or written.
    type Error: Error + Send + Sync + 'static;

    /// The means to get this vCPU out of the guest. Called once, on the vCPU's own thread, before anything
    /// else: the place to note which thread to signal.
    fn kicker(&mut self) -> Arc<dyn Kicker>;

    /// Enters the guest, and handles the exit.
    ///
    /// Call [`Entry::left`] as soon as the guest is left and before the exit is handled: from then on the thread is
    /// not signalled, and exclusive sections do not wait for it. An entry that was cut short by a kick is no
    /// exit: return [`Control::Continue`].
    fn run(&mut self, entry: &mut Entry<'_>) -> Control;

    /// Completes the instruction that the last exit left half done, without running another. Called before the vCPU
    /// counts as paused or held and before `run_on` closures. Without such a hypervisor: do nothing.
    ///
    /// For KVM: `KVM_RUN` with `immediate_exit` set, until it returns `EINTR`.
    fn complete(&mut self) -> Control {
        Control::Continue
    }

    /// Reads all registers.
    ///
    /// # Errors
    /// Those of the hypervisor.
    fn save(&mut self) -> Result<Self::State, Self::Error>;

    /// Writes all registers.
    ///
    /// # Errors
    /// Those of the hypervisor. Some registers may have been written.
    fn restore(&mut self, state: &Self::State) -> Result<(), Self::Error>;

    /// Puts the registers into the state of power-on.
    ///
    /// # Errors
    /// Those of the hypervisor. Some registers may have been written.
    fn reset(&mut self) -> Result<(), Self::Error>;

    /// A name for the code of a [`LastExit`], for messages.
    #[must_use]
    fn exit_name(_code: u16) -> &'static str
    where
        Self: Sized,
    {
        "exit"
    }
}

/// One stay in the guest, seen from inside [`VcpuRun::run`].
#[derive(Debug)]
pub struct Entry<'a> {
    control: &'a ControlWord,
    last_exit: &'a LastExitCell,
    id: VcpuId,
    inside: bool,
    exited: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn new(control: &'a ControlWord, last_exit: &'a LastExitCell, id: VcpuId) -> Self {
        Self {
            control,
            last_exit,
            id,
            inside: true,
            exited: false,
        }
    }

    /// The vCPU that runs.
    #[must_use]
    pub fn id(&self) -> VcpuId {
        self.id
    }

    /// Says that the guest is left, by which exit: `None` when a kick cut the entry short. Only the first call counts.
    pub fn left(&mut self, exit: Option<LastExit>) {
        if !self.inside {
            return;
        }
        self.inside = false;
        if let Some(exit) = exit {
            self.last_exit.store(exit);
            self.exited = true;
        }
        self.control.leave();
    }

    /// Whether there was an exit. After an entry that was cut short, no instruction is half done.
    pub(crate) fn has_exited(&self) -> bool {
        self.exited
    }
}

/// What a vCPU did last, for the message that names it when it is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LastExit {
    /// The exit's code, as [`VcpuRun::exit_name`] knows it. 0 to 4095; larger ones are cut.
    pub code: u16,
    /// The port or the guest physical address, if the exit has one: its low 51 bits.
    pub address: Option<u64>,
}

/// A [`LastExit`] in one atomic: bit 63 "there was an exit", bits 51 to 62 the code, bit 0 to 50 the address plus one.
#[derive(Debug)]
pub(crate) struct LastExitCell(AtomicU64);

impl LastExitCell {
    const ADDRESS_BITS: u32 = 51;
    const ADDRESS: u64 = (1 << Self::ADDRESS_BITS) - 1;
    const VALID: u64 = 1 << 63;

    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    fn store(&self, exit: LastExit) {
        let code = u64::from(exit.code & 0xfff) << Self::ADDRESS_BITS;
        let address = exit
            .address
            .map_or(0, |at| (at & Self::ADDRESS).saturating_add(1));
        let bits = Self::VALID | code | address.min(Self::ADDRESS);
        self.0.store(bits, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> Option<LastExit> {
        let bits = self.0.load(Ordering::Relaxed);
        if bits & Self::VALID == 0 {
            return None;
        }
        let code = ((bits >> Self::ADDRESS_BITS) & 0xfff) as u16;
        Some(LastExit {
            code,
            address: (bits & Self::ADDRESS).checked_sub(1),
        })
    }
}
