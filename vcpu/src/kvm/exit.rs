//! The exits of a KVM vCPU, as its handler sees them.

use std::fmt;

use kvm_bindings::kvm_debug_exit_arch;
use kvm_ioctls::VcpuExit;

use crate::error::Failure;
use crate::run::LastExit;

/// One exit. The data of reads is to be filled in; it reaches the guest when the instruction is completed, which the vCPU's
/// thread sees to, whatever the handler answers.
#[derive(Debug)]
#[non_exhaustive]
pub enum KvmExit<'a> {
    /// The guest reads a port. `data` holds one element of `size` bytes (1, 2 or 4), or several for a string
    /// instruction: `data.chunks_mut(size.into())` are the accesses, in order.
    IoIn {
        /// The port.
        port: u16,
        /// The width of one access, in bytes.
        size: u8,
        /// To be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes a port; `data` as for reads.
    IoOut {
        /// The port.
        port: u16,
        /// The width of one access, in bytes.
        size: u8,
        /// What it writes.
        data: &'a [u8],
    },
    /// The guest reads where there is no memory: 1 to 8 bytes.
    MmioRead {
        /// The guest physical address.
        address: u64,
        /// To be filled in.
        data: &'a mut [u8],
    },
    /// The guest writes where there is no memory: 1 to 8 bytes.
    MmioWrite {
        /// The guest physical address.
        address: u64,
        /// What it writes.
        data: &'a [u8],
    },
    /// HLT, when the interrupt controller is not in the kernel.
    Hlt,
    /// Triple fault. Some KVMs report one as [`KvmExit::InternalError`] instead.
    Shutdown,
    /// KVM_EXIT_SYSTEM_EVENT.
    SystemEvent {
        /// KVM_SYSTEM_EVENT_SHUTDOWN (1), RESET (2), CRASH (3)...
        kind: u32,
        /// What comes with it.
        data: &'a [u64],
    },
    /// KVM cannot go on: an instruction that it cannot emulate, for one.
    InternalError(InternalError),
    /// The hardware refused to enter the guest.
    FailEntry {
        /// The hardware's reason.
        reason: u64,
        /// The host CPU.
        cpu: u32,
    },
    /// A breakpoint or a single step.
    Debug(kvm_debug_exit_arch),
    /// Every other exit, as kvm-ioctls gives it.
    Other(VcpuExit<'a>),
}

/// KVM_EXIT_INTERNAL_ERROR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalError {
    /// KVM_INTERNAL_ERROR_EMULATION (1), SIMUL_EX (2), DELIVERY_EV (3), UNEXPECTED_EXIT_REASON (4).
    pub suberror: u32,
    /// At most 16 numbers; their meaning depends on the sub-error.
    pub data: Vec<u64>,
}

impl fmt::Display for InternalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match self.suberror {
            1 => " (instruction emulation failed)",
            2 => " (exceptions at the same time)",
            3 => " (fault while delivering an event)",
            4 => " (unexpected exit reason)",
            _ => "",
        };
        write!(f, "KVM internal error, suberror {}{meaning}", self.suberror)?;
        if !self.data.is_empty() {
            write!(f, ", data {:#x?}", self.data)?;
        }
        Ok(())
    }
}

impl<'a> KvmExit<'a> {
    pub(crate) fn from_kvm(exit: VcpuExit<'a>) -> Self {
        match exit {
            VcpuExit::MmioRead(address, data) => Self::MmioRead { address, data },
            VcpuExit::MmioWrite(address, data) => Self::MmioWrite { address, data },
            VcpuExit::Hlt => Self::Hlt,
            VcpuExit::Shutdown => Self::Shutdown,
            VcpuExit::SystemEvent(kind, data) => Self::SystemEvent { kind, data },
            VcpuExit::FailEntry(reason, cpu) => Self::FailEntry { reason, cpu },
            VcpuExit::Debug(debug) => Self::Debug(debug),
            other => Self::Other(other),
        }
    }

    /// The number of the exit and its address, for the report of a stuck vCPU.
    pub(crate) fn last_exit(&self) -> LastExit {
        use kvm_bindings as kvm;
        let (code, address) = match self {
            Self::IoIn { port, .. } | Self::IoOut { port, .. } => {
                (kvm::KVM_EXIT_IO, Some(u64::from(*port)))
            }
            Self::MmioRead { address, .. } | Self::MmioWrite { address, .. } => {
                (kvm::KVM_EXIT_MMIO, Some(*address))
            }
            Self::Hlt => (kvm::KVM_EXIT_HLT, None),
            Self::Shutdown => (kvm::KVM_EXIT_SHUTDOWN, None),
            Self::SystemEvent { .. } => (kvm::KVM_EXIT_SYSTEM_EVENT, None),
            Self::InternalError(_) => (kvm::KVM_EXIT_INTERNAL_ERROR, None),
            Self::FailEntry { .. } => (kvm::KVM_EXIT_FAIL_ENTRY, None),
            Self::Debug(_) => (kvm::KVM_EXIT_DEBUG, None),
            Self::Other(_) => (OTHER.into(), None),
        };
        LastExit {
            code: code.try_into().unwrap_or(OTHER),
            address,
        }
    }

    /// What to fail with when the handler has no use for this exit.
    #[must_use]
    pub fn failure(&self) -> Failure {
        Failure::run(match self {
            Self::InternalError(error) => error.to_string(),
            Self::FailEntry { reason, cpu } => {
                format!("KVM entry failed on host CPU {cpu}, hardware error {reason:#x}")
            }
            Self::Other(VcpuExit::Unsupported(reason)) => {
                format!("unknown KVM exit reason {reason}")
            }
            other => format!("unhandled KVM exit {other:?}"),
        })
    }
}

/// The code of [`KvmExit::Other`].
const OTHER: u16 = 0xfff;

/// The names of the codes.
pub(crate) fn name(code: u16) -> &'static str {
    use kvm_bindings as kvm;
    match u32::from(code) {
        kvm::KVM_EXIT_IO => "port access",
        kvm::KVM_EXIT_MMIO => "MMIO access",
        kvm::KVM_EXIT_HLT => "HLT",
        kvm::KVM_EXIT_SHUTDOWN => "shutdown",
        kvm::KVM_EXIT_SYSTEM_EVENT => "system event",
        kvm::KVM_EXIT_INTERNAL_ERROR => "internal error",
        kvm::KVM_EXIT_FAIL_ENTRY => "failed entry",
        kvm::KVM_EXIT_DEBUG => "debug",
        _ => "other exit",
    }
}
