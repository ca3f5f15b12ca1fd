//! The devices, wired up beside the model.

use std::sync::Arc;

use devices::acpi_pm::{self, AcpiPm, SleepTypes};
use devices::cmos_rtc::{self, CmosRtc, Memory};
use devices::debug_exit::{self, DebugExit};
use devices::debugcon::{self, DebugCon};
use devices::fw_cfg::{self, FwCfg};
use devices::i8042::{self, I8042};
use devices::ib700::{self, Ib700};
use devices::port92::{self, Port92};
use devices::pvpanic::{self, PvPanic};
use devices::reset_control::{self, Chipset, ResetControl};
use devices::serial::{self, Serial};
use devices::wdat::{self, Wdat};
use devices::{
    Bus, BusBuilder, Clock, IrqProbe, ManualClock, NoNotify, OutputRing, PowerProbe, PowerRequest,
    ResetTree, ResetType, SaveRestore, Timed, WakeupReason,
};

use super::Op;
use super::oracle::Oracle;

/// The latest wall-clock time: 2554, when 64 bits of nanoseconds end, is left to other tests.
const LAST_WALL: u64 = 1 << 62;

/// All devices on one bus, with the model.
pub(crate) struct Rig {
    bus: Bus,
    tree: ResetTree,
    oracle: Oracle,
    virtual_clock: Arc<ManualClock>,
    wall_clock: Arc<ManualClock>,
    power: Arc<PowerProbe>,
    clock_power: Arc<PowerProbe>,
    /// What each watchdog asks for.
    expiries: [Arc<PowerProbe>; 2],
    sci: Arc<IrqProbe>,
    serial_irq: Arc<IrqProbe>,
    sent: Arc<OutputRing>,
    console: Arc<OutputRing>,
    pm: Arc<AcpiPm>,
    clock: Arc<CmosRtc>,
    serial: Arc<Serial>,
    keyboard: Arc<I8042>,
    port92: Arc<Port92>,
    reset_control: Arc<ResetControl>,
    ib700: Arc<Ib700>,
    wdat: Arc<Wdat>,
    fw_cfg: Arc<FwCfg>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let virtual_clock = Arc::new(ManualClock::new(0));
        let wall_clock = Arc::new(ManualClock::new(1_700_000_000_000_000_000));
        let (power, clock_power) = (Arc::new(PowerProbe::new()), Arc::new(PowerProbe::new()));
        let (sci, serial_irq) = (Arc::new(IrqProbe::new()), Arc::new(IrqProbe::new()));
        let sent = Arc::new(OutputRing::new(64));
        let console = Arc::new(OutputRing::new(64));
        let wiring = acpi_pm::Wiring {
            sci: sci.clone(),
            power: power.clone(),
            clock: virtual_clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let pm = Arc::new(AcpiPm::new(SleepTypes::QEMU, wiring).unwrap());
        let wiring = cmos_rtc::Wiring {
            irq: Arc::new(IrqProbe::new()),
            power: clock_power.clone(),
            clock: wall_clock.clone(),
            rearm: Arc::new(NoNotify),
        };
        let clock = Arc::new(CmosRtc::new(
            Memory {
                below_4g: 1 << 30,
                above_4g: 0,
            },
            wiring,
        ));
        let serial = Arc::new(Serial::new(serial_irq.clone(), sent.clone()));
        let line = || Arc::new(IrqProbe::new());
        let keyboard = Arc::new(I8042::new(line(), line(), power.clone()));
        let port92 = Arc::new(Port92::new(power.clone()));
        let reset_control = Arc::new(ResetControl::new(Chipset::Ich9, power.clone()));
        let pvpanic = Arc::new(PvPanic::with_events(7, power.clone()).unwrap());
        let expiries = [Arc::new(PowerProbe::new()), Arc::new(PowerProbe::new())];
        let ib700 = Arc::new(Ib700::new(ib700::Wiring {
            power: expiries[0].clone(),
            clock: virtual_clock.clone(),
            rearm: Arc::new(NoNotify),
        }));
        let wdat = Arc::new(Wdat::new(wdat::Wiring {
            power: expiries[1].clone(),
            clock: virtual_clock.clone(),
            rearm: Arc::new(NoNotify),
        }));
        let debug_exit = Arc::new(DebugExit::new(power.clone()));
        let debugcon = Arc::new(DebugCon::new(console.clone()));

        let fw_cfg = Arc::new(FwCfg::new(super::firmware::items()));

        let mut bus = BusBuilder::pio();
        bus.map("i8042", &i8042::PORTS, keyboard.clone()).unwrap();
        bus.map("cmos-rtc", &cmos_rtc::PORTS, clock.clone())
            .unwrap();
        bus.map("port92", &port92::PORTS, port92.clone()).unwrap();
        bus.map("serial", &serial::COM1, serial.clone()).unwrap();
        bus.map("debugcon", &debugcon::PORTS, debugcon).unwrap();
        bus.map("debug-exit", &debug_exit::PORTS, debug_exit)
            .unwrap();
        bus.map("fw_cfg", &fw_cfg::PORTS, fw_cfg.clone()).unwrap();
        bus.map("pvpanic", &pvpanic::PORTS, pvpanic).unwrap();
        bus.map("ib700", &ib700::PORTS, ib700.clone()).unwrap();
        bus.map("wdat", &wdat::PORTS, wdat.clone()).unwrap();
        bus.map("acpi-pm", &acpi_pm::PORTS, pm.clone()).unwrap();
        bus.map(
            "reset-control",
            &reset_control::PORTS,
            reset_control.clone(),
        )
        .unwrap();

        let tree = ResetTree::new();
        let root = tree.root();
        tree.add(root, "i8042", keyboard.clone()).unwrap();
        tree.add(root, "cmos-rtc", clock.clone()).unwrap();
        tree.add(root, "port92", port92.clone()).unwrap();
        tree.add(root, "serial", serial.clone()).unwrap();
        tree.add(root, "acpi-pm", pm.clone()).unwrap();
        tree.add(root, "reset-control", reset_control.clone())
            .unwrap();
        tree.add(root, "ib700", ib700.clone()).unwrap();
        tree.add(root, "wdat", wdat.clone()).unwrap();
        tree.add(root, "fw_cfg", fw_cfg.clone()).unwrap();
        Self {
            bus: bus.build(),
            tree,
            oracle: Oracle::default(),
            virtual_clock,
            wall_clock,
            power,
            clock_power,
            expiries,
            sci,
            serial_irq,
            sent,
            console,
            pm,
            clock,
            serial,
            keyboard,
            port92,
            reset_control,
            ib700,
            wdat,
            fw_cfg,
        }
    }

    pub(crate) fn perform(&mut self, op: Op) {
        match op {
            Op::Out { port, width, value } => {
                let data = &value.to_le_bytes()[..width];
                self.bus.write(port.into(), data);
                self.oracle.write(port, data);
            }
            Op::In { port, width } => self.read(port, width),
            Op::Advance { ns } => {
                self.virtual_clock.advance(ns);
                self.wall_clock
                    .set(self.wall_clock.now_ns().saturating_add(ns).min(LAST_WALL));
            }
            Op::SetWall { ns } => self.wall_clock.set(ns.min(LAST_WALL)),
            Op::Tick => self.tick(),
            Op::Sleep => self.sleep(),
            Op::Press => assert_eq!(self.pm.press(), self.oracle.pm.press()),
            Op::Type { len } => {
                let typed: Vec<u8> = (0..len).collect();
                let room = self.oracle.serial.room();
                assert_eq!(self.serial.input_room(), room);
                assert_eq!(self.serial.input(&typed), room.min(typed.len()));
                self.oracle.serial.receive(&typed);
            }
            Op::Reset { kind } => {
                let kinds = [ResetType::Cold, ResetType::Wakeup, ResetType::SnapshotLoad];
                let kind = kinds[usize::from(kind) % 3];
                self.reset(kind);
                let resumes = self.clock.take_suspend_mark();
                assert!(!resumes || kind == ResetType::Wakeup);
            }
            Op::Wake { reason } => {
                let reasons = [
                    (WakeupReason::Rtc, 0x8400),
                    (WakeupReason::PmTimer, 0x8001),
                    (WakeupReason::Other, 0x8100),
                ];
                let (reason, status) = reasons[usize::from(reason) % 3];
                self.clock.mark_suspend();
                self.reset(ResetType::Wakeup);
                self.pm.wake(reason);
                self.oracle.pm.set_status(status);
                assert!(self.clock.take_suspend_mark());
                assert!(!self.clock.take_suspend_mark());
            }
            Op::Restore => self.restore(),
        }
        self.compare(op);
    }

    fn reset(&mut self, kind: ResetType) {
        self.tree.reset(self.tree.root(), kind).unwrap();
        let power = std::mem::take(&mut self.oracle.power);
        self.oracle.reset();
        self.oracle.power = power;
    }

    fn now(&mut self) -> u64 {
        self.oracle.virtual_ns = self.virtual_clock.now_ns();
        self.oracle.virtual_ns
    }

    fn read(&mut self, port: u16, width: usize) {
        self.now();
        let mut data = vec![0xaa; width];
        self.bus.read(port.into(), &mut data);
        let expected = self.oracle.read(port, width);
        for (found, expected) in data.iter().zip(&expected) {
            if let Some(expected) = expected {
                assert_eq!(found, expected, "{port:#x}: {data:x?}, not {expected:x?}");
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        let pm = &mut self.oracle.pm;
        if pm.timer_enabled() && pm.timer_due(now) && !pm.told {
            pm.told = true;
            self.oracle
                .power
                .push(PowerRequest::Wakeup(WakeupReason::PmTimer));
        }
        self.oracle.ib700.pass(now);
        self.oracle.wdat.pass(now);
        self.pm.tick();
        self.clock.tick();
        self.ib700.tick();
        self.wdat.tick();
        // Whoever ticks must not be asked to do it again at once: the main loop would spin.
        let wall = self.wall_clock.now_ns();
        assert!(self.pm.next_deadline().is_none_or(|at| at > now));
        assert!(self.clock.next_deadline().is_none_or(|at| at > wall));
        assert!(self.ib700.next_deadline().is_none_or(|at| at > now));
        assert!(self.wdat.next_deadline().is_none_or(|at| at > now));
    }

    fn sleep(&mut self) {
        let now = self.virtual_clock.now_ns();
        let timed: [&dyn Timed; 3] = [&*self.pm, &*self.ib700, &*self.wdat];
        let deadlines = timed.iter().filter_map(|device| device.next_deadline());
        if let Some(at) = deadlines.min().filter(|at| *at > now) {
            self.virtual_clock.set(at);
        }
        let wall = self.wall_clock.now_ns();
        if let Some(at) = self
            .clock
            .next_deadline()
            .filter(|at| (wall..LAST_WALL).contains(at))
        {
            self.wall_clock.set(at);
        }
        self.tick();
    }

    fn restore(&mut self) {
        fn check<D: SaveRestore>(device: &D) {
            let state = device.save();
            device.restore(&state).unwrap();
            assert_eq!(device.save(), state);
        }
        check(&*self.pm);
        check(&*self.clock);
        check(&*self.serial);
        check(&*self.keyboard);
        check(&*self.port92);
        check(&*self.reset_control);
        check(&*self.ib700);
        check(&*self.wdat);
        check(&*self.fw_cfg);
        self.oracle.pm.told = false;
    }

    fn compare(&mut self, op: Op) {
        let now = self.now();
        assert_eq!(
            self.power.take(),
            std::mem::take(&mut self.oracle.power),
            "after {op:?}"
        );
        assert!(
            self.clock_power
                .take()
                .iter()
                .all(|r| *r == PowerRequest::Wakeup(WakeupReason::Rtc)),
            "after {op:?}"
        );
        self.compare_watchdogs(op);
        assert_eq!(
            take(&self.console),
            std::mem::take(&mut self.oracle.console)
        );
        assert_eq!(
            take(&self.sent),
            std::mem::take(&mut self.oracle.serial.sent)
        );
        assert_eq!(
            self.serial_irq.level(),
            self.oracle.serial.level(),
            "after {op:?}"
        );
        if !matches!(op, Op::Advance { .. } | Op::In { .. }) {
            // The timer's bit appears as time passes, and its interrupt at the next tick.
            self.pm.tick();
            let pm = &mut self.oracle.pm;
            if pm.timer_enabled() && pm.timer_due(now) && !pm.told {
                pm.told = true;
                self.power.take();
            }
            assert_eq!(self.sci.level(), pm.sci(now), "after {op:?}");
        }
        let unclaimed = self.bus.unclaimed();
        assert_eq!(
            (unclaimed.reads, unclaimed.writes),
            self.oracle.unclaimed,
            "after {op:?}"
        );
    }

    fn compare_watchdogs(&mut self, op: Op) {
        let deadlines = [self.ib700.next_deadline(), self.wdat.next_deadline()];
        let oracle = &mut self.oracle;
        let countdowns = [&mut oracle.ib700.countdown, &mut oracle.wdat.countdown];
        for ((power, deadline), countdown) in self.expiries.iter().zip(deadlines).zip(countdowns) {
            let expected = vec![PowerRequest::WatchdogExpired; countdown.ended];
            assert_eq!(power.take(), expected, "after {op:?}");
            countdown.ended = 0;
            assert_eq!(deadline, countdown.end(), "after {op:?}");
        }
    }
}

fn take(ring: &OutputRing) -> Vec<u8> {
    assert_eq!(ring.dropped(), 0);
    let mut bytes = vec![0; 64];
    let len = ring.read(&mut bytes);
    bytes.truncate(len);
    bytes
}
