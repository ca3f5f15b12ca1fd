//! What executes the guest, and what drives its clocks and interrupt lines: the accelerator.
//!
//! | | `kvm` | `qtest` |
//! |---|---|---|
//! | vCPUs | KVM's | execute nothing: a test client plays the guest |
//! | interrupt controllers | KVM's, in the kernel | the crate `devices`' ([`Chips`]), watched by the client ([`Pins`]) |
//! | interval timer (8254) | KVM's | the crate `devices`' |
//! | virtual time | passes while the VM runs | moves when the client says so |
//! | waking from S3 | at the guest's waking vector | there is nobody to go there |
//!
//! Memory, firmware tables, devices, bus and reset tree are the same for both.
//!
//! The rule that must never be broken: nothing outside this folder asks which of the two it is.

mod chips;
mod kvm;
mod pins;
mod qtest;
mod vcpu;

use std::sync::Arc;
use std::time::Instant;

use ::vcpu::VcpuSet;
use devices::IrqLine;

use super::clock::VirtualClock;
use super::cpu::{BootState, CpuFeatures, RealMode};
use super::error::Error;
use super::kvm::Device;
use super::memory::Memory;
use super::vcpu_run::Handler;

pub(crate) use self::chips::Chips;
pub(crate) use self::kvm::KvmAccel;
pub(crate) use self::pins::Pins;
pub(crate) use self::qtest::QtestAccel;
pub(crate) use self::vcpu::Vcpu;

/// Which accelerator a machine has.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// KVM, with its device, and what its processors have.
    Kvm(Device, CpuFeatures),
    /// None: a test client plays the guest.
    Qtest,
}

/// Which of a machine's vCPUs one is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    /// Its number, from 0, which is also its local APIC id.
    pub(crate) index: u32,
    /// How many there are.
    pub(crate) count: u32,
}

/// The accelerator of a machine.
#[derive(Debug)]
pub(crate) enum Accel {
    /// KVM.
    Kvm(Box<KvmAccel>),
    /// None.
    Qtest(QtestAccel),
}

impl Accel {
    /// Opens it. It has no memory yet, no interrupt lines and no vCPUs, and they are to be made in
    /// this order: [`attach`](Self::attach), [`irq_line`](Self::irq_line),
    /// [`make_vcpu`](Self::make_vcpu), [`settle`](Self::settle).
    ///
    /// # Errors
    /// One for each way in which a host may lack it.
    pub(crate) fn open(choice: &Choice) -> Result<Self, Error> {
        Ok(match choice {
            Choice::Kvm(device, features) => {
                Self::Kvm(Box::new(KvmAccel::open(device, *features)?))
            }
            Choice::Qtest => Self::Qtest(QtestAccel::new()),
        })
    }

    /// The width of a guest-physical address, in bits.
    pub(crate) fn address_bits(&self) -> u32 {
        match self {
            Self::Kvm(kvm) => kvm.host().address_bits(),
            Self::Qtest(_) => QtestAccel::ADDRESS_BITS,
        }
    }

    /// The most vCPUs that a machine may have.
    pub(crate) fn most_cpus(&self) -> u32 {
        match self {
            Self::Kvm(kvm) => kvm.host().most_cpus(),
            Self::Qtest(_) => super::kvm::MOST_CPUS,
        }
    }

    /// The devices' clock, which stands.
    pub(crate) fn clock(&self) -> VirtualClock {
        match self {
            Self::Kvm(_) => VirtualClock::stopped(),
            Self::Qtest(_) => VirtualClock::stepped(),
        }
    }

    /// Gives the machine its memory, and then its interrupt lines.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn attach(&self, memory: &Memory) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => kvm.attach(memory),
            Self::Qtest(_) => Ok(()),
        }
    }

    /// The interrupt line `gsi`: 0 to 15 reach the PIC and the I/O APIC, 16 to 23 the latter only.
    pub(crate) fn irq_line(&self, gsi: u32) -> Arc<dyn IrqLine> {
        match self {
            Self::Kvm(kvm) => Arc::new(kvm.vm().irq_line(gsi)),
            Self::Qtest(qtest) => Arc::new(qtest.chips().line(gsi)),
        }
    }

    /// Makes a vCPU in the state of power-on; and what it would wake up with, if it executes
    /// anything.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn make_vcpu(
        &self,
        seat: Seat,
        boot: &BootState,
        handler: Handler,
    ) -> Result<(Vcpu, Option<RealMode>), Error> {
        match self {
            Self::Kvm(kvm) => {
                let (vcpu, waking) = kvm.make_vcpu(seat, boot, handler)?;
                Ok((Vcpu::Kvm(Box::new(vcpu)), Some(waking)))
            }
            Self::Qtest(_) => Ok((Vcpu::idle(), None)),
        }
    }

    /// Notes the state of power-on, when all has been made: time stands from here on.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => kvm.settle(),
            Self::Qtest(_) => Ok(()),
        }
    }

    /// Stops the guest's time, besides that of its devices. The vCPUs must be paused. Does nothing
    /// when it stands.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn stop_time(&self) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => kvm.clock().stop(),
            Self::Qtest(_) => Ok(()),
        }
    }

    /// Lets the guest's time go on from where it stopped, before the vCPUs are resumed. Does nothing
    /// when it runs.
    ///
    /// # Errors
    /// What KVM says.
    pub(crate) fn start_time(&self, vcpus: &VcpuSet<Vcpu>) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => kvm.start_time(vcpus),
            Self::Qtest(_) => Ok(()),
        }
    }

    /// Resets the interrupt controllers, the interval timer and every vCPU, which are paused.
    ///
    /// # Errors
    /// What KVM says, and when a vCPU takes longer than `deadline`.
    pub(crate) fn reset(
        &self,
        vcpus: &VcpuSet<Vcpu>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        match self {
            Self::Kvm(kvm) => kvm.reset(vcpus, deadline),
            Self::Qtest(_) => Ok(vcpus.reset_all(deadline)?),
        }
    }

    /// Sends a non-maskable interrupt to every vCPU that the guest has started. Where nothing
    /// executes, nobody sees it.
    ///
    /// # Errors
    /// When a vCPU has ended or KVM refuses.
    pub(crate) fn inject_nmi(&self, vcpus: &VcpuSet<Vcpu>) -> Result<(), Error> {
        match self {
            Self::Kvm(_) => kvm::inject_nmi(vcpus),
            Self::Qtest(_) => Ok(()),
        }
    }

    /// The interrupt controllers, unless it has its own. Without its own it has no interval timer
    /// either.
    pub(crate) fn chips(&self) -> Option<&Arc<Chips>> {
        match self {
            Self::Kvm(_) => None,
            Self::Qtest(qtest) => Some(qtest.chips()),
        }
    }
}
