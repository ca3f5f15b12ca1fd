//! The first page of a KVM vCPU's run area, mapped a second time for one purpose: `immediate_exit`.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_bindings::kvm_run;

/// `immediate_exit` of one vCPU, for every thread. The mapping is our own: it stays while anybody may kick, even when the vCPU's
/// descriptor is closed, and no reference to a `kvm_run` is ever made through it.
#[derive(Debug)]
pub(crate) struct RunPage {
    page: NonNull<u8>,
    size: usize,
}

// SAFETY: the only access is to one byte, through an atomic; unmapping needs the owned value.
unsafe impl Send for RunPage {}
// SAFETY: as above: `&RunPage` gives atomic access only.
unsafe impl Sync for RunPage {}

impl RunPage {
    /// Maps `size` bytes (KVM_GET_VCPU_MMAP_SIZE) of the vCPU behind `fd`.
    pub(crate) fn map(fd: &impl AsRawFd, size: usize) -> io::Result<Self> {
        if size < size_of::<kvm_run>() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a run area of {size} bytes cannot hold a kvm_run"),
            ));
        }
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, fd.as_raw_fd(), 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { page, size })
    }

    /// Sets or clears the byte. The kernel reads it at each KVM_RUN.
    pub(crate) fn set_immediate_exit(&self, exit: bool) {
        let byte = self
            .page
            .as_ptr()
            .wrapping_add(offset_of!(kvm_run, immediate_exit));
        // SAFETY: the offset lies within the mapping, which lives as long as `self`; a u8 is always aligned. In this
        // process the byte is touched only through such atomics (`VcpuFd::set_kvm_immediate_exit` is never called).
        let byte = unsafe { AtomicU8::from_ptr(byte) };
        byte.store(u8::from(exit), Ordering::Release);
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, unmapped once; no reference into it outlives a method.
        unsafe { libc::munmap(self.page.as_ptr().cast(), self.size) };
    }
}
