//! The kick protocol in every interleaving, and seeded bugs that must be found.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p vcpu --test loom --target-dir target/loom`
//!
//! In the model: the control word, `immediate_exit`, the queue of the futex, the signal, and KVM_RUN as a step that tests
//! `immediate_exit` and then blocks until a signal arrives. A signal that arrives outside KVM_RUN is lost, as a handler
//! that does nothing loses it. The guest never exits by itself: a lost kick is a deadlock, which loom reports. Not in the model: the
//! kernel, time (no deadline ever passes), and stale reads of the
//! control word (each is followed by a compare-and-swap or by the futex's comparison, which do not believe them).
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use std::process::Command;

use loom::model::Builder;
use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use vcpu::protocol::{ControlWord, Phase, Refusal};

/// A vCPU as the kernel sees it.
struct Kernel {
    immediate_exit: AtomicU8,
    /// Whether the thread is in KVM_RUN, and whether a signal came since.
    run: Mutex<(bool, bool)>,
    signal: Condvar,
    /// 1 while guest code may run. For assertions, so not a part of the model: std's.
    guest_runs: std::sync::atomic::AtomicUsize,
}

impl Kernel {
    fn new() -> Self {
        Self {
            immediate_exit: AtomicU8::new(0),
            run: Mutex::new((false, false)),
            signal: Condvar::new(),
            guest_runs: std::sync::atomic::AtomicUsize::new(0),
        }
    }

    /// KVM_RUN: returns when kicked.
    fn run(&self) {
        let mut run = self.run.lock().unwrap();
        *run = (true, false);
        if self.immediate_exit.load(Ordering::Acquire) == 0 {
            self.guest_runs.store(1, Ordering::Relaxed);
            while !run.1 {
                run = self.signal.wait(run).unwrap();
            }
            self.guest_runs.store(0, Ordering::Relaxed);
        }
        *run = (false, false);
    }

    fn send_signal(&self) {
        let mut run = self.run.lock().unwrap();
        if run.0 {
            run.1 = true;
            self.signal.notify_one();
        }
    }

    fn kick(&self) {
        self.immediate_exit.store(1, Ordering::Release);
        self.send_signal();
    }

    fn rearm(&self) {
        self.immediate_exit.store(0, Ordering::Release);
    }
}

struct Vcpu {
    control: ControlWord,
    kernel: Kernel,
    work_done: AtomicUsize,
}

impl Vcpu {
    fn new(control: ControlWord) -> Arc<Self> {
        let (kernel, work_done) = (Kernel::new(), AtomicUsize::new(0));
        Arc::new(Self {
            control,
            kernel,
            work_done,
        })
    }

    /// The loop of a vCPU's thread.
    fn run(&self) {
        loop {
            self.kernel.rearm();
            match self.control.try_enter() {
                Ok(_) => {
                    self.kernel.run();
                    self.control.leave();
                }
                Err(refusal) => {
                    if !self.serve(refusal) {
                        return;
                    }
                }
            }
        }
    }

    /// `false`: the thread ends.
    fn serve(&self, refusal: Refusal) -> bool {
        match refusal {
            Refusal::Exit => {
                self.control.end();
                return false;
            }
            Refusal::Work => {
                self.control.take_work();
                self.work_done.fetch_add(1, Ordering::Relaxed);
            }
            Refusal::StayOut => {
                self.control.park();
                self.control.sleep();
            }
        }
        true
    }

    fn pause(&self) {
        assert!(self.control.request_stop(|| self.kernel.kick()));
        self.wait_paused();
    }

    fn wait_paused(&self) {
        self.control.wait_stopped(false, None).unwrap();
        assert_eq!(
            self.kernel.guest_runs.load(Ordering::Relaxed),
            0,
            "guest code in a pause"
        );
    }

    fn end(&self) {
        self.control.request_exit(|| self.kernel.kick());
    }
}

/// The pauser's side: so many pauses, with a resume between two, and the end during the last.
fn cycles(vcpus: &[Arc<Vcpu>], count: usize) {
    for cycle in 1..=count {
        for vcpu in vcpus {
            assert!(vcpu.control.request_stop(|| vcpu.kernel.kick()));
        }
        for vcpu in vcpus {
            vcpu.wait_paused();
        }
        for vcpu in vcpus {
            if cycle < count {
                vcpu.control.release_stop();
            } else {
                vcpu.end();
            }
        }
    }
}

fn model(preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&count);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        f();
    });
    let explored = count.load(Ordering::Relaxed);
    eprintln!(
        "{}: {explored} executions",
        std::thread::current().name().unwrap_or("model")
    );
}

/// Runs a model with a seeded bug: loom must find it, and say `finding`.
///
/// In a process of its own: loom's deadlock report unwinds through guards whose destructors panic again, which aborts.
fn must_fail(
    test: &str,
    finding: &str,
    preemptions: Option<usize>,
    f: impl Fn() + Sync + Send + 'static,
) {
    const INSIDE: &str = "VCPU_LOOM_MUTANT";
    if std::env::var_os(INSIDE).is_some() {
        model(preemptions, f);
        return;
    }
    let run = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
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

// --- The protocol as it is ---

/// Every interleaving of one pause with the vCPU's loop that has up to seven preemptions.
#[test]
fn one_vcpu_one_cycle() {
    model(Some(7), || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || runner.run());
        cycles(std::slice::from_ref(&vcpu), 1);
        runner.join().unwrap();
    });
}

/// Two pause and resume cycles, with up to five preemptions (all that have been tried, up to six, hold). The second pause may come right after
/// the first resume, before the vCPU has noticed it, and finds `immediate_exit` in every state.
#[test]
fn one_vcpu_two_cycles() {
    model(Some(5), || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let thread = {
            let vcpu = Arc::clone(&vcpu);
            thread::spawn(move || vcpu.run())
        };
        cycles(std::slice::from_ref(&vcpu), 2);
        thread.join().unwrap();
    });
}

#[test]
fn two_vcpus_one_cycle() {
    model(Some(3), || {
        let vcpus = [(); 2].map(|()| Vcpu::new(ControlWord::new(0, false)));
        let threads = vcpus.clone().map(|vcpu| thread::spawn(move || vcpu.run()));
        cycles(&vcpus, 1);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Two threads pause the same vCPU: counted, and one kick may serve both.
#[test]
fn two_pausers() {
    model(Some(3), || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || runner.run());
        let other = Arc::clone(&vcpu);
        let other = thread::spawn(move || {
            other.pause();
            other.control.release_stop();
        });
        vcpu.pause();
        assert_eq!(vcpu.control.load().phase(), Phase::Idle);
        vcpu.control.release_stop();
        other.join().unwrap();
        vcpu.end();
        runner.join().unwrap();
    });
}

/// The vCPU ends by itself while it is being paused and kicked: the pauser is told, and the end waits for the kick.
#[test]
fn a_vcpu_that_ends_by_itself() {
    model(None, || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let ended = Arc::new(AtomicUsize::new(0));
        let runner = {
            let (vcpu, ended) = (Arc::clone(&vcpu), Arc::clone(&ended));
            thread::spawn(move || {
                vcpu.kernel.rearm();
                if vcpu.control.try_enter().is_ok() {
                    // A triple fault: no kick needed.
                    vcpu.control.leave();
                }
                vcpu.control.end();
                ended.store(1, Ordering::Release);
            })
        };
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
        runner.join().unwrap();
    });
}

/// Work is served whether the vCPU is in the guest, on its way, or paused.
#[test]
fn work_against_a_pause() {
    model(Some(3), || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || runner.run());
        let worker = Arc::clone(&vcpu);
        let worker = thread::spawn(move || {
            worker.control.request_work(|| worker.kernel.kick());
        });
        vcpu.pause();
        worker.join().unwrap();
        vcpu.control.release_stop();
        vcpu.end();
        runner.join().unwrap();
        // Ended with the work undone is possible (the queue's owner is told); lost while it ran on is not: then it
        // would not have ended at all, for it was not asked to before.
        assert!(vcpu.work_done.load(Ordering::Relaxed) <= 1);
    });
}

/// The exit handler posts a request and holds itself, while the main loop drops the request and releases.
#[test]
fn a_hold_against_its_release() {
    model(None, || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let posted = Arc::new(AtomicUsize::new(0));
        let runner = {
            let (vcpu, posted) = (Arc::clone(&vcpu), Arc::clone(&posted));
            thread::spawn(move || {
                let epoch = vcpu.control.try_enter().unwrap();
                vcpu.control.leave();
                posted.store(1, Ordering::Release);
                vcpu.control.hold(epoch);
                while vcpu.control.try_enter().is_err() {
                    vcpu.control.park();
                    vcpu.control.sleep();
                }
                vcpu.control.leave();
            })
        };
        while posted.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        vcpu.control.release_hold();
        runner.join().unwrap();
    });
}

/// An event against a halt: it is never slept through.
#[test]
fn an_event_against_a_halt() {
    model(None, || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let interrupt = Arc::new(AtomicUsize::new(0));
        let runner = {
            let (vcpu, interrupt) = (Arc::clone(&vcpu), Arc::clone(&interrupt));
            thread::spawn(move || {
                loop {
                    if vcpu.control.try_enter().is_err() {
                        vcpu.control.park();
                        vcpu.control.sleep();
                        continue;
                    }
                    let taken = interrupt.load(Ordering::Acquire) == 1;
                    vcpu.control.leave();
                    if taken {
                        return;
                    }
                    vcpu.control.halt();
                }
            })
        };
        interrupt.store(1, Ordering::Release);
        vcpu.control.notify(|| vcpu.kernel.kick());
        runner.join().unwrap();
    });
}

/// An exclusive section waits for the guest to be left, and no longer.
#[test]
fn an_exclusive_section() {
    model(Some(3), || {
        let vcpus = [(); 2].map(|()| Vcpu::new(ControlWord::new(0, false)));
        let threads = vcpus.clone().map(|vcpu| thread::spawn(move || vcpu.run()));
        for vcpu in &vcpus {
            vcpu.control.request_exclusive(|| vcpu.kernel.kick());
        }
        for vcpu in &vcpus {
            vcpu.control.wait_outside(None).unwrap();
            assert_eq!(vcpu.kernel.guest_runs.load(Ordering::Relaxed), 0);
        }
        for vcpu in &vcpus {
            vcpu.control.release_exclusive();
            vcpu.end();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

// --- Seeded bugs ---

/// The look comes first and the clearing second: a kick in between is forgotten.
#[test]
fn mutant_clear_after_look() {
    must_fail("mutant_clear_after_look", "deadlock", Some(3), || {
        let vcpu = Vcpu::new(ControlWord::new(0, false));
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || {
            loop {
                match runner.control.try_enter() {
                    Ok(_) => {
                        runner.kernel.rearm();
                        runner.kernel.run();
                        runner.control.leave();
                    }
                    Err(refusal) => {
                        if !runner.serve(refusal) {
                            return;
                        }
                    }
                }
            }
        });
        cycles(std::slice::from_ref(&vcpu), 1);
        runner.join().unwrap();
    });
}

/// The signal alone: it is lost between the look and KVM_RUN.
#[test]
fn mutant_signal_without_immediate_exit() {
    must_fail(
        "mutant_signal_without_immediate_exit",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || runner.run());
            assert!(vcpu.control.request_stop(|| vcpu.kernel.send_signal()));
            vcpu.wait_paused();
            vcpu.control.release_stop();
            vcpu.end();
            runner.join().unwrap();
        },
    );
}

/// `immediate_exit` alone: a vCPU that is in the guest does not look at it.
#[test]
fn mutant_immediate_exit_without_signal() {
    must_fail(
        "mutant_immediate_exit_without_signal",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || runner.run());
            let set = || vcpu.kernel.immediate_exit.store(1, Ordering::Release);
            assert!(vcpu.control.request_stop(set));
            vcpu.wait_paused();
            vcpu.end();
            runner.join().unwrap();
        },
    );
}

/// The kick comes before the request: the vCPU looks, finds nothing, and goes back in.
#[test]
fn mutant_kick_before_publication() {
    must_fail(
        "mutant_kick_before_publication",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || runner.run());
            vcpu.kernel.kick();
            assert!(vcpu.control.request_stop(|| ()));
            vcpu.wait_paused();
            vcpu.end();
            runner.join().unwrap();
        },
    );
}

/// The signal comes before `immediate_exit`: the vCPU is between the look and KVM_RUN, and the signal is lost there.
#[test]
fn mutant_signal_before_immediate_exit() {
    must_fail(
        "mutant_signal_before_immediate_exit",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || runner.run());
            let swapped = || {
                vcpu.kernel.send_signal();
                vcpu.kernel.immediate_exit.store(1, Ordering::Release);
            };
            assert!(vcpu.control.request_stop(swapped));
            vcpu.wait_paused();
            vcpu.end();
            runner.join().unwrap();
        },
    );
}

/// `immediate_exit` is never cleared: after the first pause the guest makes no progress.
#[test]
fn mutant_never_cleared() {
    must_fail(
        "mutant_never_cleared",
        "exceeded maximum number of branches",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || {
                loop {
                    match runner.control.try_enter() {
                        Ok(_) => {
                            runner.kernel.run();
                            runner.control.leave();
                        }
                        Err(refusal) => {
                            if !runner.serve(refusal) {
                                return;
                            }
                        }
                    }
                }
            });
            vcpu.pause();
            vcpu.control.release_stop();
            // The guest must run again.
            while vcpu.kernel.guest_runs.load(Ordering::Relaxed) == 0 {
                thread::yield_now();
            }
            vcpu.end();
            runner.join().unwrap();
        },
    );
}

/// The vCPU acknowledges from within its exit handler, holding a device's lock: whoever paused it and then takes the lock waits
/// for ever.
#[test]
fn mutant_acknowledgement_with_a_lock() {
    must_fail(
        "mutant_acknowledgement_with_a_lock",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let device = Arc::new(Mutex::new(()));
            let runner = {
                let (vcpu, device) = (Arc::clone(&vcpu), Arc::clone(&device));
                thread::spawn(move || {
                    vcpu.kernel.rearm();
                    if vcpu.control.try_enter().is_ok() {
                        vcpu.kernel.run();
                        vcpu.control.leave();
                    }
                    let _device = device.lock().unwrap();
                    vcpu.control.park();
                    while vcpu.control.load().stops() > 0 {
                        vcpu.control.sleep();
                    }
                    drop(_device);
                    vcpu.control.end();
                })
            };
            vcpu.pause();
            drop(device.lock().unwrap());
            vcpu.control.release_stop();
            runner.join().unwrap();
        },
    );
}

/// One sleeper is woken where two wait for the same acknowledgement.
#[test]
fn mutant_wake_one() {
    must_fail("mutant_wake_one", "deadlock", Some(3), || {
        let vcpu = Vcpu::new(ControlWord::waking_one(0));
        let runner = Arc::clone(&vcpu);
        let runner = thread::spawn(move || runner.run());
        let other = Arc::clone(&vcpu);
        let other = thread::spawn(move || other.pause());
        vcpu.pause();
        other.join().unwrap();
        vcpu.control.release_stop();
        vcpu.control.release_stop();
        vcpu.end();
        runner.join().unwrap();
    });
}

/// The work flag is taken by a load and a store: a pause that is published in between is overwritten.
#[test]
fn mutant_load_and_store_instead_of_one_step() {
    must_fail(
        "mutant_load_and_store_instead_of_one_step",
        "deadlock",
        Some(3),
        || {
            let vcpu = Vcpu::new(ControlWord::new(0, false));
            let runner = Arc::clone(&vcpu);
            let runner = thread::spawn(move || {
                loop {
                    runner.kernel.rearm();
                    match runner.control.try_enter() {
                        Ok(_) => {
                            runner.kernel.run();
                            runner.control.leave();
                        }
                        Err(Refusal::Work) => {
                            const WORK: u64 = 1 << 3;
                            let word = runner.control.raw().load(Ordering::Acquire);
                            runner.control.raw().store(word & !WORK, Ordering::Release);
                        }
                        Err(other) => {
                            if !runner.serve(other) {
                                return;
                            }
                        }
                    }
                }
            });
            vcpu.control.request_work(|| vcpu.kernel.kick());
            vcpu.pause();
            vcpu.control.release_stop();
            vcpu.end();
            runner.join().unwrap();
        },
    );
}
