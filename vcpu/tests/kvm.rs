//! Real vCPUs. The guests are 16-bit code, which every KVM runs.
//!
//! Where `/dev/kvm` exists, these tests must pass; where it does not, each says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by unwrapping"
)]
#![expect(
    unsafe_code,
    reason = "guest memory is registered and signals are sent"
)]

/// The test's machine, or `return` where there is no KVM.
macro_rules! machine {
    ($irqchip:expr) => {
        match crate::real_guest::Machine::new($irqchip) {
            Some(machine) => machine,
            None => {
                eprintln!("SKIPPED: there is no /dev/kvm on this machine");
                return;
            }
        }
    };
}

#[path = "kvm/exits.rs"]
mod exits;
#[path = "kvm/pauses.rs"]
mod pauses;
#[expect(dead_code, reason = "the benchmark uses all of it")]
mod real_guest;
#[path = "kvm/registers.rs"]
mod registers;

use vcpu::Control;
use vcpu::kvm::KvmExit;

/// `inc word [COUNTER]; jmp`.
const SPIN: &[u8] = &[0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa];
/// `out 0x80, al; inc word [COUNTER]; jmp`.
const PIO_STORM: &[u8] = &[0xe6, 0x80, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xf8];
/// `hlt; jmp`.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];

fn quiet(exit: KvmExit<'_>) -> Control {
    match exit {
        KvmExit::IoIn { data, .. } | KvmExit::MmioRead { data, .. } => {
            data.fill(0xff);
            Control::Continue
        }
        KvmExit::IoOut { .. } | KvmExit::MmioWrite { .. } => Control::Continue,
        other => Control::Failed(other.failure()),
    }
}
