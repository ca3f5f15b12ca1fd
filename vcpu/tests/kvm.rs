//! Real vCPUs. The guests are 16-bit code, which every KVM runs.
//!
//! Where `/dev/kvm` exists, these tests must pass; where it does not, each says that it was skipped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by unwrapping"
)]
#![expect(
    unsafe_code,
    reason = "guest memory is registered and signals are sent"
)]

#[expect(dead_code, reason = "the benchmark uses all of it")]
mod real_guest;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use real_guest::{CODE, Machine, eventually, soon};
use vcpu::kvm::{KvmExit, KvmVcpu};
use vcpu::{Control, FailureKind, VcpuError, VcpuEvent, VcpuId, VcpuSet, VcpuState};

/// `inc word [COUNTER]; jmp`.
const SPIN: &[u8] = &[0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa];
/// `out 0x80, al; inc word [COUNTER]; jmp`.
const PIO_STORM: &[u8] = &[0xe6, 0x80, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xf8];
/// `hlt; jmp`.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];

fn quiet(exit: KvmExit<'_>) -> Control {
    match exit {
        KvmExit::IoIn { data, .. } | KvmExit::MmioRead { data, .. } => {
            data.fill(0xff);
            Control::Continue
        }
        KvmExit::IoOut { .. } | KvmExit::MmioWrite { .. } => Control::Continue,
        other => Control::Failed(other.failure()),
    }
}

/// The test's machine, or `return` where there is no KVM.
macro_rules! machine {
    ($irqchip:expr) => {
        match Machine::new($irqchip) {
            Some(machine) => machine,
            None => {
                eprintln!("SKIPPED: there is no /dev/kvm on this machine");
                return;
            }
        }
    };
}

#[test]
fn ten_thousand_pauses_of_a_spinning_guest_lose_no_kick() {
    let machine = machine!(false);
    let (set, initial) = VcpuSet::new_paused(|_, _| {});
    set.add(VcpuId(0), machine.vcpu(0, SPIN, quiet)).unwrap();
    initial.resume();
    for round in 0..10_000_u32 {
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
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let exits = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&exits);
    let handler = move |exit: KvmExit<'_>| {
        seen.fetch_add(1, Ordering::Relaxed);
        quiet(exit)
    };
    set.add(VcpuId(0), machine.vcpu(0, PIO_STORM, handler))
        .unwrap();
    for _ in 0..2_000 {
        let guard = set.pause_all(soon()).unwrap();
        let before = exits.load(Ordering::Relaxed);
        let rip = set
            .run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_regs().unwrap().rip)
            .unwrap();
        // Never in the middle of the OUT: it is complete, so the next instruction is another.
        assert!([CODE, CODE + 2, CODE + 6].contains(&rip), "{rip:#x}");
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
    for _ in 0..1_000 {
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
fn a_port_read_is_complete_before_the_vcpu_counts_as_paused() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let (entered, has_entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let handler = move |exit: KvmExit<'_>| match exit {
        KvmExit::IoIn {
            port: 0x10,
            size: 1,
            data,
        } => {
            data.fill(0x5a);
            entered.send(()).unwrap();
            may_go_on.recv().unwrap();
            Control::Continue
        }
        other => quiet(other),
    };
    // in al, 0x10; jmp $
    set.add(
        VcpuId(0),
        machine.vcpu(0, &[0xe4, 0x10, 0xeb, 0xfe], handler),
    )
    .unwrap();
    has_entered.recv().unwrap();
    let pauser = set.clone();
    let pauser = thread::spawn(move || pauser.pause_all(soon()));
    eventually("the pause is asked for", || set.is_paused());
    go_on.send(()).unwrap();
    let guard = pauser.join().unwrap().unwrap();
    let regs = set
        .run_on(VcpuId(0), soon(), |vcpu| vcpu.fd().get_regs().unwrap())
        .unwrap();
    assert_eq!((regs.rip, regs.rax & 0xff), (CODE + 2, 0x5a));
    drop(guard);
    set.shutdown(soon()).unwrap();
}

#[test]
fn an_mmio_read_is_complete_before_registers_are_read() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let (entered, has_entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let handler = move |exit: KvmExit<'_>| match exit {
        KvmExit::MmioRead { address, data } => {
            assert_eq!((address, data.len()), (0x2_0000, 2));
            data.copy_from_slice(&0x5678_u16.to_le_bytes());
            entered.send(()).unwrap();
            may_go_on.recv().unwrap();
            Control::Continue
        }
        other => quiet(other),
    };
    // mov ax, 0x2000; mov ds, ax; mov ax, [0]; jmp $
    let code = [0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa1, 0x00, 0x00, 0xeb, 0xfe];
    let vcpu = set.add(VcpuId(0), machine.vcpu(0, &code, handler)).unwrap();
    has_entered.recv().unwrap();
    let (send, answer) = mpsc::channel();
    vcpu.queue_on(move |vcpu| send.send(vcpu.fd().get_regs().unwrap()).unwrap())
        .unwrap();
    go_on.send(()).unwrap();
    let regs = answer.recv().unwrap();
    assert_eq!((regs.rip, regs.rax & 0xffff), (CODE + 8, 0x5678));
    set.shutdown(soon()).unwrap();
}

#[test]
fn no_instruction_runs_after_a_held_port_write() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let handler = |exit: KvmExit<'_>| match exit {
        KvmExit::IoOut {
            port: 0x64,
            data: [0xfe],
            ..
        } => Control::Hold,
        other => quiet(other),
    };
    // mov al, 0xfe; out 0x64, al; inc word [COUNTER]; jmp $
    let code = [0xb0, 0xfe, 0xe6, 0x64, 0xff, 0x06, 0x00, 0x20, 0xeb, 0xfe];
    let vcpu = set.add(VcpuId(0), machine.vcpu(0, &code, handler)).unwrap();
    eventually("it is held", || vcpu.state() == VcpuState::Held);
    let regs = vcpu
        .run_on(soon(), |vcpu| vcpu.fd().get_regs().unwrap())
        .unwrap();
    assert_eq!(regs.rip, CODE + 4, "the OUT is complete");
    assert_eq!(machine.counter_while(Duration::from_millis(20)), (0, 0));
    set.pause_all(soon()).unwrap().resume();
    eventually("the resume lets it run on", || machine.counter() == 1);
    set.shutdown(soon()).unwrap();
}

#[test]
fn reset_goes_back_to_the_first_instruction() {
    let machine = machine!(true);
    let (set, initial) = VcpuSet::new_paused(|_, _| {});
    let handler = |exit: KvmExit<'_>| match exit {
        KvmExit::IoOut { port: 0x64, .. } => Control::Hold,
        other => quiet(other),
    };
    // inc word [COUNTER]; mov ax, 0x1234; out 0x64, al; jmp $
    let code = [
        0xff, 0x06, 0x00, 0x20, 0xb8, 0x34, 0x12, 0xe6, 0x64, 0xeb, 0xfe,
    ];
    let mut vcpu = machine.vcpu(0, &code, handler);
    vcpu.keep_reset_state().unwrap();
    let vcpu = set.add(VcpuId(0), vcpu).unwrap();
    initial.resume();
    for boot in 1..=50 {
        eventually("it asks for a reset", || vcpu.state() == VcpuState::Held);
        assert_eq!(machine.counter(), boot);
        assert!(matches!(set.reset_all(soon()), Err(VcpuError::NotPaused)));
        let guard = set.pause_all(soon()).unwrap();
        set.reset_all(soon()).unwrap();
        let regs = vcpu
            .run_on(soon(), |vcpu| vcpu.fd().get_regs().unwrap())
            .unwrap();
        assert_eq!((regs.rip, regs.rax), (CODE, 0));
        guard.resume();
    }
    set.shutdown(soon()).unwrap();
}

#[test]
fn registers_saved_and_restored_are_the_same() {
    let machine = machine!(true);
    let set = VcpuSet::new(|_, _| {});
    set.add(VcpuId(0), machine.vcpu(0, SPIN, quiet)).unwrap();
    eventually("it counts", || machine.counter() != 0);
    let guard = set.pause_all(soon()).unwrap();
    let (before, after, refused) = set
        .run_on(VcpuId(0), soon(), |vcpu| {
            use vcpu::VcpuRun;
            let before = vcpu.save().unwrap();
            let mut other = before.clone();
            other.regs.rax = 0xdead;
            vcpu.restore(&other).unwrap();
            assert_eq!(vcpu.fd().get_regs().unwrap().rax, 0xdead);
            vcpu.restore(&before).unwrap();
            (before, vcpu.save().unwrap(), vcpu.refused_msrs().to_vec())
        })
        .unwrap();
    assert_eq!(before.regs, after.regs);
    assert_eq!(before.sregs, after.sregs);
    assert_eq!(before.xsave, after.xsave);
    assert_eq!(before.mp_state, after.mp_state);
    assert!(!before.msrs.is_empty());
    // A clock goes on, and what KVM refuses stays as it was; everything else is as it was.
    let clocks = [0x10, 0xe7, 0xe8, 0x6e0];
    for (before, after) in before.msrs.iter().zip(&after.msrs) {
        if !clocks.contains(&before.index) && !refused.contains(&before.index) {
            assert_eq!((before.index, before.data), (after.index, after.data));
        }
    }
    drop(guard);
    let count = machine.counter();
    eventually("it counts on", || machine.counter() != count);
    set.shutdown(soon()).unwrap();
}

#[test]
fn the_width_of_a_port_access_is_known() {
    let machine = machine!(false);
    let set = VcpuSet::new(|_, _| {});
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let handler = move |exit: KvmExit<'_>| match exit {
        KvmExit::IoOut {
            port: 0x3f8,
            size,
            data,
        } => {
            for access in data.chunks(size.into()) {
                log.lock().unwrap().push(access.to_vec());
            }
            Control::Continue
        }
        KvmExit::IoOut { port: 0x80, .. } => Control::Exited,
        other => quiet(other),
    };
    // mov dx, 0x3f8; mov ax, 0x1234; out dx, al; out dx, ax; mov si, CODE; mov cx, 3; rep outsb; out 0x80, al
    let code = [
        0xba, 0xf8, 0x03, 0xb8, 0x34, 0x12, 0xee, 0xef, 0xbe, 0x00, 0x10, 0xb9, 0x03, 0x00, 0xf3,
        0x6e, 0xe6, 0x80,
    ];
    let vcpu = set.add(VcpuId(0), machine.vcpu(0, &code, handler)).unwrap();
    eventually("it is done", || vcpu.state() == VcpuState::Exited);
    let wanted: [&[u8]; 5] = [&[0x34], &[0x34, 0x12], &[0xba], &[0xf8], &[0x03]];
    assert_eq!(*seen.lock().unwrap(), wanted);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_triple_fault_reaches_the_handler_and_a_reset_revives() {
    let machine = machine!(false);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let (set, initial) =
        VcpuSet::new_paused(move |id, event| ear.lock().unwrap().push((id, event)));
    // lidt [0x3000] (no entries); mov eax, cr0; or al, 1; mov cr0, eax; int3
    let code = [
        0x0f, 0x01, 0x1e, 0x00, 0x30, 0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0, 0xcc,
    ];
    let mut vcpu = machine.vcpu(0, &code, quiet);
    vcpu.keep_reset_state().unwrap();
    let vcpu = set.add(VcpuId(0), vcpu).unwrap();
    initial.resume();
    eventually("the owner is told", || !heard.lock().unwrap().is_empty());
    assert_eq!(vcpu.state(), VcpuState::Failed);
    let failure = vcpu.failure().unwrap();
    assert_eq!(failure.kind, FailureKind::Run);
    let VcpuEvent::Failed(told) = heard.lock().unwrap()[0].1.clone() else {
        panic!()
    };
    assert_eq!(told, failure);
    // KVM says "shutdown" on hardware, "internal error" where it emulates instructions.
    let said = failure.message.to_lowercase();
    assert!(
        said.contains("shutdown") || said.contains("internal error"),
        "{said}"
    );
    // mov al, 0; jmp $: a guest that behaves.
    machine.write(CODE, &[0xb0, 0x00, 0xeb, 0xfe]);
    let guard = set.pause_all(soon()).unwrap();
    set.reset_all(soon()).unwrap();
    guard.resume();
    eventually("it runs again", || {
        vcpu.run_on(soon(), |vcpu| vcpu.fd().get_regs().unwrap().rip)
            .unwrap()
            == CODE + 2
    });
    assert_eq!(vcpu.state(), VcpuState::Running);
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

#[test]
fn a_vcpu_without_a_reset_state_says_so() {
    let machine = machine!(false);
    let (set, _guard) = VcpuSet::new_paused(|_, _| {});
    let vcpu: KvmVcpu<_> = machine.vcpu(0, SPIN, quiet);
    set.add(VcpuId(0), vcpu).unwrap();
    let error = set.reset_all(soon()).unwrap_err();
    assert_eq!(error.to_string(), "vCPU 0: no reset state was set");
    set.shutdown(soon()).unwrap();
}
