//! The machine on this host's KVM, with guests of a few 16- and 32-bit instructions.
//!
//! A machine without KVM cannot run them: each test says so and passes over it.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may fail by overflowing"
)]

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use devices::pvpanic::DEFAULT_EVENTS;
use devices::{NoNotify, OutputRing, PowerRequest, WakeupReason};
use vcpu::{VcpuEvent, VcpuState};
use vmm_sys_util::tempfile::TempFile;

use super::guests::{
    COUNT_AND_RESET, FIRMWARE, FIRMWARE_VECTOR, SLEEP, SLEEP_VECTOR, START_SECOND_CPU,
    TRIPLE_FAULT, WAIT_FOR_NMI,
};
use super::*;
use crate::platform::accel::KvmAccel;
use crate::platform::boot::{FlatImage, test_images::pvh_kernel};
use crate::platform::cpu::CpuFeatures;
use crate::platform::kvm::DEVICE;
use crate::platform::sys;
use crate::platform::vcpu_run::{GuestExit, Onward};

/// Longer than any host makes a test wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a test hears of its guest.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Power(PowerRequest),
    Exit(GuestExit),
    Failed(String),
    Output,
}

/// Passes it on.
struct Ear(Sender<Heard>);

impl GuestEvents for Ear {
    fn power(&self, request: PowerRequest) -> Onward {
        drop(self.0.send(Heard::Power(request)));
        Onward::Hold
    }

    fn vcpu_exit(&self, _cpu: VcpuId, exit: GuestExit) -> Onward {
        drop(self.0.send(Heard::Exit(exit)));
        Onward::Hold
    }

    fn enable_wakeup(&self, _reason: WakeupReason, _enabled: bool) {}
}

/// A machine under test.
struct Bench {
    machine: Machine,
    paused: Option<PauseGuard<Vcpu>>,
    heard: Receiver<Heard>,
    output: Arc<OutputRing>,
}

impl Bench {
    /// A machine that is paused, or nothing where there is no KVM.
    fn new(cpus: u32, boot: BootSource) -> Option<Self> {
        if !Path::new(DEVICE).exists() {
            eprintln!("skipped: this machine has no {}", DEVICE);
            return None;
        }
        let config = Config {
            accel: Choice::Kvm(DEVICE.into(), CpuFeatures::default()),
            memory: 4 << 20,
            backing: Backing::default(),
            cpus,
            boot,
            rtc: RtcTime::default(),
            watchdogs: Watchdogs::default(),
            uuid: [0; 16],
            pvpanic_events: DEFAULT_EVENTS,
        };
        let (sender, heard) = channel();
        let (said, failed) = (sender.clone(), sender.clone());
        let ready = Arc::new(move || drop(said.send(Heard::Output)));
        let output = Arc::new(OutputRing::with_notify(4096, ready));
        let outlets = Outlets {
            serial: Arc::<OutputRing>::clone(&output),
            serial_room: Arc::new(NoNotify),
            debugcon: None,
            rearm: Arc::new(NoNotify),
        };
        let on_vcpu = move |_: VcpuId, event: VcpuEvent| {
            drop(failed.send(Heard::Failed(format!("{event:?}"))));
        };
        let (machine, guard) =
            Machine::new(&config, &outlets, Arc::new(Ear(sender)), on_vcpu).unwrap();
        Some(Self {
            machine,
            paused: Some(guard),
            heard,
            output,
        })
    }

    /// A machine with one vCPU that runs `code` at 0x7c00 in real mode.
    fn real_mode(code: &'static [u8]) -> Option<Self> {
        let image = FlatImage {
            bytes: Cow::Borrowed(code),
            address: 0x7c00,
            segment: 0,
            offset: 0x7c00,
        };
        Self::new(1, BootSource::Flat(image))
    }

    fn kvm(&self) -> &KvmAccel {
        match &self.machine.accel {
            Accel::Kvm(kvm) => kvm,
            Accel::Qtest(_) => panic!("a bench has KVM"),
        }
    }

    fn resume(&mut self) {
        self.machine.start_clock().unwrap();
        self.machine.vcpus().release_held();
        drop(self.paused.take());
    }

    fn pause(&mut self) {
        let guard = self
            .machine
            .vcpus()
            .pause_all(Instant::now().checked_add(PATIENCE))
            .unwrap();
        self.paused = Some(guard);
        self.machine.stop_clock().unwrap();
    }

    fn reset(&mut self) {
        self.machine
            .reset(ResetType::Cold, Instant::now().checked_add(PATIENCE))
            .unwrap();
    }

    /// The next thing that is no output.
    fn hear(&self) -> Heard {
        loop {
            match self.heard.recv_timeout(PATIENCE).unwrap() {
                Heard::Output => {}
                heard => return heard,
            }
        }
    }

    /// What the guest has written so far.
    fn said(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.output.read(&mut bytes);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    /// Waits until the guest has written `wanted`.
    fn expect(&self, wanted: &str) {
        let mut said = String::new();
        while !said.contains(wanted) {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(Heard::Output) => said += &self.said(),
                Ok(other) => panic!("{other:?} instead of {wanted:?}, after {said:?}"),
                Err(RecvTimeoutError::Timeout) => panic!("{said:?} instead of {wanted:?}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn every_boot_is_the_first_one_again() {
    let Some(mut bench) = Bench::real_mode(COUNT_AND_RESET) else {
        return;
    };
    for boot in 0..20 {
        bench.resume();
        assert_eq!(
            bench.hear(),
            Heard::Power(PowerRequest::Reset),
            "boot {boot}"
        );
        bench.pause();
        // 'A': memory was zero. No '!': the vCPU held after its request.
        assert_eq!(bench.said(), "A", "boot {boot}");
        bench.reset();
    }
}

#[test]
fn a_held_vcpu_runs_on_when_its_request_is_dropped() {
    let Some(mut bench) = Bench::real_mode(COUNT_AND_RESET) else {
        return;
    };
    bench.resume();
    assert_eq!(bench.hear(), Heard::Power(PowerRequest::Reset));
    bench.machine.vcpus().release_held();
    let mut said = bench.said();
    while !said.contains('!') {
        assert_eq!(bench.heard.recv_timeout(PATIENCE).unwrap(), Heard::Output);
        said += &bench.said();
    }
    assert_eq!(said, "A!");
}

#[test]
fn a_triple_fault_is_reported_and_a_reset_revives_the_vcpu() {
    let Some(mut bench) = Bench::real_mode(TRIPLE_FAULT) else {
        return;
    };
    for _ in 0..3 {
        bench.resume();
        match bench.hear() {
            Heard::Exit(GuestExit::TripleFault) => {}
            // A KVM that emulates every instruction may say this instead.
            Heard::Failed(message) => assert!(message.contains("internal error"), "{message}"),
            other => panic!("{other:?}"),
        }
        bench.pause();
        bench.reset();
    }
}

#[test]
fn an_nmi_reaches_a_sleeping_guest() {
    let Some(mut bench) = Bench::real_mode(WAIT_FOR_NMI) else {
        return;
    };
    bench.resume();
    bench.expect("r");
    bench.machine.inject_nmi().unwrap();
    bench.expect("N");
    // One that was injected while the machine was paused arrives when it runs.
    bench.pause();
    bench.machine.inject_nmi().unwrap();
    bench.resume();
    bench.expect("N");
}

#[test]
fn the_second_vcpu_waits_for_its_start_up_at_every_boot() {
    let file = TempFile::new().unwrap();
    file.as_file()
        .write_all(&pvh_kernel(START_SECOND_CPU))
        .unwrap();
    let boot = BootSource::Kernel {
        firmware: None,
        kernel: file.as_path().to_path_buf(),
        initrd: None,
        command_line: String::new(),
    };
    let Some(mut bench) = Bench::new(2, boot) else {
        return;
    };
    for _ in 0..10 {
        bench.resume();
        assert_eq!(bench.hear(), Heard::Power(PowerRequest::Reset));
        bench.pause();
        assert_eq!(bench.said(), "ba");
        bench.reset();
    }
    let states = bench.machine.vcpus().states();
    assert!(
        states.iter().all(|(_, state)| *state == VcpuState::Paused),
        "{states:?}"
    );
}

#[test]
fn a_vcpu_that_was_not_started_gets_no_nmi() {
    let image = FlatImage {
        bytes: Cow::Borrowed(WAIT_FOR_NMI),
        address: 0x7c00,
        segment: 0,
        offset: 0x7c00,
    };
    let Some(mut bench) = Bench::new(2, BootSource::Flat(image)) else {
        return;
    };
    bench.resume();
    bench.expect("r");
    bench.machine.inject_nmi().unwrap();
    bench.expect("N");
    let deadline = Instant::now().checked_add(PATIENCE);
    let pending = |vcpu: &mut Vcpu| {
        vcpu.kvm()
            .unwrap()
            .fd()
            .get_vcpu_events()
            .unwrap()
            .nmi
            .pending
    };
    assert_eq!(
        bench
            .machine
            .vcpus()
            .run_on(VcpuId(1), deadline, pending)
            .unwrap(),
        0
    );
}

#[test]
fn the_power_button_is_lost_on_a_guest_that_does_not_listen() {
    let Some(bench) = Bench::real_mode(WAIT_FOR_NMI) else {
        return;
    };
    assert!(!bench.machine.press_power_button());
    assert!(
        bench
            .machine
            .until_next_deadline()
            .is_none_or(|left| left > 0)
    );
    bench.machine.tick();
}

#[test]
fn an_impossible_machine_is_one_clear_message() {
    let flat = |memory, cpus| {
        let image = FlatImage {
            bytes: Cow::Borrowed(&[0xf4]),
            address: 0x7c00,
            segment: 0,
            offset: 0x7c00,
        };
        let config = Config {
            accel: Choice::Kvm(DEVICE.into(), CpuFeatures::default()),
            memory,
            backing: Backing::default(),
            cpus,
            boot: BootSource::Flat(image),
            rtc: RtcTime::default(),
            watchdogs: Watchdogs::default(),
            uuid: [0; 16],
            pvpanic_events: DEFAULT_EVENTS,
        };
        let outlets = Outlets {
            serial: Arc::new(OutputRing::new(1)),
            serial_room: Arc::new(NoNotify),
            debugcon: None,
            rearm: Arc::new(NoNotify),
        };
        let ear = Arc::new(Ear(channel().0));
        Machine::new(&config, &outlets, ear, |_: VcpuId, _: VcpuEvent| {}).map(|_| ())
    };
    if !Path::new(DEVICE).exists() {
        eprintln!("skipped: this machine has no {}", DEVICE);
        return;
    }
    let no_cpu = flat(4 << 20, 0).unwrap_err().to_string();
    assert!(
        no_cpu.starts_with("0 vCPUs: this host allows 1 to "),
        "{no_cpu}"
    );
    assert!(flat(4 << 20, 255).is_err());
    assert!(
        flat(4096, 1)
            .unwrap_err()
            .to_string()
            .contains("the least is 2 MiB")
    );
    assert!(flat(1 << 60, 1).is_err());
    flat(2 << 20, 1).unwrap();
}

mod clocks;
mod sleep;
