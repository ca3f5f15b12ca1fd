//! Reset, save and restore.

use std::sync::{Arc, Mutex};

use vcpu::kvm::KvmExit;
use vcpu::{Control, FailureKind, VcpuError, VcpuEvent, VcpuId, VcpuSet, VcpuState};

use crate::real_guest::{CODE, eventually, soon};
use crate::{SPIN, quiet};

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
fn a_vcpu_without_a_reset_state_says_so() {
    let machine = machine!(false);
    let (set, _guard) = VcpuSet::new_paused(|_, _| {});
    let vcpu = machine.vcpu(0, SPIN, quiet);
    set.add(VcpuId(0), vcpu).unwrap();
    let error = set.reset_all(soon()).unwrap_err();
    assert_eq!(error.to_string(), "vCPU 0: no reset state was set");
    set.shutdown(soon()).unwrap();
}
