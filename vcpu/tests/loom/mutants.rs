//! Seeded bugs: loom must find each of them.

use std::process::Command;

use loom::sync::atomic::Ordering;
use loom::sync::{Arc, Mutex};
use loom::thread;
use vcpu::protocol::{ControlWord, Refusal};

use crate::model::{Kernel, Vcpu, against, cycles, model, one_vcpu, spawn};

/// Runs a model with a seeded bug, in up to three preemptions: loom must find it, and say `finding`.
///
/// In a process of its own: loom's deadlock report unwinds through guards whose destructors panic again, which aborts.
fn must_fail(test: &str, finding: &str, f: impl Fn() + Sync + Send + 'static) {
    const INSIDE: &str = "VCPU_LOOM_MUTANT";
    if std::env::var_os(INSIDE).is_some() {
        model(Some(3), f);
        return;
    }
    let test = format!("mutants::{test}");
    let run = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success(), "loom did not find the seeded bug");
    assert!(
        said.contains(finding),
        "loom failed for another reason: {said}"
    );
}

/// A client that asks for a pause, and kicks, in its own way: the vCPU must be paused, and end.
fn ends_in_a_deadlock(test: &str, ask: impl Fn(&Vcpu) + Sync + Send + 'static) {
    must_fail(test, "deadlock", move || {
        one_vcpu(Vcpu::run, |vcpu| {
            ask(vcpu);
            vcpu.wait_paused();
            vcpu.end();
        });
    });
}

/// The look comes first and the clearing second: a kick in between is forgotten.
#[test]
fn clear_after_look() {
    must_fail("clear_after_look", "deadlock", || {
        let runner = |vcpu: &Vcpu| vcpu.run_with(|_| (), Kernel::rearm, Vcpu::serve);
        one_vcpu(runner, |vcpu| cycles(std::slice::from_ref(vcpu), 1));
    });
}

/// The signal alone: it is lost between the look and KVM_RUN.
#[test]
fn signal_without_immediate_exit() {
    ends_in_a_deadlock("signal_without_immediate_exit", |vcpu| {
        assert!(vcpu.control.request_stop(|| vcpu.kernel.send_signal()));
    });
}

/// `immediate_exit` alone: a vCPU that is in the guest does not look at it.
#[test]
fn immediate_exit_without_signal() {
    ends_in_a_deadlock("immediate_exit_without_signal", |vcpu| {
        let set = || vcpu.kernel.immediate_exit.store(1, Ordering::Release);
        assert!(vcpu.control.request_stop(set));
    });
}

/// The kick comes before the request: the vCPU looks, finds nothing, and goes back in.
#[test]
fn kick_before_publication() {
    ends_in_a_deadlock("kick_before_publication", |vcpu| {
        vcpu.kernel.kick();
        assert!(vcpu.control.request_stop(|| ()));
    });
}

/// The signal comes before `immediate_exit`: the vCPU is between the look and KVM_RUN, and the signal is lost there.
#[test]
fn signal_before_immediate_exit() {
    ends_in_a_deadlock("signal_before_immediate_exit", |vcpu| {
        let swapped = || {
            vcpu.kernel.send_signal();
            vcpu.kernel.immediate_exit.store(1, Ordering::Release);
        };
        assert!(vcpu.control.request_stop(swapped));
    });
}

/// `immediate_exit` is never cleared: after the first pause the guest makes no progress.
#[test]
fn never_cleared() {
    must_fail(
        "never_cleared",
        "exceeded maximum number of branches",
        || {
            let runner = |vcpu: &Vcpu| vcpu.run_with(|_| (), |_| (), Vcpu::serve);
            one_vcpu(runner, |vcpu| {
                vcpu.pause();
                vcpu.control.release_stop();
                // The guest must run again.
                while vcpu.kernel.guest_runs.load(Ordering::Relaxed) == 0 {
                    thread::yield_now();
                }
                vcpu.end();
            });
        },
    );
}

/// The vCPU acknowledges from within its exit handler, holding a device's lock: whoever paused it and then takes the lock waits
/// for ever.
#[test]
fn acknowledgement_with_a_lock() {
    must_fail("acknowledgement_with_a_lock", "deadlock", || {
        let device = Arc::new(Mutex::new(()));
        let handlers = Arc::clone(&device);
        let runner = move |vcpu: &Vcpu| {
            vcpu.kernel.rearm();
            if vcpu.control.try_enter().is_ok() {
                vcpu.kernel.run();
                vcpu.control.leave();
            }
            let held = handlers.lock().unwrap();
            vcpu.control.park();
            while vcpu.control.load().stops() > 0 {
                vcpu.control.sleep();
            }
            drop(held);
            vcpu.control.end();
        };
        one_vcpu(runner, |vcpu| {
            vcpu.pause();
            drop(device.lock().unwrap());
            vcpu.control.release_stop();
        });
    });
}

/// One sleeper is woken where two wait for the same acknowledgement.
#[test]
fn wake_one() {
    must_fail("wake_one", "deadlock", || {
        let vcpu = Vcpu::with(ControlWord::waking_one(0));
        against(&vcpu, Vcpu::run, |vcpu| {
            let other = spawn(vcpu, Vcpu::pause);
            vcpu.pause();
            other.join().unwrap();
            vcpu.control.release_stop();
            vcpu.control.release_stop();
            vcpu.end();
        });
    });
}

/// The work flag is taken by a load and a store: a pause that is published in between is overwritten.
#[test]
fn load_and_store_instead_of_one_step() {
    must_fail("load_and_store_instead_of_one_step", "deadlock", || {
        let serve = |vcpu: &Vcpu, refusal| {
            if refusal != Refusal::Work {
                return vcpu.serve(refusal);
            }
            const WORK: u64 = 1 << 3;
            let word = vcpu.control.raw().load(Ordering::Acquire);
            vcpu.control.raw().store(word & !WORK, Ordering::Release);
            true
        };
        let runner = move |vcpu: &Vcpu| vcpu.run_with(Kernel::rearm, |_| (), serve);
        one_vcpu(runner, |vcpu| {
            vcpu.control.request_work(|| vcpu.kernel.kick());
            vcpu.pause();
            vcpu.control.release_stop();
            vcpu.end();
        });
    });
}
