//! A guest of fourteen bytes on `/dev/kvm`: it prints its letters, asks for a reset, and does it all again after the reset.
#![expect(unsafe_code, reason = "guest memory is registered with KVM")]

use std::error::Error;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::Kvm;
use vcpu::kvm::{KvmExit, KvmVcpu};
use vcpu::{Control, VcpuId, VcpuSet};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const START: u64 = 0x1000;
const MEMORY: usize = 0x1_0000;

/// ```text
///     mov dx, 0x3f8
///     mov al, 'H'
///     out dx, al
///     mov al, 'i'
///     out dx, al
///     mov al, 0xfe
///     out 0x64, al    ; reset, please
///     jmp $           ; not reached
/// ```
const CODE: &[u8] = &[
    0xba, 0xf8, 0x03, 0xb0, b'H', 0xee, 0xb0, b'i', 0xee, 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe,
];

fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(5))
}

fn main() -> Result<(), Box<dyn Error>> {
    let kvm = Kvm::new().map_err(|error| format!("cannot open /dev/kvm: {error}"))?;
    let vm = kvm.create_vm()?;
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), MEMORY)])?;
    memory.write_slice(CODE, GuestAddress(START))?;
    let region = kvm_userspace_memory_region {
        memory_size: MEMORY.try_into()?,
        userspace_addr: u64::try_from(memory.get_host_address(GuestAddress(0))?.addr())?,
        ..Default::default()
    };
    // SAFETY: the memory outlives the vCPU's thread, which is shut down at the end of this function.
    unsafe { vm.set_user_memory_region(region) }?;

    let fd = vm.create_vcpu(0)?;
    let mut sregs = fd.get_sregs()?;
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    fd.set_sregs(&sregs)?;
    let mut regs = fd.get_regs()?;
    (regs.rip, regs.rflags) = (START, 2);
    fd.set_regs(&regs)?;

    let (post, main_loop) = mpsc::channel();
    let handler = move |exit: KvmExit<'_>| match exit {
        KvmExit::IoOut {
            port: 0x3f8, data, ..
        } => {
            print!("{}", String::from_utf8_lossy(data));
            Control::Continue
        }
        KvmExit::IoOut {
            port: 0x64,
            data: [0xfe],
            ..
        } => {
            post.send(()).ok();
            Control::Hold
        }
        other => Control::Failed(other.failure()),
    };
    let msrs = kvm.get_msr_index_list()?.as_slice().to_vec();
    let mut vcpu = KvmVcpu::new(fd, vm.run_size(), msrs, handler)?;
    vcpu.keep_reset_state()?;

    let (set, initial) = VcpuSet::new_paused(|id, event| eprintln!("{id}: {event:?}"));
    set.add(VcpuId(0), vcpu)?;
    initial.resume();
    for boot in 1..=3 {
        main_loop.recv_timeout(Duration::from_secs(5))?;
        let guard = set.pause_all(soon())?;
        let regs = set.run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_regs())??;
        println!(" from boot {boot}; reset at rip {:#x}", regs.rip);
        set.reset_all(soon())?;
        guard.resume();
    }
    set.shutdown(soon())?;
    Ok(())
}
