//! What a vCPU's exits become: accesses on the bus, requests to the lifecycle, failures.
//!
//! | exit | becomes |
//! |---|---|
//! | port or MMIO access | an access on the bus |
//! | shutdown (triple fault) | [`GuestExit::TripleFault`] |
//! | system event 1, 2, 3 | [`GuestExit::Shutdown`], [`GuestExit::Reset`], [`GuestExit::Crash`] |
//! | debug | told to [`GuestEvents::debug`], and the vCPU holds |
//! | anything else | the vCPU fails, and its owner is told why |
//!
//! The rule that must never be broken: a handler posts and returns. It waits for nobody, and a
//! vCPU whose request says so runs no further instruction until the main loop has answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::{Bus, PowerRequest, PowerSink, WakeupReason};
use vcpu::kvm::{ExitHandler, KvmExit};
use vcpu::{Control, VcpuId};

use super::board::Board;
use super::memory::Regions;

/// `KVM_SYSTEM_EVENT_*`.
const EVENT_SHUTDOWN: u32 = 1;
const EVENT_RESET: u32 = 2;
const EVENT_CRASH: u32 = 3;

/// What a vCPU itself asks of the lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestExit {
    /// A triple fault: a PC resets.
    TripleFault,
    /// The guest powers off.
    Shutdown,
    /// The guest resets.
    Reset,
    /// The guest has crashed, and left this in Hyper-V's five crash registers, if it has them.
    Crash(Option<[u64; 5]>),
}

impl GuestExit {
    /// What an exit asks for. `None`: nothing, and a vCPU cannot go on after it unless it is an
    /// access.
    pub(crate) const fn of(exit: &KvmExit<'_>) -> Option<Self> {
        match exit {
            KvmExit::Shutdown => Some(Self::TripleFault),
            KvmExit::SystemEvent { kind, .. } => match *kind {
                EVENT_SHUTDOWN => Some(Self::Shutdown),
                EVENT_RESET => Some(Self::Reset),
                EVENT_CRASH => Some(Self::Crash(None)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether the vCPU that made a request runs on before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onward {
    /// It runs on.
    Run,
    /// It executes no further instruction until the next resume.
    Hold,
}

/// Where what happens in the guest goes: devices' requests and vCPUs' exits. Called on vCPU
/// threads, and `power` on the main loop's when a timer of a device is due; must not block.
pub(crate) trait GuestEvents: Send + Sync {
    /// A device asks for something.
    fn power(&self, request: PowerRequest) -> Onward;
    /// A vCPU itself asks for something.
    fn vcpu_exit(&self, cpu: VcpuId, exit: GuestExit) -> Onward;
    /// A guest says whether `reason` may wake it.
    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool);
    /// A vCPU has come to a breakpoint, a watchpoint or the end of a step, and holds. `false` if
    /// nobody debugs the guest: that is a failure.
    fn debug(&self, _cpu: VcpuId, _hit: DebugHit) -> bool {
        false
    }
}

/// Where and why a vCPU stopped for its debugger: `KVM_EXIT_DEBUG`.
pub(crate) type DebugHit = kvm_bindings::kvm_debug_exit_arch;

/// Between the devices and [`GuestEvents`]: counts the requests after which a vCPU must hold.
///
/// A device cannot tell its caller, so a vCPU compares the count before and after an access. When
/// two vCPUs access devices at the same time and one resets the machine, both may hold: that is
/// harmless, since the answer to a request releases all of them.
pub(crate) struct HoldGate {
    events: Arc<dyn GuestEvents>,
    holds: AtomicU64,
}

impl HoldGate {
    /// A gate before `events`.
    pub(crate) fn new(events: Arc<dyn GuestEvents>) -> Self {
        Self {
            events,
            holds: AtomicU64::new(0),
        }
    }
}

impl PowerSink for HoldGate {
    fn power(&self, request: PowerRequest) {
        if self.events.power(request) == Onward::Hold {
            self.holds.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn enable_wakeup(&self, reason: WakeupReason, enabled: bool) {
        self.events.enable_wakeup(reason, enabled);
    }
}

/// Handles the exits of one vCPU, on its thread.
pub(crate) struct Handler {
    id: VcpuId,
    pio: Arc<Bus>,
    mmio: Arc<Bus>,
    gate: Arc<HoldGate>,
    /// The guest has crashed, and nobody has been told.
    crashed: bool,
    /// Never accessed: the guest's memory stays mapped as long as a vCPU can touch it.
    _memory: Regions,
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handler")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// A handler for the vCPU `id`, whose guest has this memory.
    pub(crate) fn new(id: VcpuId, board: &Board, gate: Arc<HoldGate>, memory: Regions) -> Self {
        let (pio, mmio) = (Arc::clone(board.pio()), Arc::clone(board.mmio()));
        Self {
            id,
            pio,
            mmio,
            gate,
            crashed: false,
            _memory: memory,
        }
    }

    /// Whether the last exit was a crash. Then [`tell_crash`](Self::tell_crash) follows: what the
    /// guest said of it is in registers, which are read when the exit is over.
    pub(crate) fn take_crash(&mut self) -> bool {
        std::mem::take(&mut self.crashed)
    }

    /// Posts the crash.
    pub(crate) fn tell_crash(&self, registers: Option<[u64; 5]>) -> Control {
        self.ask(GuestExit::Crash(registers))
    }

    /// Makes an access, and holds the vCPU if it was its last for now.
    fn access(&self, access: impl FnOnce(&Self)) -> Control {
        let before = self.gate.holds.load(Ordering::Relaxed);
        access(self);
        if self.gate.holds.load(Ordering::Relaxed) == before {
            Control::Continue
        } else {
            Control::Hold
        }
    }

    /// Posts what the vCPU asks for.
    fn ask(&self, exit: GuestExit) -> Control {
        match self.gate.events.vcpu_exit(self.id, exit) {
            Onward::Run => Control::Continue,
            Onward::Hold => Control::Hold,
        }
    }
}

impl ExitHandler for Handler {
    fn exit(&mut self, exit: KvmExit<'_>) -> Control {
        match exit {
            KvmExit::IoIn { port, size, data } => self.access(|this| {
                for element in data.chunks_mut(usize::from(size).max(1)) {
                    this.pio.read(port.into(), element);
                }
            }),
            KvmExit::IoOut { port, size, data } => self.access(|this| {
                for element in data.chunks(usize::from(size).max(1)) {
                    this.pio.write(port.into(), element);
                }
            }),
            KvmExit::MmioRead { address, data } => {
                self.access(|this| this.mmio.read(address, data))
            }
            KvmExit::MmioWrite { address, data } => {
                self.access(|this| this.mmio.write(address, data))
            }
            KvmExit::Debug(hit) if self.gate.events.debug(self.id, hit) => Control::Hold,
            other => match GuestExit::of(&other) {
                Some(GuestExit::Crash(_)) => {
                    self.crashed = true;
                    Control::Continue
                }
                Some(asked) => self.ask(asked),
                None => Control::Failed(other.failure()),
            },
        }
    }
}
