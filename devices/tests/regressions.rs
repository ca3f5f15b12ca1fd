//! One test for each bug of another VMM that cannot happen here.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a test fails by panicking; and which of these fire depends on the features, so none can be expected"
)]

mod support;

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use devices::reset::MAX_RESETS;
use devices::{
    Bus, BusBuilder, BusDevice, Error, IrqProbe, ManualClock, Mapping, NoIrq, NoNotify, Output,
    OutputRing, PowerProbe, PowerRequest, PowerSink, ResetTree, ResetType, Resettable, SaveRestore,
    Timed,
};

use support::{HANG, inb, outb, within_reason};

/// propolis #90: a level was cleared on one side of a line while the other still drove it, because
/// devices reset at different times. Here every device has forgotten its state (enter) before the
/// first drives a line (hold).
#[test]
fn no_line_moves_before_every_device_is_clean() {
    struct Source {
        asserted: Mutex<bool>,
        sink: Arc<Sink>,
    }
    #[derive(Default)]
    struct Sink {
        pending: Mutex<u32>,
    }
    impl Resettable for Source {
        fn enter(&self, _kind: ResetType) {
            *self.asserted.lock().unwrap() = false;
        }
        fn hold(&self, _kind: ResetType) {
            assert_eq!(
                *self.sink.pending.lock().unwrap(),
                0,
                "the sink is clean already"
            );
        }
    }
    impl Resettable for Sink {
        fn enter(&self, _kind: ResetType) {
            *self.pending.lock().unwrap() = 0;
        }
    }
    let sink = Arc::new(Sink::default());
    let source = Arc::new(Source {
        asserted: Mutex::new(true),
        sink: Arc::clone(&sink),
    });
    *sink.pending.lock().unwrap() = 1;
    let tree = ResetTree::new();
    // The source is reset first, phase by phase.
    tree.add(tree.root(), "source", source.clone()).unwrap();
    tree.add(tree.root(), "sink", sink).unwrap();
    tree.reset(tree.root(), ResetType::Cold).unwrap();
    assert!(!*source.asserted.lock().unwrap());
}

/// propolis #1033: the keyboard controller was not reset at all, and nobody noticed. A device
/// without a reset is on the tree too, and is listed.
#[test]
fn a_device_without_a_reset_is_known() {
    let tree = ResetTree::new();
    tree.add_unreset(tree.root(), "debug-exit", "has no state")
        .unwrap();
    let names: Vec<_> = tree
        .unreset()
        .into_iter()
        .map(|unreset| unreset.name)
        .collect();
    assert_eq!(names, ["debug-exit"]);
}

/// openvmm #1044: removing some units stopped the others. OpenVMM #3491: a reset waited for a
/// device that was gone.
#[test]
fn removing_a_device_leaves_the_others_resettable() {
    struct Counts(Mutex<u32>);
    impl Resettable for Counts {
        fn exit(&self, _kind: ResetType) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let tree = ResetTree::new();
    let stays = Arc::new(Counts(Mutex::new(0)));
    tree.add(tree.root(), "stays", stays.clone()).unwrap();
    for round in 1..=10 {
        let goes = Arc::new(Counts(Mutex::new(0)));
        let node = tree.add(tree.root(), "goes", goes.clone()).unwrap();
        tree.assert(node, ResetType::Cold).unwrap();
        tree.remove(node).unwrap();
        tree.reset(tree.root(), ResetType::Cold).unwrap();
        assert_eq!(
            (*stays.0.lock().unwrap(), *goes.0.lock().unwrap()),
            (round, 0)
        );
        assert_eq!(Arc::strong_count(&goes), 1, "the tree has let go of it");
    }
}

/// CVE-2021-3750 and its family: a device's reset was entered again from inside itself. QEMU's own
/// resettable core asserts that it is not nested, and that no count passes 50: a guest that finds a
/// way there ends the VMM. Here both are errors. What a guest asks for during a reset is posted,
/// and served by the main loop later.
#[test]
fn a_reset_asked_for_during_a_reset_is_an_error_at_every_depth() {
    struct Nested {
        tree: Mutex<Option<Arc<ResetTree>>>,
        depth: Mutex<u32>,
    }
    impl Resettable for Nested {
        fn hold(&self, kind: ResetType) {
            *self.depth.lock().unwrap() += 1;
            let tree = self.tree.lock().unwrap().clone().unwrap();
            assert!(matches!(
                tree.reset(tree.root(), kind),
                Err(Error::InPhase(_))
            ));
        }
    }
    let tree = Arc::new(ResetTree::new());
    let nested = Arc::new(Nested {
        tree: Mutex::new(Some(tree.clone())),
        depth: Mutex::new(0),
    });
    let node = tree.add(tree.root(), "nested", nested.clone()).unwrap();
    let mut entered = 0;
    for depth in 1..=64 {
        let fits = depth <= MAX_RESETS;
        assert_eq!(
            tree.assert(node, ResetType::Cold).is_ok(),
            fits,
            "depth {depth}"
        );
        entered = *nested.depth.lock().unwrap();
    }
    assert_eq!(entered, 1);
    *nested.tree.lock().unwrap() = None;
}

/// cloud-hypervisor, cyberus-technology PR #96 and cloud-hypervisor #7638: the write to a reset
/// register waited for the VMM to act, so the vCPU could never be paused. A request is posted, and
/// the write is over.
#[cfg(all(
    feature = "i8042",
    feature = "port92",
    feature = "reset-control",
    feature = "debug-exit"
))]
#[test]
fn a_guests_power_request_does_not_wait_to_be_served() {
    within_reason(|| {
        let power = Arc::new(PowerProbe::new());
        let line = Arc::new(NoIrq);
        let keyboard = devices::i8042::I8042::new(line.clone(), line, power.clone());
        let port92 = devices::port92::Port92::new(power.clone());
        let cf9 = devices::reset_control::ResetControl::new(
            devices::reset_control::Chipset::Ich9,
            power.clone(),
        );
        let exit = devices::debug_exit::DebugExit::new(power.clone());
        for _ in 0..1_000 {
            outb(&keyboard, 4, 0xfe);
            outb(&port92, 0, 0);
            outb(&port92, 0, 1);
            outb(&cf9, 0, 6);
            outb(&exit, 0, 1);
        }
        assert_eq!(power.take().len(), 1024, "the probe is bounded too");
    });
}

/// CVE-2020-27174 (Firecracker) and CVE-2020-27173 (vm-superio): the receive buffer grew with
/// whatever was typed while the guest did not read.
#[cfg(feature = "serial")]
#[test]
fn typing_at_a_guest_that_does_not_read_takes_no_memory() {
    let port = devices::serial::Serial::new(Arc::new(NoIrq), Arc::new(OutputRing::new(0)));
    let mut taken = 0;
    for _ in 0..100_000 {
        taken += port.input(&[b'x'; 1000]);
    }
    assert_eq!((taken, port.save().received.len()), (64, 64));
    // Nor by a guest that talks to itself.
    outb(&port, 2, 2);
    outb(&port, 4, 0x10);
    for _ in 0..100_000 {
        outb(&port, 0, b'x');
    }
    assert_eq!(port.save().received.len(), 64);
}

/// cloud-hypervisor #1707 and #3004: nobody read the other end of the console, and the vCPU stood
/// still. The output takes what it can; the rest is counted, exactly.
#[cfg(all(feature = "serial", feature = "debugcon"))]
#[test]
fn a_reader_that_stopped_does_not_stop_the_guest() {
    within_reason(|| {
        let output = Arc::new(OutputRing::new(1000));
        let port = devices::serial::Serial::new(Arc::new(IrqProbe::new()), output.clone());
        let console = devices::debugcon::DebugCon::new(output.clone());
        for _ in 0..1_000_000 {
            outb(&port, 0, b'x');
        }
        outb(&console, 0, b'x');
        assert_eq!((output.len(), output.dropped()), (1000, 999_001));
        assert_eq!((port.lost(), console.lost()), (999_000, 1));
        // The guest still sees a transmitter that is ready.
        assert_eq!(inb(&port, 5), 0x60);
    });
}

/// CVE-2014-3672 (the guest fills the host's disk through stderr), firecracker #5799,
/// cloud-hypervisor #4787: a message for each access that nobody claims. Here it is a number; there
/// is nothing in the crate that prints or logs.
#[test]
fn accesses_to_nobody_are_counted_and_not_logged() {
    let bus = BusBuilder::pio().build();
    for port in 0..=0xffff {
        for _ in 0..10 {
            bus.write(port, &[0; 4]);
            let mut data = [0; 4];
            bus.read(port, &mut data);
            assert_eq!(data, [0xff; 4]);
        }
    }
    assert_eq!(
        (bus.unclaimed().reads, bus.unclaimed().writes),
        (655_360, 655_360)
    );

    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            for word in [
                "println!", "eprint", "print!", "dbg!", "log::", "warn!", "error!(",
            ] {
                assert!(!text.contains(word), "{} has {word}", path.display());
            }
        }
    }
    assert!(files > 20);
}

/// QEMU: a machine that was reset while it was suspended resumed into memory that was gone, because
/// the mark in CMOS byte 0x0F outlived every reset.
#[cfg(feature = "cmos-rtc")]
#[test]
fn the_mark_to_resume_outlives_no_reset_but_a_wakeups() {
    use devices::cmos_rtc::{CmosRtc, Memory, Wiring};
    let wiring = Wiring {
        irq: Arc::new(NoIrq),
        power: Arc::new(PowerProbe::new()),
        clock: Arc::new(ManualClock::new(0)),
        rearm: Arc::new(NoNotify),
    };
    let clock = CmosRtc::new(Memory::default(), wiring);
    let mark = || {
        outb(&clock, 0, 0x0f);
        inb(&clock, 1)
    };
    for (kind, after) in [
        (ResetType::Wakeup, 0xfe),
        (ResetType::Cold, 0),
        (ResetType::SnapshotLoad, 0),
    ] {
        clock.mark_suspend();
        assert_eq!(mark(), 0xfe);
        clock.reset(kind);
        assert_eq!(mark(), after, "{kind:?}");
    }
    // Nothing else outlives a wakeup either.
    outb(&clock, 0, 0x0f);
    outb(&clock, 1, 0x05);
    clock.reset(ResetType::Wakeup);
    assert_eq!(mark(), 0);
}

/// QEMU 7.2: a byte written to the high half of PM1_CNT was taken for the low half, so a guest that
/// powers off with a byte access did not.
#[cfg(feature = "acpi-pm")]
#[test]
fn a_byte_written_to_pm1_cnt_keeps_the_other_byte() {
    use devices::acpi_pm::{AcpiPm, PORTS, SleepTypes, Wiring};
    let power = Arc::new(PowerProbe::new());
    let wiring = Wiring {
        sci: Arc::new(NoIrq),
        power: power.clone(),
        clock: Arc::new(ManualClock::new(0)),
        rearm: Arc::new(NoNotify),
    };
    let pm = Arc::new(
        AcpiPm::new(
            SleepTypes {
                s5: 5,
                s3: None,
                s4: None,
            },
            wiring,
        )
        .unwrap(),
    );
    let mut bus = BusBuilder::pio();
    bus.map("acpi-pm", &PORTS, pm).unwrap();
    let bus = bus.build();
    let control = || {
        let mut data = [0; 2];
        bus.read(0x604, &mut data);
        u16::from_le_bytes(data)
    };
    bus.write(0x604, &[0x02]);
    bus.write(0x605, &[0x14]);
    assert_eq!(control(), 0x1403);
    bus.write(0x604, &[0x00]);
    assert_eq!((control(), power.take()), (0x1401, vec![]));
    bus.write(0x605, &[0x34]);
    assert_eq!(power.take(), [PowerRequest::Shutdown { exit_code: None }]);
    assert_eq!(control(), 0x1401);
    // The low byte alone never sleeps, whatever the high byte holds.
    bus.write(0x604, &[0xff]);
    assert_eq!(power.take(), []);
}

/// QEMU 7.2: `isa-debug-exit` left the process from the vCPU's thread, with disks unflushed. It is
/// a request, and the device goes on.
#[cfg(feature = "debug-exit")]
#[test]
fn debug_exit_is_a_request_and_the_device_goes_on() {
    let power = Arc::new(PowerProbe::new());
    let exit = devices::debug_exit::DebugExit::new(power.clone());
    for value in [0x10, 0x11] {
        outb(&exit, 0, value);
        let exit_code = Some(u32::from(value) * 2 + 1);
        assert_eq!(power.take(), [PowerRequest::Shutdown { exit_code }]);
    }
}

/// QEMU: the watchdog's action `poweroff` left the process from a timer, with disks unflushed and no
/// event. An expiry is a request, whether it comes from a tick or from the guest's own write, and
/// it is made without the device's lock: a sink may look at the device.
#[cfg(all(feature = "ib700", feature = "wdat"))]
#[test]
fn an_expiry_is_a_request_and_is_made_without_a_lock() {
    use std::sync::OnceLock;
    type Look = Box<dyn Fn() + Send + Sync>;
    #[derive(Default)]
    struct Looks {
        look: OnceLock<Look>,
        seen: PowerProbe,
    }
    impl PowerSink for Looks {
        fn power(&self, request: PowerRequest) {
            self.look.get().unwrap()();
            self.seen.power(request);
        }
    }
    within_reason(|| {
        let clock = Arc::new(ManualClock::new(0));
        let (sink, other) = (Arc::new(Looks::default()), Arc::new(Looks::default()));
        let ib700 = Arc::new(devices::ib700::Ib700::new(devices::ib700::Wiring {
            power: sink.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        }));
        let wdat = Arc::new(devices::wdat::Wdat::new(devices::wdat::Wiring {
            power: other.clone(),
            clock: clock.clone(),
            rearm: Arc::new(NoNotify),
        }));
        let look = Arc::clone(&ib700);
        let set = sink
            .look
            .set(Box::new(move || assert!(look.save() == look.save())));
        assert!(set.is_ok());
        let look = Arc::clone(&wdat);
        let set = other
            .look
            .set(Box::new(move || assert!(look.save() == look.save())));
        assert!(set.is_ok());
        // From a tick, and then from a write.
        outb(&*ib700, 2, 0);
        outb(&*wdat, 0, 1);
        clock.advance(60_000_000_000);
        ib700.tick();
        wdat.tick();
        outb(&*ib700, 2, 15);
        wdat.write(4, &[0, 0]);
        outb(&*wdat, 1, 1);
        for sink in [sink, other] {
            assert_eq!(sink.seen.take(), [PowerRequest::WatchdogExpired; 2]);
        }
    });
}

/// cloud-hypervisor #8092 and #3585: one lock before all devices, so a vCPU inside one device held
/// up every other, and the pause. A vCPU that is stuck in a device stops nobody.
#[test]
fn a_vcpu_inside_one_device_does_not_hold_up_another() {
    struct Stuck(Mutex<Sender<()>>, Mutex<Receiver<()>>);
    impl BusDevice for Stuck {
        fn read(&self, _offset: u64, data: &mut [u8]) {
            self.0.lock().unwrap().send(()).unwrap();
            self.1.lock().unwrap().recv_timeout(HANG).unwrap();
            data.fill(1);
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }
    struct Free;
    impl BusDevice for Free {
        fn read(&self, _offset: u64, data: &mut [u8]) {
            data.fill(2);
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }
    let ((inside, entered), (go_on, told)) = (channel(), channel());
    let mut bus = BusBuilder::mmio();
    let stuck = Arc::new(Stuck(Mutex::new(inside), Mutex::new(told)));
    bus.map("stuck", &[Mapping::new(0x1000, 8)], stuck).unwrap();
    bus.map("free", &[Mapping::new(0x2000, 8)], Arc::new(Free))
        .unwrap();
    let bus = Arc::new(bus.build());
    let other = Arc::clone(&bus);
    let vcpu = thread::spawn(move || {
        let mut data = [0];
        other.read(0x1000, &mut data);
        data[0]
    });
    entered.recv_timeout(HANG).unwrap();
    let mut data = [0];
    bus.read(0x2000, &mut data);
    assert_eq!(data, [2]);
    go_on.send(()).unwrap();
    assert_eq!(vcpu.join().unwrap(), 1);
}

/// firecracker #5764 (a UART that is stuck after a restore): the guest waits for an interrupt that
/// was pending when the state was saved.
#[cfg(feature = "serial")]
#[test]
fn an_interrupt_that_was_pending_when_saved_is_pending_when_restored() {
    for (enable, input) in [(0x01, &b"x"[..]), (0x02, b""), (0x03, b"x")] {
        let saved = devices::serial::Serial::new(Arc::new(NoIrq), Arc::new(OutputRing::new(1)));
        outb(&saved, 1, enable);
        saved.input(input);
        let irq = Arc::new(IrqProbe::new());
        let port = devices::serial::Serial::new(irq.clone(), Arc::new(OutputRing::new(1)));
        port.restore(&saved.save()).unwrap();
        assert!(irq.level(), "enable {enable}");
        assert_eq!(inb(&port, 2), inb(&saved, 2));
    }
}

/// QEMU gates a UART's two causes by priority; a model that shows both at once reads as a line
/// error (0x06), which drivers answer by clearing a condition that is not there.
#[cfg(feature = "serial")]
#[test]
fn two_interrupt_causes_do_not_read_as_a_line_error() {
    let port = devices::serial::Serial::new(Arc::new(NoIrq), Arc::new(OutputRing::new(1)));
    outb(&port, 1, 0x03);
    port.input(b"x");
    assert_eq!(inb(&port, 2) & 0x0f, 0x04);
}
