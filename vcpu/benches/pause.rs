//! What a pause costs, against the floor: the same kernel work by a small program of its own, in the same run.
//!
//! The floor: store a request, set `immediate_exit`, signal; the vCPU's KVM_RUN returns EINTR, and it acknowledges
//! with a store and a futex wake; for several vCPUs all are asked first and waited for then. Both sides run the same guest, which
//! spins or halts, are in the guest when the clock starts, and take turns, so that the machine's noise hits both. With more vCPUs
//! that spin than free CPUs, both measure the scheduler.
//!
//! What a further vCPU costs over the floor is given in signals, the least that its pause takes.
//!
//! `cargo bench -p vcpu --features kvm --bench pause`
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by unwrapping, and prints ratios"
)]
#![expect(
    unsafe_code,
    reason = "the floor is what one writes without this crate"
)]

mod floor;
#[path = "../tests/real_guest/mod.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod real_guest;

use std::thread;
use std::time::{Duration, Instant};

use floor::Floor;
use real_guest::{Machine, soon};
use vcpu::kvm::{KvmExit, KvmVcpu};
use vcpu::{Control, PauseGuard, Phase, VcpuId, VcpuSet};

/// `jmp $`.
const SPIN: &[u8] = &[0xeb, 0xfe];
/// `hlt`, and again: no interrupt ends it.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];
/// So long each number of vCPUs is measured: more rounds on a faster machine.
const BUDGET: Duration = Duration::from_secs(4);
/// Between the entry of the last vCPU and the next pause.
const SETTLE: Duration = Duration::from_micros(150);

/// Lets all of the floor run for a moment, and times their pause.
fn floor_round(floors: &mut [Floor]) -> Duration {
    floors.iter().for_each(Floor::go_on);
    while !floors.iter().all(Floor::in_guest) {
        thread::yield_now();
    }
    thread::sleep(SETTLE);
    let start = Instant::now();
    floors.iter_mut().for_each(Floor::request);
    floors.iter().for_each(Floor::wait);
    start.elapsed()
}

fn quiet(exit: KvmExit<'_>) -> Control {
    Control::Failed(exit.failure())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64
}

type Vcpu = KvmVcpu<fn(KvmExit<'_>) -> Control>;

/// One set, paused by default, so that only the side that is being measured is busy.
struct Side {
    machine: Machine,
    set: VcpuSet<Vcpu>,
    parked: Option<PauseGuard<Vcpu>>,
}

impl Side {
    fn new(count: u32, code: &[u8]) -> Self {
        let machine = machine();
        let (set, parked) = VcpuSet::new_paused(|_, _| {});
        for id in 0..count {
            let vcpu = machine.vcpu(id.into(), code, quiet as fn(KvmExit<'_>) -> Control);
            set.add(VcpuId(id), vcpu).unwrap();
        }
        Self {
            machine,
            set,
            parked: Some(parked),
        }
    }

    /// Lets the vCPUs run for a moment, and times their pause.
    fn round(&mut self) -> Duration {
        drop(self.parked.take());
        while self
            .set
            .vcpus()
            .iter()
            .any(|vcpu| vcpu.word().phase() != Phase::Guest)
        {
            thread::yield_now();
        }
        thread::sleep(SETTLE);
        let start = Instant::now();
        self.parked = Some(self.set.pause_all(soon()).unwrap());
        start.elapsed()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.set.shutdown(soon()).unwrap();
        let _ = &self.machine;
    }
}

/// With interrupt controllers in the kernel: a vCPU that halts waits there.
fn machine() -> Machine {
    Machine::new(true).expect("this benchmark needs /dev/kvm")
}

/// Measures pauses of so many vCPUs: ours, the floor's, and a signal, in nanoseconds.
fn measure(count: u32, code: &[u8]) -> (f64, f64, f64, usize) {
    let floor_machine = machine();
    let mut floors: Vec<_> = (0..count)
        .map(|id| Floor::new(&floor_machine, id.into(), code))
        .collect();
    let mut side = Side::new(count, code);
    let (mut ours, mut floor, mut signals) = (Vec::new(), Vec::new(), Vec::new());
    let begin = Instant::now();
    while begin.elapsed() < BUDGET {
        floor.push(floor_round(&mut floors));
        ours.push(side.round());
        // What one signal more costs its sender.
        let start = Instant::now();
        floors[0].signal();
        signals.push(start.elapsed());
    }
    (
        median(&mut ours),
        median(&mut floor),
        median(&mut signals),
        signals.len(),
    )
}

fn main() {
    // `cargo test --benches` starts benchmarks too; there is nothing to check then.
    if !std::env::args().any(|word| word == "--bench") {
        return;
    }
    println!("medians, sides in turns; (ours - floor) a vCPU in signals");
    for (what, code) in [("busy", SPIN), ("halted", HALT)] {
        for count in [1, 2, 8, 64] {
            let (ours, floor, signal, rounds) = measure(count, code);
            println!(
                "pause of {count:>2} {what:<6} / the floor of as many: {:.2}  (floor {:.1} us; {:+.2} signals of {:.1} us a vCPU; {rounds} rounds)",
                ours / floor,
                floor / 1e3,
                (ours - floor) / signal / f64::from(count),
                signal / 1e3,
            );
        }
    }
}
