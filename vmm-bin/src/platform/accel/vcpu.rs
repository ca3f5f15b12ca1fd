//! The vCPU of a machine: KVM's, or one that executes nothing.
//!
//! The idle one is in the guest as long as nobody wants it out of there, and never exits of its own.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use ::vcpu::kvm::{KvmError, KvmState, KvmVcpu};
use ::vcpu::{Control, Entry, Kicker, VcpuRun};

use crate::platform::cpu::crash_registers;
use crate::platform::vcpu_run::Handler;

/// A vCPU.
#[derive(Debug)]
pub(crate) enum Vcpu {
    /// KVM's, with the handler of its exits.
    Kvm(Box<KvmVcpu<Handler>>),
    /// One that executes nothing.
    Idle(IdleVcpu),
}

impl Vcpu {
    /// One that executes nothing.
    pub(super) fn idle() -> Self {
        Self::Idle(IdleVcpu::default())
    }

    /// KVM's, if it is one: for the ioctls of its registers.
    pub(crate) fn kvm(&mut self) -> Option<&mut KvmVcpu<Handler>> {
        match self {
            Self::Kvm(kvm) => Some(kvm),
            Self::Idle(_) => None,
        }
    }
}

/// The registers of a vCPU.
#[derive(Debug)]
pub(crate) enum Registers {
    /// KVM's.
    Kvm(Box<KvmState>),
    /// It has none.
    None,
}

/// Why registers cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What KVM says.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// They come from a machine with another accelerator.
    #[error("the registers are those of a vCPU with another accelerator")]
    OtherAccelerator,
}

impl VcpuRun for Vcpu {
    type State = Registers;
    type Error = Error;

    fn kicker(&mut self) -> Arc<dyn Kicker> {
        match self {
            Self::Kvm(kvm) => kvm.kicker(),
            Self::Idle(idle) => Arc::<Kicked>::clone(&idle.kicked),
        }
    }

    fn run(&mut self, entry: &mut Entry<'_>) -> Control {
        match self {
            Self::Kvm(kvm) => {
                let control = kvm.run(entry);
                told_of_crash(kvm, control)
            }
            Self::Idle(idle) => {
                idle.kicked.wait();
                entry.left(None);
                Control::Continue
            }
        }
    }

    fn complete(&mut self) -> Control {
        match self {
            Self::Kvm(kvm) => {
                let control = kvm.complete();
                told_of_crash(kvm, control)
            }
            Self::Idle(_) => Control::Continue,
        }
    }

    fn save(&mut self) -> Result<Registers, Error> {
        Ok(match self {
            Self::Kvm(kvm) => Registers::Kvm(Box::new(kvm.save()?)),
            Self::Idle(_) => Registers::None,
        })
    }

    fn restore(&mut self, state: &Registers) -> Result<(), Error> {
        match (self, state) {
            (Self::Kvm(kvm), Registers::Kvm(state)) => Ok(kvm.restore(state)?),
            (Self::Idle(_), Registers::None) => Ok(()),
            _ => Err(Error::OtherAccelerator),
        }
    }

    fn reset(&mut self) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => Ok(kvm.reset()?),
            Self::Idle(_) => Ok(()),
        }
    }

    fn exit_name(code: u16) -> &'static str {
        KvmVcpu::<Handler>::exit_name(code)
    }
}

/// Posts a crash of the guest, if the exit was one, with what it left in its registers.
fn told_of_crash(kvm: &mut KvmVcpu<Handler>, control: Control) -> Control {
    if !kvm.handler_mut().take_crash() {
        return control;
    }
    let registers = crash_registers(kvm.fd());
    kvm.handler().tell_crash(registers)
}

/// A vCPU that executes nothing.
#[derive(Debug, Default)]
pub(crate) struct IdleVcpu {
    kicked: Arc<Kicked>,
}

/// Whether it is wanted outside.
#[derive(Debug, Default)]
struct Kicked {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Kicked {
    fn wait(&self) {
        let flag = self.flag.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(flag, |kicked| !*kicked);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn set(&self, kicked: bool) {
        *self.flag.lock().unwrap_or_else(PoisonError::into_inner) = kicked;
        self.changed.notify_all();
    }
}

impl Kicker for Kicked {
    fn kick(&self) {
        self.set(true);
    }

    fn rearm(&self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ::vcpu::{VcpuEvent, VcpuId, VcpuSet};

    use super::*;

    #[test]
    fn a_vcpu_that_executes_nothing_can_be_paused_asked_and_ended() {
        let deadline = || Instant::now().checked_add(Duration::from_secs(30));
        let (vcpus, guard) = VcpuSet::new_paused(|_: VcpuId, _: VcpuEvent| {});
        for index in 0..3 {
            vcpus.add(VcpuId(index), Vcpu::idle()).unwrap();
        }
        drop(guard);
        for _ in 0..100 {
            let guard = vcpus.pause_all(deadline()).unwrap();
            drop(guard);
            let asked = vcpus.run_on_all(deadline(), |vcpu| vcpu.kvm().is_none());
            for (_, idle) in asked {
                assert!(idle.unwrap());
            }
        }
        let guard = vcpus.pause_all(deadline()).unwrap();
        vcpus.reset_all(deadline()).unwrap();
        drop(guard);
        vcpus.shutdown(deadline()).unwrap();
    }
}
