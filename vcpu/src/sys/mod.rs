//! Every `unsafe` block of this crate: futex, kick signal, and the run page of a KVM vCPU.
#![cfg_attr(
    any(feature = "kvm", not(any(loom, shuttle))),
    expect(
        unsafe_code,
        reason = "the one module that talks to the kernel without a safe wrapper"
    )
)]

#[cfg(not(any(loom, shuttle)))]
mod futex;
#[cfg(feature = "kvm")]
mod raw_exit;
#[cfg(feature = "kvm")]
mod run_page;
#[cfg(feature = "kvm")]
mod signal;

#[cfg(not(any(loom, shuttle)))]
pub(crate) use futex::Futex;
#[cfg(feature = "kvm")]
pub(crate) use raw_exit::{run, set_xsave};
#[cfg(feature = "kvm")]
pub(crate) use run_page::RunPage;
#[cfg(feature = "kvm")]
pub(crate) use signal::{KickSignal, ThreadTarget};
