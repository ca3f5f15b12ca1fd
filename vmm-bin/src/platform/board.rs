//! The devices of the machine, their bus and their reset.
//!
//! | ports | device | line |
//! |---|---|---|
//! | 0x60, 0x64 | i8042 keyboard controller | 1, 12 |
//! | 0x70, 0x71 | CMOS real-time clock | 8 |
//! | 0x92 | fast A20 and reset | |
//! | 0x3f8 to 0x3ff | COM1, a 16550 | 4 |
//! | 0x402 | debug console of firmware, if asked for | |
//! | 0x441 to 0x444 | ib700 watchdog, unless it is not wanted | |
//! | 0x501, 0x502 | isa-debug-exit | |
//! | 0x505 | pvpanic | |
//! | 0x510, 0x511, 0x514 to 0x51b | fw_cfg, if there is firmware | |
//! | 0x600 to 0x60b | ACPI PM1 block and timer | 9 |
//! | 0x660 to 0x669 | watchdog of the ACPI WDAT table, if asked for | |
//! | 0xcf9 | reset control | |
//!
//! The interrupt controllers (0x20, 0xa0, I/O APIC, local APICs) and the interval timer (0x40 to
//! 0x43, 0x61) are the accelerator's. Where it has none, all of them but the local APICs are here.
//! Every other port reads as all ones and takes writes silently: the POST
//! port 0x80, the DMA controllers, and PCI's configuration ports, where that means "no PCI".

use std::sync::Arc;

use devices::acpi_pm::{self, AcpiPm};
use devices::cmos_rtc::{self, CmosRtc};
use devices::debug_exit::{self, DebugExit};
use devices::debugcon::{self, DebugCon};
use devices::fw_cfg::{self, FwCfg, GuestMemory, Items};
use devices::i8042::{self, I8042};
use devices::ib700::{self, Ib700};
use devices::pit::{self, Pit};
use devices::port92::{self, Port92};
use devices::pvpanic::{self, PvPanic};
use devices::reset_control::{self, Chipset, ResetControl};
use devices::serial::{self, Serial};
use devices::wdat::{self, Wdat};
use devices::{
    Bus, BusBuilder, BusDevice, Clock, Mapping, ResetTree, ResetType, Resettable, Timed,
    WakeupReason,
};
use devices::{ioapic, pic};

use super::accel::Accel;
use super::acpi::SLEEP_TYPES;
use super::clock::VirtualClock;
use super::error::Error;
use super::layout::{COM1_IRQ, HOLE_START, RTC_IRQ, SCI_IRQ, TIMER_IRQ};
use super::machine::Outlets;
use super::rtc_time::RtcTime;
use super::vcpu_run::HoldGate;
use super::watchdogs::Watchdogs;

/// The devices.
pub(crate) struct Board {
    pio: Arc<Bus>,
    mmio: Arc<Bus>,
    resets: ResetTree,
    serial: Arc<Serial>,
    acpi_pm: Arc<AcpiPm>,
    rtc: Arc<CmosRtc>,
    rtc_clock: Arc<dyn Clock>,
    /// The real-time clock goes on while all other time stands.
    rtc_goes_on: bool,
    clock: Arc<VirtualClock>,
    /// What has deadlines on the virtual clock.
    timed: Vec<Arc<dyn Timed>>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").finish_non_exhaustive()
    }
}

/// What firmware finds in CMOS memory, the time there, and which devices are there at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of RAM.
    pub(crate) memory: u64,
    /// How many vCPUs.
    pub(crate) cpus: u32,
    /// The time that the real-time clock keeps.
    pub(crate) rtc: RtcTime,
    /// Which watchdogs there are.
    pub(crate) watchdogs: Watchdogs,
    /// What pvpanic tells the guest that it is for.
    pub(crate) pvpanic_events: u8,
}

/// Where SeaBIOS looks for the number of processors beside the first.
const CMOS_OTHER_CPUS: u8 = 0x5f;

/// What CMOS memory tells firmware of RAM.
fn cmos_memory(ram: u64) -> cmos_rtc::Memory {
    cmos_rtc::Memory {
        below_4g: ram.min(HOLE_START),
        above_4g: ram.saturating_sub(HOLE_START),
    }
}

/// Puts devices on the bus and on the reset tree at the same time, so that none is forgotten.
struct Assembly {
    pio: BusBuilder,
    mmio: BusBuilder,
    resets: ResetTree,
}

impl Assembly {
    /// Adds a device.
    fn add<D>(&mut self, name: &str, ports: &[Mapping], device: &Arc<D>) -> Result<(), Error>
    where
        D: BusDevice + Resettable + 'static,
    {
        self.pio
            .map(name, ports, Arc::<D>::clone(device))
            .map_err(Error::Board)?;
        self.add_reset(name, device)
    }

    /// Adds a device whose registers are in memory.
    fn add_mmio<D>(&mut self, name: &str, at: &[Mapping], device: &Arc<D>) -> Result<(), Error>
    where
        D: BusDevice + Resettable + 'static,
    {
        self.mmio
            .map(name, at, Arc::<D>::clone(device))
            .map_err(Error::Board)?;
        self.add_reset(name, device)
    }

    fn add_reset<D>(&self, name: &str, device: &Arc<D>) -> Result<(), Error>
    where
        D: Resettable + 'static,
    {
        self.resets
            .add(self.resets.root(), name, Arc::<D>::clone(device))
            .map_err(Error::Board)?;
        Ok(())
    }
}

impl Board {
    /// The devices of a machine of this shape, as at power-on; with `handover`, also the one by which firmware
    /// asks for that.
    ///
    /// # Errors
    /// When they do not fit together, which a test of this module excludes.
    pub(crate) fn new(
        accel: &Accel,
        shape: Shape,
        handover: Option<(Items, Arc<dyn GuestMemory>)>,
        clock: &Arc<VirtualClock>,
        power: &Arc<HoldGate>,
        wiring: &Outlets,
    ) -> Result<Self, Error> {
        let mut assembly = Assembly {
            pio: BusBuilder::pio(),
            mmio: BusBuilder::mmio(),
            resets: ResetTree::new(),
        };
        let line = |gsi| accel.irq_line(gsi);
        let power = || Arc::<HoldGate>::clone(power);

        let mut timed: Vec<Arc<dyn Timed>> = Vec::new();
        if let Some(chips) = accel.chips() {
            assembly.add("pic", &pic::PORTS, chips.pic())?;
            assembly.add_mmio("ioapic", &ioapic::REGISTERS, chips.ioapic())?;
            let pit = Arc::new(Pit::new(pit::Wiring {
                irq: line(TIMER_IRQ),
                clock: Arc::<VirtualClock>::clone(clock),
                rearm: Arc::clone(&wiring.rearm),
            }));
            assembly.add("pit", &pit::PORTS, &pit)?;
            timed.push(pit);
        }
        let serial = Arc::new(Serial::with_input_notify(
            line(COM1_IRQ),
            Arc::clone(&wiring.serial),
            Arc::clone(&wiring.serial_room),
        ));
        assembly.add("serial", &serial::COM1, &serial)?;
        let acpi_pm = AcpiPm::new(
            SLEEP_TYPES,
            acpi_pm::Wiring {
                sci: line(SCI_IRQ),
                power: power(),
                clock: Arc::<VirtualClock>::clone(clock),
                rearm: Arc::clone(&wiring.rearm),
            },
        );
        let acpi_pm = Arc::new(acpi_pm.map_err(Error::Board)?);
        assembly.add("acpi-pm", &acpi_pm::PORTS, &acpi_pm)?;
        timed.push(Arc::<AcpiPm>::clone(&acpi_pm));
        let rtc_clock = shape.rtc.clock(clock);
        let rtc = CmosRtc::new(
            cmos_memory(shape.memory),
            cmos_rtc::Wiring {
                irq: line(RTC_IRQ),
                power: power(),
                clock: Arc::clone(&rtc_clock),
                rearm: Arc::clone(&wiring.rearm),
            },
        );
        let others = u8::try_from(shape.cpus.saturating_sub(1)).unwrap_or(u8::MAX);
        rtc.set_byte(CMOS_OTHER_CPUS, others)
            .map_err(Error::Board)?;
        let rtc = Arc::new(rtc);
        assembly.add("cmos-rtc", &cmos_rtc::PORTS, &rtc)?;
        let i8042 = Arc::new(I8042::new(line(1), line(12), power()));
        assembly.add("i8042", &i8042::PORTS, &i8042)?;
        assembly.add("port92", &port92::PORTS, &Arc::new(Port92::new(power())))?;
        let reset_control = Arc::new(ResetControl::new(Chipset::Ich9, power()));
        assembly.add("reset-control", &reset_control::PORTS, &reset_control)?;
        let debug_exit = Arc::new(DebugExit::new(power()));
        assembly.add("isa-debug-exit", &debug_exit::PORTS, &debug_exit)?;
        let pvpanic = PvPanic::with_events(shape.pvpanic_events, power()).map_err(Error::Board)?;
        assembly.add("pvpanic", &pvpanic::PORTS, &Arc::new(pvpanic))?;
        let watchdog = ib700::Wiring {
            power: power(),
            clock: Arc::<VirtualClock>::clone(clock),
            rearm: Arc::clone(&wiring.rearm),
        };
        if shape.watchdogs.ib700 {
            let ib700 = Arc::new(Ib700::new(watchdog.clone()));
            assembly.add("ib700", &ib700::PORTS, &ib700)?;
            timed.push(ib700);
        }
        if shape.watchdogs.wdat {
            let wdat = Arc::new(Wdat::new(watchdog));
            assembly.add("wdat", &wdat::PORTS, &wdat)?;
            timed.push(wdat);
        }
        if let Some((items, memory)) = handover {
            let fw_cfg = Arc::new(FwCfg::with_memory(items, memory));
            assembly.add("fw_cfg", &fw_cfg::PORTS, &fw_cfg)?;
        }
        if let Some(output) = &wiring.debugcon {
            let debugcon = Arc::new(DebugCon::new(Arc::clone(output)));
            assembly.add("isa-debugcon", &debugcon::PORTS, &debugcon)?;
        }
        Ok(Self {
            pio: Arc::new(assembly.pio.build()),
            mmio: Arc::new(assembly.mmio.build()),
            resets: assembly.resets,
            clock: Arc::clone(clock),
            rtc,
            rtc_clock,
            rtc_goes_on: shape.rtc.goes_on(),
            serial,
            acpi_pm,
            timed,
        })
    }

    /// The I/O ports.
    pub(crate) fn pio(&self) -> &Arc<Bus> {
        &self.pio
    }

    /// The memory-mapped registers: of the I/O APIC, if it is not the accelerator's. Every other
    /// access reads as all ones.
    pub(crate) fn mmio(&self) -> &Arc<Bus> {
        &self.mmio
    }

    /// COM1, for its input.
    pub(crate) fn serial(&self) -> &Arc<Serial> {
        &self.serial
    }

    /// Presses the power button; `false` if the guest did not ask to be told of it.
    pub(crate) fn press_power_button(&self) -> bool {
        self.acpi_pm.press()
    }

    /// The guest goes to sleep: firmware of its own is to resume it and not to boot.
    pub(crate) fn mark_suspend(&self) {
        self.rtc.mark_suspend();
    }

    /// Takes that mark, as firmware does.
    pub(crate) fn take_suspend_mark(&self) {
        self.rtc.take_suspend_mark();
    }

    /// Tells the guest that it was woken, and why. For after the reset that waking begins with.
    pub(crate) fn wake(&self, reason: WakeupReason) {
        self.acpi_pm.wake(reason);
    }

    /// Resets every device.
    ///
    /// # Errors
    /// When the reset tree finds one device resetting another.
    pub(crate) fn reset(&self, kind: ResetType) -> Result<(), Error> {
        self.resets
            .reset(self.resets.root(), kind)
            .map_err(Error::Board)
    }

    /// When [`tick`](Self::tick) is due next for a device that follows the virtual clock, in
    /// nanoseconds of that clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let alarm = self.until_rtc().filter(|_| !self.rtc_goes_on);
        let alarm = alarm.map(|left| self.clock.now_ns().saturating_add(left));
        let timed = self.timed.iter().map(|device| device.next_deadline());
        timed.chain([alarm]).flatten().min()
    }

    /// Lets the devices do what is due.
    pub(crate) fn tick(&self) {
        self.timed.iter().for_each(|device| device.tick());
        self.tick_alarm();
    }

    /// How many nanoseconds the real-time clock has until it is due, if it follows the host's time
    /// and so goes on when all other time stands.
    pub(crate) fn until_alarm(&self) -> Option<u64> {
        self.until_rtc().filter(|_| self.rtc_goes_on)
    }

    fn until_rtc(&self) -> Option<u64> {
        let due = self.rtc.next_deadline()?;
        Some(due.saturating_sub(self.rtc_clock.now_ns()))
    }

    /// Lets the real-time clock alone do what is due.
    pub(crate) fn tick_alarm(&self) {
        self.rtc.tick();
    }

    /// Whether an alarm has gone off that the guest has not seen yet.
    pub(crate) fn alarm_stands(&self) -> bool {
        self.rtc.alarm_stands()
    }
}
