//! The protocol as it is: no interleaving breaks it.

use std::slice;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use vcpu::protocol::Phase;

use crate::model::{Vcpu, against, cycles, model, one_vcpu, spawn, two_vcpus};

/// Every interleaving of one pause with the vCPU's loop that has up to seven preemptions. (`LOOM_UNBOUNDED` goes through all that
/// there are, in some minutes of a processor's time; two cycles are too many for that.)
#[test]
fn one_vcpu_one_cycle() {
    model(Some(7), || {
        one_vcpu(Vcpu::run, |vcpu| cycles(slice::from_ref(vcpu), 1));
    });
}

/// Two pause and resume cycles, with up to five preemptions (all that have been tried, up to six, hold). The second pause may come right after
/// the first resume, before the vCPU has noticed it, and finds `immediate_exit` in every state.
#[test]
fn one_vcpu_two_cycles() {
    model(Some(5), || {
        one_vcpu(Vcpu::run, |vcpu| cycles(slice::from_ref(vcpu), 2));
    });
}

#[test]
fn two_vcpus_one_cycle() {
    model(Some(3), || two_vcpus(|vcpus| cycles(vcpus, 1)));
}

/// Two threads pause the same vCPU: counted, and one kick may serve both.
#[test]
fn two_pausers() {
    model(Some(3), || {
        one_vcpu(Vcpu::run, |vcpu| {
            let other = spawn(vcpu, |vcpu| {
                vcpu.pause();
                vcpu.control.release_stop();
            });
            vcpu.pause();
            assert_eq!(vcpu.control.load().phase(), Phase::Idle);
            vcpu.control.release_stop();
            other.join().unwrap();
            vcpu.end();
        });
    });
}

/// The vCPU ends by itself while it is being paused and kicked: the pauser is told, and the end waits for the kick.
#[test]
fn a_vcpu_that_ends_by_itself() {
    model(None, || {
        let ended = Arc::new(AtomicUsize::new(0));
        let end = Arc::clone(&ended);
        let runner = move |vcpu: &Vcpu| {
            vcpu.kernel.rearm();
            if vcpu.control.try_enter().is_ok() {
                // A triple fault: no kick needed.
                vcpu.control.leave();
            }
            vcpu.control.end();
            end.store(1, Ordering::Release);
        };
        one_vcpu(runner, |vcpu| {
            let kick_after_end = || {
                assert_eq!(
                    ended.load(Ordering::Acquire),
                    0,
                    "a thread that had ended was kicked"
                );
                vcpu.kernel.kick();
            };
            assert!(vcpu.control.request_stop(kick_after_end));
            vcpu.control.wait_stopped(false, None).unwrap();
        });
    });
}

/// Work is served whether the vCPU is in the guest, on its way, or paused.
#[test]
fn work_against_a_pause() {
    model(Some(3), || {
        let vcpu = Vcpu::new();
        against(&vcpu, Vcpu::run, |vcpu| {
            let worker = spawn(vcpu, |vcpu| {
                vcpu.control.request_work(|| vcpu.kernel.kick())
            });
            vcpu.pause();
            worker.join().unwrap();
            vcpu.control.release_stop();
            vcpu.end();
        });
        // Ended with the work undone is possible (the queue's owner is told); lost while it ran on is not: then it
        // would not have ended at all, for it was not asked to before.
        assert!(vcpu.work_done.load(Ordering::Relaxed) <= 1);
    });
}

/// The exit handler posts a request and holds itself, while the main loop drops the request and releases.
#[test]
fn a_hold_against_its_release() {
    model(None, || {
        let posted = Arc::new(AtomicUsize::new(0));
        let post = Arc::clone(&posted);
        let runner = move |vcpu: &Vcpu| {
            let epoch = vcpu.control.try_enter().unwrap();
            vcpu.control.leave();
            post.store(1, Ordering::Release);
            vcpu.control.hold(epoch);
            while vcpu.control.try_enter().is_err() {
                vcpu.control.park();
                vcpu.control.sleep();
            }
            vcpu.control.leave();
        };
        one_vcpu(runner, |vcpu| {
            while posted.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            vcpu.control.release_hold();
        });
    });
}

/// An event against a halt: it is never slept through.
#[test]
fn an_event_against_a_halt() {
    model(None, || {
        let interrupt = Arc::new(AtomicUsize::new(0));
        let raised = Arc::clone(&interrupt);
        let runner = move |vcpu: &Vcpu| {
            loop {
                if vcpu.control.try_enter().is_err() {
                    vcpu.control.park();
                    vcpu.control.sleep();
                    continue;
                }
                let taken = raised.load(Ordering::Acquire) == 1;
                vcpu.control.leave();
                if taken {
                    return;
                }
                vcpu.control.halt();
            }
        };
        one_vcpu(runner, |vcpu| {
            interrupt.store(1, Ordering::Release);
            vcpu.control.notify(|| vcpu.kernel.kick());
        });
    });
}

/// An exclusive section waits for the guest to be left, and no longer.
#[test]
fn an_exclusive_section() {
    model(Some(3), || {
        two_vcpus(|vcpus| {
            for vcpu in vcpus {
                vcpu.control.request_exclusive(|| vcpu.kernel.kick());
            }
            for vcpu in vcpus {
                vcpu.control.wait_outside(None).unwrap();
                assert_eq!(vcpu.kernel.guest_runs.load(Ordering::Relaxed), 0);
            }
            for vcpu in vcpus {
                vcpu.control.release_exclusive();
                vcpu.end();
            }
        });
    });
}
