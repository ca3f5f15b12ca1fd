//! KVM as the accelerator: the VM, its vCPUs, and the chips and clocks that are in the kernel.
//!
//! The rule that must never be broken: what a reset puts back is what KVM gave at power-on.

use std::cell::OnceCell;
use std::time::Instant;

use ::vcpu::kvm::KvmVcpu;
use ::vcpu::{VcpuRun, VcpuSet};
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_state2,
};

use super::{Seat, Vcpu};
use crate::platform::clock::{KvmClock, resume_vcpu};
use crate::platform::cpu::{self, BootState, CpuFeatures, RealMode};
use crate::platform::error::Error;
use crate::platform::kvm::{Device, Host, Vm};
use crate::platform::memory::Memory;
use crate::platform::vcpu_run::Handler;

/// A VM of KVM's.
#[derive(Debug)]
pub(crate) struct KvmAccel {
    clock: KvmClock,
    chips: OnceCell<Chips>,
    msrs: Vec<u32>,
    vm: Vm,
    host: Host,
}

impl KvmAccel {
    /// Opens KVM and makes a VM.
    ///
    /// # Errors
    /// One for each way in which a host may lack it.
    pub(super) fn open(device: &Device, features: CpuFeatures) -> Result<Self, Error> {
        let mut host = Host::open(device)?;
        if features.hv_crash {
            host.offer_hyperv_crash()?;
        }
        let vm = host.create_vm()?;
        Ok(Self {
            clock: KvmClock::new(&vm),
            chips: OnceCell::new(),
            msrs: cpu::state_msrs(&host.msrs()?),
            vm,
            host,
        })
    }

    /// What this host's KVM can do.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The VM.
    pub(crate) fn vm(&self) -> &Vm {
        &self.vm
    }

    /// What KVM keeps of the guest's time.
    pub(crate) fn clock(&self) -> &KvmClock {
        &self.clock
    }

    pub(super) fn attach(&self, memory: &Memory) -> Result<(), Error> {
        memory.attach(&self.vm)?;
        self.vm.create_interrupt_controllers()
    }

    pub(super) fn make_vcpu(
        &self,
        seat: Seat,
        boot: &BootState,
        handler: Handler,
    ) -> Result<(KvmVcpu<Handler>, RealMode), Error> {
        let Seat { index, count } = seat;
        let failed = |source| Error::Vcpu { index, source };
        let fd = self.vm.create_vcpu(index)?;
        let cpuid = cpu::cpuid_for(self.host.cpuid(), index, count);
        let cpuid = cpuid.ok_or(Error::KvmCapability {
            name: "KVM_CAP_EXT_CPUID",
        })?;
        fd.set_cpuid2(&cpuid)
            .map_err(Error::kvm("set a vCPU's CPUID leaves"))?;
        let run_size = self.vm.fd().run_size();
        let mut vcpu = KvmVcpu::new(fd, run_size, self.msrs.clone(), handler).map_err(failed)?;
        let mut state = vcpu.save().map_err(failed)?;
        let waking = RealMode::of(&state);
        cpu::power_on(&mut state, boot, index == 0);
        vcpu.set_reset_state(state);
        vcpu.reset().map_err(failed)?;
        Ok((vcpu, waking))
    }

    pub(super) fn settle(&self) -> Result<(), Error> {
        self.clock.stop()?;
        let chips = Chips::capture(&self.vm)?;
        // Set once; what power-on was does not change.
        drop(self.chips.set(chips));
        Ok(())
    }

    pub(super) fn start_time(&self, vcpus: &VcpuSet<Vcpu>) -> Result<(), Error> {
        let Some(lag) = self.clock.start()? else {
            return Ok(());
        };
        for vcpu in vcpus.vcpus().iter() {
            // An exited vCPU has no time; a full queue means that it never gets to run.
            let queued = vcpu.queue_on(move |vcpu: &mut Vcpu| {
                if let Some(kvm) = vcpu.kvm() {
                    resume_vcpu(kvm.fd(), lag);
                }
            });
            if let Err(error) = queued {
                log::debug!("{}: not told that time goes on: {error}", vcpu.id());
            }
        }
        Ok(())
    }

    pub(super) fn reset(
        &self,
        vcpus: &VcpuSet<Vcpu>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        if let Some(chips) = self.chips.get() {
            chips.apply(&self.vm)?;
        }
        for vcpu in vcpus.vcpus().iter() {
            let queued = vcpu.queue_on(|vcpu: &mut Vcpu| {
                let rebuilt = vcpu.kvm().map_or(Ok(()), |kvm| cpu::rebuild_mmu(kvm.fd()));
                if let Err(error) = rebuilt {
                    log::warn!("KVM: cannot rebuild a vCPU's view of memory: {error}");
                }
            });
            if let Err(error) = queued {
                log::debug!("{}: {error}", vcpu.id());
            }
        }
        vcpus.reset_all(deadline)?;
        if let Some(chips) = self.chips.get() {
            self.clock.reset(chips.pit);
        }
        Ok(())
    }

    /// The interval timer as at power-on.
    #[cfg(test)]
    pub(crate) fn fresh_pit(&self) -> kvm_pit_state2 {
        self.chips.get().map(|chips| chips.pit).unwrap_or_default()
    }
}

pub(super) fn inject_nmi(vcpus: &VcpuSet<Vcpu>) -> Result<(), Error> {
    for vcpu in vcpus.vcpus().iter() {
        vcpu.queue_on(|vcpu: &mut Vcpu| {
            let injected = vcpu.kvm().map_or(Ok(()), |kvm| cpu::inject_nmi(kvm.fd()));
            if let Err(error) = injected {
                log::warn!("KVM: cannot inject an NMI: {error}");
            }
        })?;
    }
    Ok(())
}

/// The interrupt controllers and the interval timer as KVM made them.
#[derive(Debug)]
struct Chips {
    irqchips: [kvm_irqchip; 3],
    pit: kvm_pit_state2,
}

impl Chips {
    /// Reads them.
    fn capture(vm: &Vm) -> Result<Self, Error> {
        let mut irqchips = [
            KVM_IRQCHIP_PIC_MASTER,
            KVM_IRQCHIP_PIC_SLAVE,
            KVM_IRQCHIP_IOAPIC,
        ]
        .map(|chip_id| kvm_irqchip {
            chip_id,
            ..Default::default()
        });
        for chip in &mut irqchips {
            vm.fd()
                .get_irqchip(chip)
                .map_err(Error::kvm("read an interrupt controller"))?;
        }
        let pit = vm
            .fd()
            .get_pit2()
            .map_err(Error::kvm("read the interval timer"))?;
        Ok(Self { irqchips, pit })
    }

    /// Puts them back.
    fn apply(&self, vm: &Vm) -> Result<(), Error> {
        for chip in &self.irqchips {
            vm.fd()
                .set_irqchip(chip)
                .map_err(Error::kvm("reset an interrupt controller"))?;
        }
        vm.fd()
            .set_pit2(&self.pit)
            .map_err(Error::kvm("reset the interval timer"))
    }
}
