//! The machine: everything put together, and what a lifecycle asks of it.
//!
//! ```text
//!   Machine::new ──▶ power-on state, clock stopped
//!        start_clock ──▶ vCPUs resumed by the owner ──▶ ... paused ──▶ stop_clock
//!        reset (paused): devices, memory, images, interrupt controllers; then each vCPU
//!        suspend (paused) ──▶ clock stands ──▶ wake: as a reset, but memory stays; the first
//!                                              vCPU goes where the guest said
//! ```
//!
//! The rule that must never be broken: power-on and reset go through the same functions, in the
//! same order, so that the second boot is the first one again.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use devices::ResetType;
use devices::serial::Serial;
use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_state2,
};

use vcpu::{PauseGuard, VcpuEvents, VcpuId, VcpuRun, VcpuSet};

use super::acpi::Tables;
use super::board::{Board, Shape};
use super::boot::{BootSource, Images};
use super::clock::{KvmClock, VirtualClock, resume_vcpu};
use super::cpu::{self, BootState, RealMode};
use super::error::Error;
use super::kvm::{Host, Vm};
use super::memory::Memory;
use super::vcpu_run::{GuestEvents, Handler, HoldGate, Vcpu};

/// What machine to build.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The KVM device, usually [`super::kvm::DEVICE`].
    pub(crate) kvm: PathBuf,
    /// Bytes of RAM.
    pub(crate) memory: u64,
    /// How many vCPUs.
    pub(crate) cpus: u32,
    /// What to boot.
    pub(crate) boot: BootSource,
}

/// The machine. Everything is done through `&self`; it lives on the main-loop thread.
pub(crate) struct Machine {
    // In the order in which they go: the vCPUs first.
    vcpus: VcpuSet<Vcpu>,
    board: Board,
    kvm_clock: KvmClock,
    clock: Arc<VirtualClock>,
    chips: Chips,
    vm: Vm,
    tables: Tables,
    images: Mutex<Images>,
    memory: Memory,
    /// What the first vCPU wakes up with.
    waking: RealMode,
    /// The guest sleeps (S3).
    asleep: Cell<bool>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("memory", &self.memory.size())
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// Builds the machine and loads what it boots. Its vCPU threads exist and are paused by the
    /// guard, its clock stands.
    ///
    /// `events` is where the guest's requests go, `vcpu_events` where a vCPU's failure goes.
    ///
    /// # Errors
    /// Everything that can be wrong with the configuration or the host.
    pub(crate) fn new(
        config: &Config,
        outlets: &Outlets,
        events: Arc<dyn GuestEvents>,
        vcpu_events: impl VcpuEvents,
    ) -> Result<(Self, PauseGuard<Vcpu>), Error> {
        let mut images = Images::open(&config.boot)?;
        let host = Host::open(&config.kvm)?;
        let most = host.most_cpus();
        if !(1..=most).contains(&config.cpus) {
            return Err(Error::CpuCount {
                asked: config.cpus,
                max: most,
            });
        }
        let tables = Tables::new(config.cpus)?;
        let memory = Memory::new(config.memory, images.firmware_size(), host.address_bits())?;
        let entry = images.load(&memory, &tables)?;
        cpu::write_boot_structures(&memory, entry)?;
        let boot = BootState::new(entry, images.is_kernel());

        let vm = host.create_vm()?;
        memory.attach(&vm)?;
        vm.create_interrupt_controllers()?;
        let clock = Arc::new(VirtualClock::stopped());
        let gate = Arc::new(HoldGate::new(events));
        let shape = Shape {
            memory: memory.size(),
            cpus: config.cpus,
        };
        let board = Board::new(&vm, shape, &clock, &gate, outlets)?;
        board.reset(ResetType::Cold)?;

        let (vcpus, guard) = VcpuSet::new_paused(vcpu_events);
        let msrs = cpu::state_msrs(&host.msrs()?);
        let mut waking = None;
        for index in 0..config.cpus {
            let id = VcpuId(index);
            let memory = memory.regions().clone();
            let handler = Handler::new(id, &board, Arc::clone(&gate), memory);
            let made = make_vcpu(&host, &vm, index, config.cpus, &msrs, &boot, handler)?;
            waking.get_or_insert(made.1);
            vcpus.add(id, made.0)?;
        }
        let waking = waking.ok_or(Error::CpuCount {
            asked: config.cpus,
            max: most,
        })?;
        let kvm_clock = KvmClock::new(&vm);
        kvm_clock.stop()?;
        let chips = Chips::capture(&vm)?;
        let images = Mutex::new(images);
        let machine = Self {
            vcpus,
            board,
            kvm_clock,
            clock,
            chips,
            vm,
            tables,
            images,
            memory,
            waking,
            asleep: Cell::new(false),
        };
        Ok((machine, guard))
    }

    /// The vCPUs, to pause, resume and question.
    pub(crate) fn vcpus(&self) -> &VcpuSet<Vcpu> {
        &self.vcpus
    }

    /// COM1, for its input.
    pub(crate) fn serial(&self) -> &Arc<Serial> {
        self.board.serial()
    }

    /// The devices' clock.
    pub(crate) fn clock(&self) -> &Arc<VirtualClock> {
        &self.clock
    }

    /// Stops the guest's time. The vCPUs must be paused. Does nothing when it stands.
    ///
    /// # Errors
    /// What KVM says; the devices' clock stands all the same.
    pub(crate) fn stop_clock(&self) -> Result<(), Error> {
        self.clock.stop();
        self.kvm_clock.stop()
    }

    /// Lets the guest's time go on from where it stopped, before the vCPUs are resumed. Does
    /// nothing when it runs, or while the guest sleeps.
    ///
    /// # Errors
    /// What KVM says; the devices' clock runs all the same.
    pub(crate) fn start_clock(&self) -> Result<(), Error> {
        if self.asleep.get() {
            return Ok(());
        }
        self.clock.start();
        let Some(lag) = self.kvm_clock.start()? else {
            return Ok(());
        };
        for vcpu in self.vcpus.vcpus().iter() {
            // An exited vCPU has no time; a full queue means that it never gets to run.
            let queued = vcpu.queue_on(move |vcpu: &mut Vcpu| resume_vcpu(vcpu.fd(), lag));
            if let Err(error) = queued {
                log::debug!("{}: not told that time goes on: {error}", vcpu.id());
            }
        }
        Ok(())
    }

    /// Resets the machine. The vCPUs must be paused.
    ///
    /// [`ResetType::Cold`]: everything is as at power-on, down to the content of memory, and what
    /// it boots is loaded again. Any other type: the devices alone.
    ///
    /// # Errors
    /// When a file changed since power-on or KVM refuses; the machine must not run then.
    pub(crate) fn reset(&self, kind: ResetType, deadline: Option<Instant>) -> Result<(), Error> {
        self.board.reset(kind)?;
        if kind != ResetType::Cold {
            return Ok(());
        }
        self.asleep.set(false);
        self.memory.clear()?;
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = images.load(&self.memory, &self.tables)?;
        cpu::write_boot_structures(&self.memory, entry)?;
        self.reset_processors(deadline)
    }

    /// Resets the interrupt controllers, the interval timer and every vCPU.
    fn reset_processors(&self, deadline: Option<Instant>) -> Result<(), Error> {
        self.chips.apply(&self.vm)?;
        for vcpu in self.vcpus.vcpus().iter() {
            let queued = vcpu.queue_on(|vcpu: &mut Vcpu| {
                if let Err(error) = cpu::rebuild_mmu(vcpu.fd()) {
                    log::warn!("KVM: cannot rebuild a vCPU's view of memory: {error}");
                }
            });
            if let Err(error) = queued {
                log::debug!("{}: {error}", vcpu.id());
            }
        }
        self.vcpus.reset_all(deadline)?;
        self.kvm_clock.reset(self.chips.pit);
        Ok(())
    }

    /// Presses the power button; `false` if the guest did not ask to be told of it.
    pub(crate) fn press_power_button(&self) -> bool {
        self.board.press_power_button()
    }

    /// Sends a non-maskable interrupt to every vCPU that the guest has started. It arrives when
    /// the vCPUs run.
    ///
    /// # Errors
    /// When a vCPU has ended or KVM refuses.
    pub(crate) fn inject_nmi(&self) -> Result<(), Error> {
        for vcpu in self.vcpus.vcpus().iter() {
            vcpu.queue_on(|vcpu: &mut Vcpu| {
                if let Err(error) = cpu::inject_nmi(vcpu.fd()) {
                    log::warn!("KVM: cannot inject an NMI: {error}");
                }
            })?;
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) is due next, in nanoseconds of [`clock`](Self::clock).
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        self.board.next_deadline()
    }

    /// Lets the devices do what is due.
    pub(crate) fn tick(&self) {
        self.board.tick();
    }
}

/// What the machine's devices are connected to outside of it.
#[derive(Clone)]
pub(crate) struct Outlets {
    /// Where COM1's bytes go.
    pub(crate) serial: Arc<dyn devices::Output>,
    /// Called when COM1 can take input again.
    pub(crate) serial_room: Arc<dyn devices::Notify>,
    /// Where the debug console's bytes go; without it there is no debug console.
    pub(crate) debugcon: Option<Arc<dyn devices::Output>>,
    /// Called when [`Machine::next_deadline`] may have changed.
    pub(crate) rearm: Arc<dyn devices::Notify>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlets").finish_non_exhaustive()
    }
}

/// Makes one vCPU, in the state of power-on; and what it would wake up with.
fn make_vcpu(
    host: &Host,
    vm: &Vm,
    index: u32,
    count: u32,
    msrs: &[u32],
    boot: &BootState,
    handler: Handler,
) -> Result<(Vcpu, RealMode), Error> {
    let failed = |source| Error::Vcpu { index, source };
    let fd = vm.create_vcpu(index)?;
    let cpuid = cpu::cpuid_for(host.cpuid(), index, count).ok_or(Error::KvmCapability {
        name: "KVM_CAP_EXT_CPUID",
    })?;
    fd.set_cpuid2(&cpuid)
        .map_err(Error::kvm("set a vCPU's CPUID leaves"))?;
    let mut vcpu = Vcpu::new(fd, vm.fd().run_size(), msrs.to_vec(), handler).map_err(failed)?;
    let mut state = vcpu.save().map_err(failed)?;
    let waking = RealMode::of(&state);
    cpu::power_on(&mut state, boot, index == 0);
    vcpu.set_reset_state(state);
    vcpu.reset().map_err(failed)?;
    Ok((vcpu, waking))
}

/// The interrupt controllers and the interval timer as KVM made them.
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

mod sleep;

#[cfg(test)]
mod guests;
#[cfg(test)]
mod tests;
