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
/// `mov es:[0], al; inc word [COUNTER]; jmp`: nothing is at `es:0`.
const MMIO_STORM: &[u8] = &[0x26, 0xa2, 0x00, 0x00, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xf6];
/// `hlt; jmp`.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];

/// So many rounds, or as many times that as `VCPU_SOAK` says: a lost kick of the classic kind needs a million to be found.
fn rounds(count: u32) -> u32 {
    let factor = std::env::var("VCPU_SOAK").map_or(1, |text| text.parse().expect("a number"));
    count.saturating_mul(factor)
}

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
