//! The interval timer; pulse by pulse it is held to a model in the property tests.

use std::sync::Arc;

use devices::pit::{HZ, Pit, Wiring};
use devices::{
    BusDevice, Clock, IrqLine, IrqProbe, ManualClock, Notify, ResetType, Resettable, SaveRestore,
    Timed,
};

use crate::{inb, outb};

/// Counts how often it is told of a new deadline.
#[derive(Default)]
struct Told(IrqProbe);

impl Notify for Told {
    fn notify(&self) {
        self.0.set(true);
        self.0.set(false);
    }
}

struct Rig {
    irq: Arc<IrqProbe>,
    clock: Arc<ManualClock>,
    told: Arc<Told>,
    device: Pit,
}

const CONTROL: u64 = 3;
const SPEAKER: u64 = 4;

fn ns(pulses: u64) -> u64 {
    (pulses * 1_000_000_000).div_ceil(HZ)
}

impl Rig {
    fn new() -> Self {
        let (irq, told) = (Arc::new(IrqProbe::new()), Arc::new(Told::default()));
        let clock = Arc::new(ManualClock::new(0));
        let device = Pit::new(Wiring {
            irq: irq.clone(),
            clock: clock.clone(),
            rearm: told.clone(),
        });
        Self {
            irq,
            clock,
            told,
            device,
        }
    }

    /// A count, both bytes, in a mode of counter 0.
    fn start(&self, mode: u8, count: u16) {
        outb(&self.device, CONTROL, 0x30 | mode << 1);
        for byte in count.to_le_bytes() {
            outb(&self.device, 0, byte);
        }
    }

    /// Goes from deadline to deadline, up to `pulses` from the beginning. Returns how many.
    fn run_to(&self, pulses: u64) -> usize {
        let mut count = 0;
        while let Some(due) = self.device.next_deadline().filter(|due| *due <= ns(pulses)) {
            assert!(due > self.clock.now_ns(), "a deadline lies ahead");
            self.clock.set(due);
            self.device.tick();
            count += 1;
        }
        self.clock.set(ns(pulses));
        count
    }
}

#[test]
fn a_reset_counter_makes_the_pcs_18_ticks_a_second() {
    let rig = Rig::new();
    rig.device.reset(ResetType::Cold);
    assert!(rig.irq.level(), "high at first");
    assert_eq!(rig.run_to(HZ), 36);
    assert_eq!(rig.irq.edges(), 1 + 18);
}

#[test]
fn one_shot_counts_fire_once_and_at_their_pulse() {
    let rig = Rig::new();
    rig.device.reset(ResetType::Cold);
    rig.start(0, 1000);
    assert!(!rig.irq.level());
    // A count is loaded at the pulse after its write.
    assert_eq!(rig.device.next_deadline(), Some(ns(1)));
    rig.clock.set(ns(1));
    rig.device.tick();
    assert_eq!(rig.device.next_deadline(), Some(ns(1001)));
    rig.clock.set(ns(1001) - 1);
    rig.device.tick();
    assert!(!rig.irq.level());
    rig.clock.set(ns(1001));
    rig.device.tick();
    assert!(rig.irq.level());
    assert_eq!(rig.device.next_deadline(), None, "and that was it");
}

#[test]
fn a_new_count_takes_over_where_the_period_ends() {
    let rig = Rig::new();
    rig.device.reset(ResetType::Cold);
    let before = rig.irq.edges();
    rig.start(2, 100);
    assert_eq!(rig.run_to(50), 1, "the load");
    rig.start_count(1000);
    rig.run_to(102);
    assert_eq!(rig.irq.edges(), before + 1, "the period under way is whole");
    rig.run_to(1100);
    assert_eq!(rig.irq.edges(), before + 1);
    rig.run_to(1101);
    assert_eq!(rig.irq.edges(), before + 2);
}

#[test]
fn a_listener_that_counts_a_high_line_as_low_hears_of_the_whole_pulse() {
    let rig = Rig::new();
    rig.device.reset(ResetType::Cold);
    rig.irq.set(false);
    let before = rig.irq.edges();
    rig.run_to(0x8000);
    assert_eq!(rig.irq.edges(), before + 1, "the high half, as it ends");
    assert!(!rig.irq.level());
    rig.run_to(0x1_0000);
    assert_eq!(rig.irq.edges(), before + 2);
}

impl Rig {
    fn start_count(&self, count: u16) {
        for byte in count.to_le_bytes() {
            outb(&self.device, 0, byte);
        }
    }
}

#[test]
fn decimal_counts_count_in_tens() {
    let rig = Rig::new();
    // Counter 2, both bytes, mode 4, decimal: 0 is 10,000.
    outb(&rig.device, SPEAKER, 1);
    for (count, first) in [(0x0000_u16, 0x9999_u16), (0x1234, 0x1233), (0x1000, 0x0999)] {
        outb(&rig.device, CONTROL, 0xb9);
        for byte in count.to_le_bytes() {
            outb(&rig.device, 2, byte);
        }
        rig.clock.advance(ns(3) - 200);
        outb(&rig.device, CONTROL, 0x80);
        let left = u16::from_le_bytes([inb(&rig.device, 2), inb(&rig.device, 2)]);
        assert!(left == first || left == first - 1, "{count:#x}: {left:#x}");
    }
}

#[test]
fn the_status_says_whether_the_count_was_loaded() {
    let rig = Rig::new();
    outb(&rig.device, CONTROL, 0x14);
    let status = || {
        outb(&rig.device, CONTROL, 0xe2);
        inb(&rig.device, 0)
    };
    assert_eq!(status(), 0xd4, "no count");
    outb(&rig.device, 0, 50);
    assert_eq!(status(), 0xd4, "written");
    rig.clock.set(ns(1));
    assert_eq!(status(), 0x94, "loaded");
    // Status before count, and a second latch does not replace the first.
    outb(&rig.device, CONTROL, 0xc2);
    rig.clock.set(ns(20));
    outb(&rig.device, CONTROL, 0xc2);
    assert_eq!([inb(&rig.device, 0), inb(&rig.device, 0)], [0x94, 50]);
}

#[test]
fn the_owner_is_told_when_a_write_moves_the_deadline() {
    let rig = Rig::new();
    rig.start(0, 5);
    let told = rig.told.0.edges();
    assert!(told > 0);
    // What does not concern the interrupt line moves nothing.
    outb(&rig.device, CONTROL, 0xb6);
    outb(&rig.device, 2, 1);
    inb(&rig.device, 0);
    assert_eq!(rig.told.0.edges(), told);
}

/// Nobody has ticked for a year.
#[test]
fn a_tick_that_is_late_has_a_bound_and_leaves_the_line_right() {
    let rig = Rig::new();
    rig.start(3, 2);
    rig.run_to(10);
    let edges = rig.irq.edges();
    rig.clock.advance(31_536_000 * 1_000_000_000);
    rig.device.tick();
    assert!((1..4).contains(&(rig.irq.edges() - edges)));
    assert_eq!(rig.irq.level(), rig.device.save().line);
    assert!(rig.device.next_deadline().unwrap() > rig.clock.now_ns());
}

#[test]
fn the_end_of_time_is_no_deadline() {
    let rig = Rig::new();
    rig.clock.set(u64::MAX);
    rig.start(3, 0);
    rig.device.tick();
    assert_eq!(rig.device.next_deadline(), None);
    let mut data = [0; 8];
    rig.device.read(0, &mut data);
}

#[test]
fn a_restored_timer_goes_on_where_it_was() {
    let saved = Rig::new();
    saved.start(2, 1000);
    saved.run_to(300);
    let rig = Rig::new();
    rig.clock.set(saved.clock.now_ns());
    rig.device.restore(&saved.device.save()).unwrap();
    assert_eq!(rig.told.0.edges(), 1);
    assert_eq!(rig.device.next_deadline(), saved.device.next_deadline());
}
