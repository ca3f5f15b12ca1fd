//! Whole-VM speed and memory: `vmm-bin` beside `qemu-system-x86_64 -M microvm`, with the same guest, the same client,
//! in one run, and beside the floor that no VMM can go below.
//!
//! The guest is `guests/spin.S`: 32-bit code that prints one byte and spins. Machines are noisy, so each figure
//! is a median, sides take turns, and what counts is the ratio. Where commands are measured, the threads of each side
//! have the same places, and only the guest whose turn it is runs.
//!
//! `integration-tests/bench.sh` runs this; it sets `VMM_BIN` and `SPIN_GUEST`.

mod floor;
mod load;
#[path = "../../../vcpu/benches/floor/mod.rs"]
#[expect(
    unsafe_code,
    clippy::unwrap_used,
    dead_code,
    reason = "it is another benchmark's, and that may fail by unwrapping"
)]
mod pause;
mod placement;
#[path = "../../../vcpu/tests/real_guest/mod.rs"]
#[expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "it is a test's, and not all of it is needed"
)]
mod real_guest;
mod vm;

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

use load::Load;
use placement::Placement;
use vm::{Side, Vm};

/// Whatever goes wrong ends the benchmark with its text.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Starts of a VMM per side.
const STARTS: usize = 15;
/// Resets per side.
const RESETS: usize = 60;
/// Commands of a kind per side.
const COMMANDS: usize = 500;
/// Turns that the sides take.
const TURNS: usize = 10;
/// Commands at the beginning of a turn that are not measured.
const WARM_UP: usize = 5;
/// What a client asks for, again and again, and how long it waits before: a guest that was let go is to be at it again.
const CYCLES: [(&[&str], Duration); 2] = [
    (&["query-status"], Duration::ZERO),
    (&["stop", "cont"], Duration::from_micros(500)),
];
/// How often the load comes and goes.
const LOADS: usize = 5;

fn main() -> Outcome<()> {
    if let Some(path) = std::env::args()
        .skip_while(|word| word != floor::FLOOR)
        .nth(1)
    {
        return floor::serve(&path);
    }
    // `cargo test --benches` starts benchmarks too; there is nothing to check then.
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let mut sides = Side::available()?;
    if sides.len() == 1 {
        println!("qemu-system-x86_64 is not installed: no comparison with it");
    }
    report("exec to the first guest byte", &sides, &starts(&sides)?);
    let resident = residents(&sides)?;
    let mut vms = Vec::new();
    for side in &sides {
        vms.push(Vm::start(side)?);
    }
    report("reset to the first guest byte", &sides, &resets(&mut vms)?);
    sides.push(Side::floor()?);
    vms.extend(sides.last().map(Vm::start).transpose()?);
    in_each_placement(&sides, &mut vms)?;
    // Its guest would only spin.
    vms.truncate(1);
    for (what, names) in [
        ("stop and cont, each", &["stop", "cont"][..]),
        ("query-status", &["query-status"]),
    ] {
        if let Some(vm) = vms.first_mut() {
            under_load(what, vm, names)?;
        }
    }
    println!("\nresident memory without the guest's");
    for (side, bytes) in sides.iter().zip(&resident) {
        println!("  {:<12} {:>8.0} KiB", side.name, kib(*bytes));
    }
    if let [ours, qemu] = resident[..] {
        println!("  vmm-bin / qemu  {}", ratio(kib(ours), kib(qemu)));
    }
    Ok(())
}

/// Measures commands, beside the floor.
fn in_each_placement(sides: &[Side], vms: &mut [Vm]) -> Outcome<()> {
    for placement in Placement::available()? {
        let _in_place = placement.place_client()?;
        for vm in &*vms {
            vm.place(&placement)?;
        }
        println!("\n{}", placement.name);
        for (cycle, settle) in CYCLES {
            for (command, medians) in cycle.iter().zip(commands(vms, cycle, settle)?) {
                report(command, sides, &medians);
            }
        }
    }
    Ok(())
}

/// Prints the medians of one figure, and the ratios of ours to the others.
fn report(what: &str, sides: &[Side], medians: &[Duration]) {
    println!("\n{what}");
    for (side, time) in sides.iter().zip(medians) {
        println!("  {:<20} {:>10.1} us", side.name, micros(*time));
    }
    let figures = sides.iter().zip(medians);
    let (ours, others): (Vec<_>, Vec<_>) = figures.partition(|(side, _)| side.name == vm::OURS);
    for (_, ours) in ours {
        for (side, theirs) in &others {
            let ratio = ratio(micros(*ours), micros(**theirs));
            println!("  {} / {}  {ratio}", vm::OURS, side.name);
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Bytes as KiB; a process's memory fits.
fn kib(bytes: u64) -> f64 {
    u32::try_from(bytes >> 10).map_or(f64::INFINITY, f64::from)
}

fn ratio(ours: f64, theirs: f64) -> String {
    let ratio = ours / theirs;
    if ratio < 1.0 {
        format!("{ratio:.3} (1/{:.1})", theirs / ours)
    } else {
        format!("{ratio:.2}")
    }
}

/// The middle one.
fn median<T: Ord + Copy>(mut figures: Vec<T>) -> Outcome<T> {
    figures.sort_unstable();
    figures
        .get(figures.len() / 2)
        .copied()
        .ok_or_else(|| "nothing was measured".into())
}

fn medians<T: Ord + Copy>(figures: Vec<Vec<T>>) -> Outcome<Vec<T>> {
    figures.into_iter().map(median).collect()
}

/// Resident bytes without the guest's memory. How much of its program a process maps depends on where it
/// lies, which is random.
fn residents(sides: &[Side]) -> Outcome<Vec<u64>> {
    let mut bytes = vec![Vec::new(); sides.len()];
    for _ in 0..STARTS {
        for (side, bytes) in sides.iter().zip(&mut bytes) {
            bytes.push(Vm::start(side)?.resident_without_guest()?);
        }
    }
    medians(bytes)
}

/// From exec to the first byte that the guest prints.
fn starts(sides: &[Side]) -> Outcome<Vec<Duration>> {
    let mut times = vec![Vec::new(); sides.len()];
    for _ in 0..STARTS {
        for (side, times) in sides.iter().zip(&mut times) {
            let begin = Instant::now();
            let mut vm = Vm::spawn(side)?;
            vm.first_byte()?;
            times.push(begin.elapsed());
        }
    }
    medians(times)
}

/// From the command to the first byte that the guest prints after it.
fn resets(vms: &mut [Vm]) -> Outcome<Vec<Duration>> {
    let mut times = vec![Vec::new(); vms.len()];
    for _ in 0..RESETS {
        for (vm, times) in vms.iter_mut().zip(&mut times) {
            let begin = Instant::now();
            vm.execute("system_reset")?;
            vm.first_byte()?;
            times.push(begin.elapsed());
        }
    }
    medians(times)
}

/// From a command to its reply, with and without other clients that load the monitor, by turns.
fn under_load(what: &str, vm: &mut Vm, commands: &[&str]) -> Outcome<()> {
    let (mut idle, mut loaded) = (Vec::new(), Vec::new());
    for _ in 0..LOADS {
        timed(vm, commands, &mut idle)?;
        let load = Load::on(vm.socket())?;
        timed(vm, commands, &mut loaded)?;
        drop(load);
    }
    println!("\n{what}, vmm-bin, without and with the load of other clients");
    idle.sort_unstable();
    loaded.sort_unstable();
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let at = |times: &[Duration]| {
            let index = times.len().saturating_mul(percent) / 100;
            times.get(index).copied().map_or(f64::NAN, micros)
        };
        let (idle, loaded) = (at(&idle), at(&loaded));
        let ratio = ratio(loaded, idle);
        println!("  {name} {idle:>10.1} us {loaded:>10.1} us   loaded / idle  {ratio}");
    }
    Ok(())
}

fn timed(vm: &mut Vm, commands: &[&str], times: &mut Vec<Duration>) -> Outcome<()> {
    for _ in 0..COMMANDS / LOADS {
        for command in commands {
            let begin = Instant::now();
            vm.execute(command)?;
            times.push(begin.elapsed());
        }
    }
    Ok(())
}

/// From a command to its reply, for each command of a cycle and each VM. The VMs take turns, and while one is
/// measured the others stand.
fn commands(vms: &mut [Vm], cycle: &[&str], settle: Duration) -> Outcome<Vec<Vec<Duration>>> {
    for vm in &*vms {
        vm.hold()?;
    }
    let mut times = vec![vec![Vec::new(); vms.len()]; cycle.len()];
    for _ in 0..TURNS {
        for (number, vm) in vms.iter_mut().enumerate() {
            vm.let_go()?;
            for round in 0..WARM_UP.saturating_add(COMMANDS / TURNS) {
                sleep(settle);
                for (command, times) in cycle.iter().zip(&mut times) {
                    let begin = Instant::now();
                    vm.execute(command)?;
                    let time = begin.elapsed();
                    if let (true, Some(times)) = (round >= WARM_UP, times.get_mut(number)) {
                        times.push(time);
                    }
                }
            }
            vm.hold()?;
        }
    }
    for vm in vms {
        vm.let_go()?;
    }
    times.into_iter().map(medians).collect()
}
