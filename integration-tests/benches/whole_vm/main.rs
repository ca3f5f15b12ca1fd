//! Whole-VM speed and memory: `vmm-bin` beside `qemu-system-x86_64 -M microvm`, with the same guest, the same client,
//! in one run, and beside the floor that no VMM can go below.
//!
//! The guest is `guests/spin.S`: 32-bit code that prints one byte and spins. Machines are noisy, so each figure
//! is a median, sides take turns, and what counts is the ratio.
//!
//! `integration-tests/bench.sh` runs this; it sets `VMM_BIN` and `SPIN_GUEST`.

mod floor;
mod load;
mod vm;

use std::error::Error;
use std::time::{Duration, Instant};

use load::Load;
use vm::{Side, Vm};

/// Whatever goes wrong ends the benchmark with its text.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Starts of a VMM per side.
const STARTS: usize = 15;
/// Resets per side.
const RESETS: usize = 60;
/// Commands of a kind per side.
const COMMANDS: usize = 500;
/// How often the load comes and goes.
const LOADS: usize = 5;

fn main() -> Outcome<()> {
    if let Some(path) = std::env::args()
        .skip_while(|word| word != floor::ECHO)
        .nth(1)
    {
        return floor::echo(&path);
    }
    // `cargo test --benches` starts benchmarks too; there is nothing to check then.
    if !std::env::args().any(|word| word == "--bench") {
        return Ok(());
    }
    let sides = Side::available()?;
    if sides.len() == 1 {
        println!("qemu-system-x86_64 is not installed: no comparison with it");
    }
    report(
        "exec to the first guest byte",
        &sides,
        None,
        &starts(&sides)?,
    );
    let resident = residents(&sides)?;
    let mut vms = Vec::new();
    for side in &sides {
        vms.push(Vm::start(side)?);
    }
    report(
        "reset to the first guest byte",
        &sides,
        None,
        &resets(&mut vms)?,
    );
    let round_trip = floor::socket_round_trip(COMMANDS)?;
    let floor = Some(("socket round trip", round_trip));
    report(
        "query-status",
        &sides,
        floor,
        &commands(&mut vms, &["query-status"])?,
    );
    report(
        "stop and cont, each",
        &sides,
        floor,
        &commands(&mut vms, &["stop", "cont"])?,
    );
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

/// Prints the medians of one figure and their ratios.
fn report(what: &str, sides: &[Side], floor: Option<(&str, Duration)>, medians: &[Duration]) {
    println!("\n{what}");
    if let Some((name, time)) = floor {
        println!("  {name:<20} {:>10.1} us", micros(time));
    }
    for (side, time) in sides.iter().zip(medians) {
        println!("  {:<20} {:>10.1} us", side.name, micros(*time));
    }
    if let (Some((name, floor)), Some(ours)) = (floor, medians.first()) {
        println!(
            "  vmm-bin / {name}  {}",
            ratio(micros(*ours), micros(floor))
        );
    }
    if let [ours, qemu] = medians {
        println!("  vmm-bin / qemu  {}", ratio(micros(*ours), micros(*qemu)));
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

/// From a command to its reply; the commands take turns, and so do the sides.
fn commands(vms: &mut [Vm], commands: &[&str]) -> Outcome<Vec<Duration>> {
    let mut times = vec![Vec::new(); vms.len()];
    for _ in 0..COMMANDS {
        for (vm, times) in vms.iter_mut().zip(&mut times) {
            for command in commands {
                let begin = Instant::now();
                vm.execute(command)?;
                times.push(begin.elapsed());
            }
        }
    }
    medians(times)
}
