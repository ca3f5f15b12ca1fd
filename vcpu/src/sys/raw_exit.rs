//! KVM_RUN, with what `kvm_run` says of an exit and kvm-ioctls does not hand on.

use std::slice;

use kvm_bindings::{KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, kvm_run, kvm_xsave};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::kvm::{InternalError, KvmExit};

/// What the first look at an exit found that needs a second look, at `kvm_run`.
enum Seen {
    In {
        port: u16,
        data: *mut u8,
        len: usize,
    },
    Out {
        port: u16,
        data: *const u8,
        len: usize,
    },
    InternalError,
}

/// Enters the guest once, and calls `on` with the exit or with the error of the ioctl.
pub(crate) fn run<T>(
    fd: &mut VcpuFd,
    on: impl FnOnce(Result<KvmExit<'_>, kvm_ioctls::Error>) -> T,
) -> T {
    let seen = match fd.run() {
        Ok(VcpuExit::IoIn(port, data)) => Seen::In {
            port,
            data: data.as_mut_ptr(),
            len: data.len(),
        },
        Ok(VcpuExit::IoOut(port, data)) => Seen::Out {
            port,
            data: data.as_ptr(),
            len: data.len(),
        },
        Ok(VcpuExit::InternalError) => Seen::InternalError,
        Ok(other) => return on(Ok(KvmExit::from_kvm(other))),
        Err(error) => return on(Err(error)),
    };
    let run = fd.get_kvm_run();
    match seen {
        Seen::In { port, data, len } => {
            let size = io_size(run);
            // SAFETY: the bytes lie in the mapping of `fd`, behind the `kvm_run` structure, so they overlap no reference; the kernel
            // writes them during KVM_RUN only, and `fd` is borrowed mutably until `on` returns.
            let data = unsafe { slice::from_raw_parts_mut(data, len) };
            on(Ok(KvmExit::IoIn { port, size, data }))
        }
        Seen::Out { port, data, len } => {
            let size = io_size(run);
            // SAFETY: as above.
            let data = unsafe { slice::from_raw_parts(data, len) };
            on(Ok(KvmExit::IoOut { port, size, data }))
        }
        Seen::InternalError => on(Ok(KvmExit::InternalError(internal_error(run)))),
    }
}

/// The size of one element of a port access: 1, 2 or 4.
fn io_size(run: &kvm_run) -> u8 {
    if run.exit_reason != KVM_EXIT_IO {
        return 1;
    }
    // SAFETY: the exit reason says which member of the union is valid; all of its bytes are plain numbers.
    let io = unsafe { run.__bindgen_anon_1.io };
    io.size.clamp(1, 4)
}

/// The sub-error of KVM_EXIT_INTERNAL_ERROR, and its data.
fn internal_error(run: &kvm_run) -> InternalError {
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return InternalError {
            suberror: 0,
            data: Vec::new(),
        };
    }
    // SAFETY: as in `io_size`.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let valid = usize::try_from(internal.ndata).unwrap_or(0);
    InternalError {
        suberror: internal.suberror,
        data: internal.data.iter().take(valid).copied().collect(),
    }
}

/// KVM_SET_XSAVE with a state that KVM_GET_XSAVE gave.
pub(crate) fn set_xsave(fd: &VcpuFd, xsave: &kvm_xsave) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the kernel reads 4096 bytes, the size of the structure, as long as the process has not asked for
    // dynamically enabled features (AMX) for its guests, which only `arch_prctl` can do; this crate does not.
    unsafe { fd.set_xsave(xsave) }
}
