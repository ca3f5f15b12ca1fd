//! What an exit hands to its handler, and that it is complete before anything else is done.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use vcpu::kvm::KvmExit;
use vcpu::{Control, VcpuId, VcpuSet, VcpuState};

use crate::quiet;
use crate::real_guest::{CODE, eventually, soon};

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
