//! A vCPU of `/dev/kvm`.
//!
//! ```text
//!   kicking thread                          vCPU thread
//!   --------------                          -----------
//!   own mapping of kvm_run                  VcpuFd (and its mapping)
//!     immediate_exit = 1 (atomic byte) ---> KVM_RUN: EINTR at once
//!   tgkill(SIGRTMIN)  --------------------> handler that does nothing; KVM_RUN: EINTR
//! ```
//!
//! The rule that must never be broken: `immediate_exit` is touched through the second mapping, as an atomic byte, and by
//! nobody else. Do not call `VcpuFd::set_kvm_immediate_exit` in closures that are run on the vCPU.

mod exit;
mod state;

use std::fmt;
use std::io;
use std::sync::Arc;

use kvm_ioctls::VcpuFd;

pub use self::exit::{InternalError, KvmExit};
pub use self::state::KvmState;
use crate::error::Failure;
use crate::run::{Control, Entry, Kicker, VcpuRun};
use crate::sys::{self, KickSignal, RunPage, ThreadTarget};

/// An instruction needs at most a few entries to complete (an access of 64 bytes that crosses a page: 16). More than this is
/// a KVM that never says that it is done.
const COMPLETIONS: u32 = 256;

/// What can go wrong with a KVM vCPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// An ioctl failed.
    #[error("{call}: {source}")]
    Ioctl {
        /// Its name.
        call: &'static str,
        /// The error.
        source: kvm_ioctls::Error,
    },
    /// The run area of the vCPU could not be mapped a second time.
    #[error("cannot map the run area of the vCPU: {0}")]
    Map(io::Error),
    /// The kick signal could not be set up: something else in the process uses SIGRTMIN.
    #[error("cannot set up the kick signal: {0}")]
    Signal(io::Error),
    /// A list of MSRs that KVM cannot take.
    #[error("the list of MSRs cannot be passed to KVM")]
    MsrList,
    /// There is no state to reset to: call [`KvmVcpu::keep_reset_state`] or [`KvmVcpu::set_reset_state`] first.
    #[error("no reset state was set")]
    NoResetState,
}

impl KvmError {
    fn at(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |source| Self::Ioctl { call, source }
    }
}

/// What handles the exits of one vCPU, on its thread. A closure will do.
///
/// It must not wait for the thread that pauses. If it panics, the vCPU fails.
pub trait ExitHandler: Send + 'static {
    /// Handles one exit.
    fn exit(&mut self, exit: KvmExit<'_>) -> Control;
}

impl<F: FnMut(KvmExit<'_>) -> Control + Send + 'static> ExitHandler for F {
    fn exit(&mut self, exit: KvmExit<'_>) -> Control {
        self(exit)
    }
}

/// A vCPU of `/dev/kvm` and the handler of its exits.
///
/// The fields' accessors are for set-up, before the vCPU is given to a [`crate::VcpuSet`], and for `run_on` closures.
pub struct KvmVcpu<H> {
    fd: VcpuFd,
    page: Arc<RunPage>,
    signal: KickSignal,
    msr_list: Vec<u32>,
    refused_msrs: Vec<u32>,
    reset_state: Option<KvmState>,
    handler: H,
}

impl<H: ExitHandler> KvmVcpu<H> {
    /// Takes over a vCPU. `run_size` is [`kvm_ioctls::VmFd::run_size`]; `msr_list` names the MSRs that belong to the
    /// state, most often `Kvm::get_msr_index_list`.
    ///
    /// The kick signal's handler (SIGRTMIN, does nothing) is installed in the process, once.
    ///
    /// # Errors
    /// [`KvmError::Map`] and [`KvmError::Signal`].
    pub fn new(
        fd: VcpuFd,
        run_size: usize,
        msr_list: Vec<u32>,
        handler: H,
    ) -> Result<Self, KvmError> {
        let page = Arc::new(RunPage::map(&fd, run_size).map_err(KvmError::Map)?);
        let signal = KickSignal::install().map_err(KvmError::Signal)?;
        let (refused_msrs, reset_state) = (Vec::new(), None);
        Ok(Self {
            fd,
            page,
            signal,
            msr_list,
            refused_msrs,
            reset_state,
            handler,
        })
    }

    /// The vCPU's descriptor, for the ioctls that this crate does not know.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// The descriptor, mutable. Neither run the vCPU through it nor set its immediate exit.
    pub fn fd_mut(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// The exit handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The exit handler, mutable.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Makes the registers as they are now the state that a reset goes back to.
    ///
    /// # Errors
    /// [`KvmError::Ioctl`].
    pub fn keep_reset_state(&mut self) -> Result<(), KvmError> {
        self.reset_state = Some(state::save(&self.fd, &self.msr_list)?);
        Ok(())
    }

    /// The state that a reset goes back to.
    pub fn set_reset_state(&mut self, state: KvmState) {
        self.reset_state = Some(state);
    }

    /// The MSRs that KVM refused at the last restore or reset: each was left as it was.
    pub fn refused_msrs(&self) -> &[u32] {
        &self.refused_msrs
    }
}

impl<H: ExitHandler> VcpuRun for KvmVcpu<H> {
    type State = KvmState;
    type Error = KvmError;

    fn kicker(&mut self) -> Arc<dyn Kicker> {
        let target = self.signal.accept_on_this_thread();
        Arc::new(KvmKicker {
            page: Arc::clone(&self.page),
            target,
        })
    }

    fn run(&mut self, entry: &mut Entry<'_>) -> Control {
        let handler = &mut self.handler;
        sys::run(&mut self.fd, |exit| match exit {
            Ok(exit) => {
                entry.left(Some(exit.last_exit()));
                handler.exit(exit)
            }
            Err(error) => {
                entry.left(None);
                not_run(error)
            }
        })
    }

    fn complete(&mut self) -> Control {
        self.page.set_immediate_exit(true);
        let mut control = Control::Continue;
        for _ in 0..COMPLETIONS {
            let handler = &mut self.handler;
            let answer = sys::run(&mut self.fd, |exit| match exit {
                // The instruction has another part.
                Ok(exit) => Some(handler.exit(exit)),
                Err(error) if error.errno() == libc::EINTR => None,
                Err(error) => match not_run(error) {
                    Control::Continue => Some(Control::Continue),
                    failed => Some(failed),
                },
            });
            match answer {
                None => {
                    self.page.set_immediate_exit(false);
                    return control;
                }
                Some(Control::Continue) => {}
                Some(failed @ Control::Failed(_)) => {
                    self.page.set_immediate_exit(false);
                    return failed;
                }
                Some(other) => control = other,
            }
        }
        self.page.set_immediate_exit(false);
        Control::Failed(Failure::run(format!(
            "an instruction was not complete after {COMPLETIONS} entries"
        )))
    }

    fn save(&mut self) -> Result<KvmState, KvmError> {
        state::save(&self.fd, &self.msr_list)
    }

    fn restore(&mut self, state: &KvmState) -> Result<(), KvmError> {
        self.refused_msrs = state::restore(&self.fd, state)?;
        Ok(())
    }

    fn reset(&mut self) -> Result<(), KvmError> {
        let state = self.reset_state.as_ref().ok_or(KvmError::NoResetState)?;
        self.refused_msrs = state::restore(&self.fd, state)?;
        Ok(())
    }

    fn exit_name(code: u16) -> &'static str {
        exit::name(code)
    }
}

/// KVM_RUN failed. A kick is no failure, and neither is EAGAIN: the vCPU waited for its start-up IPI, and comes in again.
fn not_run(error: kvm_ioctls::Error) -> Control {
    match error.errno() {
        libc::EINTR | libc::EAGAIN => Control::Continue,
        _ => Control::Failed(Failure::run(format!("KVM_RUN failed: {error}"))),
    }
}

/// `immediate_exit`, then the signal.
#[derive(Debug)]
struct KvmKicker {
    page: Arc<RunPage>,
    target: ThreadTarget,
}

impl Kicker for KvmKicker {
    fn kick(&self) {
        self.page.set_immediate_exit(true);
        self.target.signal();
    }

    fn rearm(&self) {
        self.page.set_immediate_exit(false);
    }
}

impl<H> fmt::Debug for KvmVcpu<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvmVcpu")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}
