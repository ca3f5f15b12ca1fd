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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use devices::serial::Serial;
use devices::{Clock as _, ResetType};
use vcpu::{PauseGuard, VcpuEvents, VcpuId, VcpuSet};

use super::accel::{Accel, Choice, Seat, Vcpu};
use super::acpi::Tables;
use super::board::{Board, Shape};
use super::boot::{BootSource, Images};
use super::clock::VirtualClock;
use super::cpu::{self, BootState, CoreRegisters, Dump, RealMode};
use super::error::Error;
use super::memory::{Backing, Memory, Snapshot};
use super::rtc_time::RtcTime;
use super::vcpu_run::{GuestEvents, Handler, HoldGate};
use super::watchdogs::Watchdogs;

/// What machine to build.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What executes the guest.
    pub(crate) accel: Choice,
    /// Bytes of RAM.
    pub(crate) memory: u64,
    /// Where they come from.
    pub(crate) backing: Backing,
    /// How many vCPUs.
    pub(crate) cpus: u32,
    /// What to boot.
    pub(crate) boot: BootSource,
    /// The time that the real-time clock keeps.
    pub(crate) rtc: RtcTime,
    /// Which watchdogs there are.
    pub(crate) watchdogs: Watchdogs,
    /// What firmware is told that the machine is called; zeroes if it has no UUID.
    pub(crate) uuid: [u8; 16],
    /// What pvpanic tells the guest that it is for: a mask of what it can say.
    pub(crate) pvpanic_events: u8,
}

/// The machine. Everything is done through `&self`; it lives on the main-loop thread.
pub(crate) struct Machine {
    // In the order in which they go: the vCPUs first.
    vcpus: VcpuSet<Vcpu>,
    board: Board,
    clock: Arc<VirtualClock>,
    accel: Accel,
    tables: Tables,
    images: Mutex<Images>,
    memory: Memory,
    /// What the first vCPU wakes up with, if it executes anything.
    waking: Option<RealMode>,
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
        let accel = Accel::open(&config.accel)?;
        let most = accel.most_cpus();
        if !(1..=most).contains(&config.cpus) {
            return Err(Error::CpuCount {
                asked: config.cpus,
                max: most,
            });
        }
        let tables = Tables::new(config.cpus, config.watchdogs.wdat_base())?;
        let firmware = images.firmware_size();
        let memory = Memory::new(
            config.memory,
            config.backing,
            firmware,
            accel.address_bits(),
        )?;
        let handover = images.handover(&memory, config.cpus, config.uuid)?;
        let handover = handover.map(|items| (items, memory.for_dma()));
        let entry = images.load(&memory, &tables)?;
        cpu::write_boot_structures(&memory, entry)?;
        let boot = BootState::new(entry, images.is_kernel());

        accel.attach(&memory)?;
        let clock = Arc::new(accel.clock());
        let gate = Arc::new(HoldGate::new(events));
        let shape = Shape {
            memory: memory.size(),
            cpus: config.cpus,
            rtc: config.rtc,
            watchdogs: config.watchdogs,
            pvpanic_events: config.pvpanic_events,
        };
        let board = Board::new(&accel, shape, handover, &clock, &gate, outlets)?;
        board.reset(ResetType::Cold)?;

        let (vcpus, guard) = VcpuSet::new_paused(vcpu_events);
        let mut waking = None;
        for index in 0..config.cpus {
            let id = VcpuId(index);
            let memory = memory.regions().clone();
            let handler = Handler::new(id, &board, Arc::clone(&gate), memory);
            let count = config.cpus;
            let (vcpu, wakes_with) = accel.make_vcpu(Seat { index, count }, &boot, handler)?;
            waking = waking.or(wakes_with);
            vcpus.add(id, vcpu)?;
        }
        accel.settle()?;
        let machine = Self {
            vcpus,
            board,
            clock,
            accel,
            tables,
            images: Mutex::new(images),
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

    /// The guest's memory, for its debugger.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
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
        self.accel.stop_time()
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
        self.accel.start_time(&self.vcpus)
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
        self.accel.reset(&self.vcpus, deadline)
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
        self.accel.inject_nmi(&self.vcpus)
    }

    /// The registers of the vCPU `cpu`, as text. It may run: then it is asked between two stays in the
    /// guest. `None`: it executes nothing, and has none.
    ///
    /// # Errors
    /// When there is no such vCPU, it is too busy until `deadline`, or KVM refuses.
    pub(crate) fn registers(
        &self,
        cpu: u32,
        deadline: Option<Instant>,
    ) -> Result<Option<String>, Error> {
        let read = |vcpu: &mut Vcpu| vcpu.kvm().map(|kvm| Dump::read(kvm.fd())).transpose();
        let dump = self.vcpus.run_on(VcpuId(cpu), deadline, read)?;
        let dump = dump.map_err(Error::kvm("reading the registers"))?;
        Ok(dump.map(|dump| dump.to_string()))
    }

    /// The registers of each vCPU that executes anything, by its number.
    ///
    /// # Errors
    /// When a vCPU is too busy until `deadline`, or KVM refuses.
    pub(crate) fn core_registers(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Vec<(u32, CoreRegisters)>, Error> {
        let read = |vcpu: &mut Vcpu| {
            let kvm = vcpu.kvm();
            kvm.map(|kvm| CoreRegisters::read(kvm.fd())).transpose()
        };
        let mut cpus = Vec::new();
        for (VcpuId(index), read) in self.vcpus.run_on_all(deadline, read) {
            let registers = read?.map_err(Error::kvm("reading the registers"))?;
            cpus.extend(registers.map(|registers| (index, registers)));
        }
        Ok(cpus)
    }

    /// The guest's memory, for somebody who reads it on another thread while the VM stands.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.memory.snapshot()
    }

    /// How many nanoseconds of the host's time there are until [`tick`](Self::tick) is due, while
    /// the guest's time passes. A clock that moves only when told to brings nothing nearer.
    pub(crate) fn until_next_deadline(&self) -> Option<u64> {
        let now = self.clock.now_ns();
        let planned = self.board.next_deadline();
        let planned = planned.map(|deadline| deadline.saturating_sub(now));
        let planned = planned.filter(|left| *left == 0 || !self.clock.is_stepped());
        let alarm = self.board.until_alarm();
        planned.into_iter().chain(alarm).min()
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
    /// Called when [`Machine::until_next_deadline`] may have changed.
    pub(crate) rearm: Arc<dyn devices::Notify>,
}

impl std::fmt::Debug for Outlets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outlets").finish_non_exhaustive()
    }
}

mod client;
mod sleep;

#[cfg(test)]
mod guests;
#[cfg(test)]
mod tests;
