//! Pauses, kicks and who is blamed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use vcpu::kvm::KvmExit;
use vcpu::{Control, VcpuId, VcpuSet, VcpuState};

use crate::real_guest::{CODE, eventually, soon};
use crate::{HALT, MMIO_STORM, PIO_STORM, SPIN, quiet, rounds};

#[test]
fn ten_thousand_pauses_of_a_spinning_guest_lose_no_kick() {
    let machine = machine!(false);
    let (set, initial) = VcpuSet::new_paused(|_, _| {});
    set.add(VcpuId(0), machine.vcpu(0, SPIN, quiet)).unwrap();
    initial.resume();
    for round in 0..rounds(10_000) {
        let guard = set
            .pause_all(soon())
            .unwrap_or_else(|error| panic!("{round}: {error}"));
        if round % 100 == 0 {
            let (before, after) = machine.counter_while(Duration::from_millis(1));
            assert_eq!(before, after, "guest code ran while paused");
        }
        guard.resume();
    }
    let start = machine.counter();
    eventually("the guest runs on", || machine.counter() != start);
    set.shutdown(soon()).unwrap();
}

#[test]
fn pauses_in_a_storm_of_port_accesses() {
    // The instruction after the access, and those after that.
    pauses_in_a_storm(PIO_STORM, [CODE, CODE + 2, CODE + 6]);
}

#[test]
fn pauses_in_a_storm_of_memory_accesses() {
    pauses_in_a_storm(MMIO_STORM, [CODE, CODE + 4, CODE + 8]);
}

fn pauses_in_a_storm(code: &[u8], instructions: [u64; 3]) {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let exits = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&exits);
    let handler = move |exit: KvmExit<'_>| {
        seen.fetch_add(1, Ordering::Relaxed);
        quiet(exit)
    };
    set.add(VcpuId(0), machine.vcpu(0, code, handler)).unwrap();
    for _ in 0..rounds(2_000) {
        let guard = set.pause_all(soon()).unwrap();
        let before = exits.load(Ordering::Relaxed);
        let rip = set
            .run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_regs().unwrap().rip)
            .unwrap();
        // Never in the middle of the access: it is complete, so the next instruction is another.
        assert!(instructions.contains(&rip), "{rip:#x}");
        assert_eq!(before, exits.load(Ordering::Relaxed));
        guard.resume();
    }
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_guest_that_halts_in_the_kernel_is_paused_and_resumed() {
    let machine = machine!(true);
    let set = VcpuSet::new(|_, _| {});
    set.add(VcpuId(0), machine.vcpu(0, HALT, quiet)).unwrap();
    for _ in 0..rounds(1_000) {
        set.pause_all(soon()).unwrap().resume();
    }
    eventually("KVM says that it is halted", || {
        let state = set.run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_mp_state().unwrap());
        state.unwrap().mp_state == kvm_bindings::KVM_MP_STATE_HALTED
    });
    // A kick does not end the halt: the state is the same after a pause.
    let guard = set.pause_all(soon()).unwrap();
    let state = set
        .run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_mp_state().unwrap())
        .unwrap();
    assert_eq!(state.mp_state, kvm_bindings::KVM_MP_STATE_HALTED);
    drop(guard);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_guest_that_halts_without_an_irqchip_sleeps_in_user_space() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let halts = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&halts);
    let handler = move |exit: KvmExit<'_>| match exit {
        KvmExit::Hlt => {
            seen.fetch_add(1, Ordering::SeqCst);
            Control::Halted
        }
        other => quiet(other),
    };
    let vcpu = set.add(VcpuId(0), machine.vcpu(0, HALT, handler)).unwrap();
    for wanted in 1..100 {
        eventually("it halts", || vcpu.state() == VcpuState::Halted);
        assert_eq!(halts.load(Ordering::SeqCst), wanted);
        set.pause_all(soon()).unwrap().resume();
        vcpu.notify();
        eventually("it halts again", || halts.load(Ordering::SeqCst) > wanted);
    }
    set.shutdown(soon()).unwrap();
}

#[test]
fn four_vcpus_pause_together_and_run_closures_in_parallel() {
    let machine = machine!(true);
    let set = VcpuSet::new(|_, _| {});
    for id in 0..4_u8 {
        let vcpu = machine.vcpu(id.into(), if id % 2 == 0 { SPIN } else { PIO_STORM }, quiet);
        set.add(VcpuId(id.into()), vcpu).unwrap();
    }
    for round in 0..500 {
        let guard = set.pause_all(soon()).unwrap();
        if round % 50 == 0 {
            let (before, after) = machine.counter_while(Duration::from_millis(1));
            assert_eq!(before, after);
            for (_, regs) in set.run_on_all(soon(), |vcpu| vcpu.fd().get_regs().unwrap()) {
                assert!(regs.unwrap().rip >= CODE);
            }
        }
        guard.resume();
        set.exclusive(soon(), || ()).unwrap();
    }
    set.shutdown(soon()).unwrap();
}

#[test]
fn hot_add_and_remove_leaves_no_thread() {
    let machine = machine!(true);
    let set = VcpuSet::new(|_, _| {});
    set.add(VcpuId(0), machine.vcpu(0, SPIN, quiet)).unwrap();
    let mut spare = Some(machine.vcpu(1, SPIN, quiet));
    for _ in 0..200 {
        let guard = set.pause_all(soon()).unwrap();
        set.add(VcpuId(1), spare.take().unwrap()).unwrap();
        guard.resume();
        // KVM keeps a vCPU's number for good: the removed vCPU is given back, and used again.
        spare = Some(set.remove(VcpuId(1), soon()).unwrap());
        set.pause_all(soon()).unwrap().resume();
    }
    assert_eq!(set.vcpus().len(), 1);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_storm_of_signals_at_every_thread_changes_nothing() {
    let machine = machine!(true);
    let set = VcpuSet::new(|_, _| {});
    for id in 0..2_u8 {
        set.add(VcpuId(id.into()), machine.vcpu(id.into(), SPIN, quiet))
            .unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let storm = Arc::clone(&stop);
    let (process, signal) = (std::process::id(), libc::SIGRTMIN());
    let storm = thread::spawn(move || {
        while !storm.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let Ok(thread) = entry.file_name().to_string_lossy().parse::<i32>() else {
                    continue;
                };
                // SAFETY: plain numbers; the signal has a handler that does nothing.
                unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
            }
            thread::sleep(Duration::from_micros(500));
        }
    });
    let start = Instant::now();
    let mut rounds = 0;
    while rounds < 1_000 && start.elapsed() < Duration::from_secs(15) {
        set.pause_all(soon()).unwrap().resume();
        set.run_on(VcpuId(1), soon(), |vcpu| vcpu.fd().get_regs().unwrap())
            .unwrap();
        rounds += 1;
    }
    let count = machine.counter();
    eventually("the guest still makes progress", || {
        machine.counter() != count
    });
    stop.store(true, Ordering::Relaxed);
    storm.join().unwrap();
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_stuck_handler_is_named_with_its_port() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    let handler = move |exit: KvmExit<'_>| {
        if let KvmExit::IoOut { port: 0x80, .. } = exit {
            entered.send(()).unwrap();
            released.recv().ok();
        }
        quiet(exit)
    };
    set.add(VcpuId(0), machine.vcpu(0, PIO_STORM, handler))
        .unwrap();
    has_entered.recv().unwrap();
    let deadline = Instant::now().checked_add(Duration::from_millis(50));
    let error = set.pause_all(deadline).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not in time: vCPU 0 in its exit handler (last exit: port access at 0x80)"
    );
    drop(release);
    set.pause_all(soon()).unwrap().resume();
    set.shutdown(soon()).unwrap();
}
