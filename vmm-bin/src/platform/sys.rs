//! The platform's only unsafe code: the system interfaces that have no safe wrapper.
//!
//! The rule that must never be broken: nothing here decides anything; a function checks what its
//! safety needs, makes one call and hands the result back.

#![expect(
    unsafe_code,
    reason = "system interfaces without a safe wrapper are called here alone"
)]

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use kvm_bindings::{KVM_IRQ_ROUTING_IRQCHIP, KVMIO, kvm_irq_routing_irqchip};
use kvm_bindings::{KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_userspace_memory_region};
use kvm_bindings::{kvm_device_attr, kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use vm_memory::{GuestMemoryRegion, MemoryRegionAddress};
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

use super::memory::Region;

ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);
ioctl_iow_nr!(KVM_GET_DEVICE_ATTR, KVMIO, 0xe2, kvm_device_attr);

/// KVM, by its opened device. What is not that device answers no request of KVM's.
pub(crate) fn kvm(device: OwnedFd) -> Kvm {
    // SAFETY: the descriptor is open, and nobody else owns it.
    unsafe { Kvm::from_raw_fd(device.into_raw_fd()) }
}

/// Makes `region` the VM's memory slot `slot`.
///
/// # Errors
/// What KVM says, and `EINVAL` when the region is not in this process's memory.
pub(crate) fn set_memory_slot(
    vm: &VmFd,
    slot: u32,
    region: &Region,
    flags: u32,
) -> Result<(), kvm_ioctls::Error> {
    let host = region
        .get_host_address(MemoryRegionAddress(0))
        .map_err(|_| kvm_ioctls::Error::new(libc::EINVAL))?;
    let slot = kvm_userspace_memory_region {
        slot,
        flags,
        guest_phys_addr: vm_memory::Address::raw_value(&region.start_addr()),
        memory_size: region.len(),
        userspace_addr: host.addr() as u64,
    };
    // SAFETY: the range is one live mapping of exactly this length. Only a vCPU that runs accesses
    // it, and each vCPU's handler owns a share of the mapping (`vcpu_run::Handler`), which goes
    // after the vCPU's descriptor: no guest can reach the addresses once they mean something else.
    unsafe { vm.set_user_memory_region(slot) }
}

/// What the kernel is told about a range of guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Use huge pages where they fit.
    HugePage,
    /// Take the pages back: a private mapping reads as zeroes from now on.
    DontNeed,
    /// Take the pages back, and out of the file: a shared mapping reads as zeroes from now on.
    Remove,
}

/// Gives the kernel advice on `length` bytes of `region`, from `offset` on.
///
/// # Errors
/// What `madvise` says, and `InvalidInput` when the range is not in the region.
pub(crate) fn advise(region: &Region, offset: u64, length: u64, advice: Advice) -> io::Result<()> {
    let advice = match advice {
        Advice::HugePage => libc::MADV_HUGEPAGE,
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::Remove => libc::MADV_REMOVE,
    };
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let range = region
        .get_slice(MemoryRegionAddress(offset), length)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let host = range.ptr_guard_mut();
    // SAFETY: the range lies in one live mapping that belongs to `region`, and guest memory is only
    // ever accessed by volatile means, so that its content may change.
    let result = unsafe { libc::madvise(host.as_ptr().cast(), length, advice) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// An interrupt route from `gsi` to a pin of one of KVM's interrupt controllers.
pub(crate) fn irqchip_route(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            irqchip: kvm_irq_routing_irqchip { irqchip, pin },
        },
        ..Default::default()
    }
}

/// The address of `value` in a device attribute that is used before `value` goes away.
fn tsc_offset_attr(value: &mut u64) -> kvm_device_attr {
    kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: u64::from(KVM_VCPU_TSC_OFFSET),
        addr: std::ptr::from_mut(value).addr() as u64,
    }
}

/// What KVM adds to the host's TSC to make this vCPU's.
///
/// # Errors
/// What KVM says; `ENXIO` or `ENOTTY` before Linux 5.16.
pub(crate) fn tsc_offset(vcpu: &VcpuFd) -> io::Result<u64> {
    let mut offset = 0;
    let attr = tsc_offset_attr(&mut offset);
    // SAFETY: the kernel reads the structure and writes 8 bytes at its `addr`, which is `offset`.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_GET_DEVICE_ATTR(), &attr) };
    if result == 0 {
        Ok(offset)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets what [`tsc_offset`] reads.
///
/// # Errors
/// What KVM says.
pub(crate) fn set_tsc_offset(vcpu: &VcpuFd, offset: u64) -> io::Result<()> {
    let mut offset = offset;
    let attr = tsc_offset_attr(&mut offset);
    // SAFETY: the kernel reads the structure and 8 bytes at its `addr`, which is `offset`.
    let result = unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attr) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// By how many seconds the local time of this process (`TZ`, or `/etc/localtime`) is ahead of UTC at a
/// time in seconds since 1970. `None`: the year is out of range.
pub(crate) fn local_ahead(time: i64) -> Option<i64> {
    // SAFETY: all zeroes is a valid `tm`; its one pointer may be null.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type. It reads the environment, which
    // nothing in this program ever changes.
    let result = unsafe { libc::localtime_r(&raw const time, &raw mut local) };
    (!result.is_null()).then_some(local.tm_gmtoff)
}

/// The host's time-stamp counter.
pub(crate) fn host_tsc() -> u64 {
    // SAFETY: every x86_64 processor has RDTSC, and Linux does not forbid it to processes by
    // default; one that was forbidden it (PR_SET_TSC) gets a signal, not undefined behaviour.
    unsafe { std::arch::x86_64::_rdtsc() }
}
