//! A vCPU's thread and KVM as loom sees them, and what every test is made of.

use loom::model::Builder;
use loom::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use vcpu::protocol::{ControlWord, Refusal};

/// A vCPU as the kernel sees it.
pub(crate) struct Kernel {
    pub(crate) immediate_exit: AtomicU8,
    /// Whether the thread is in KVM_RUN, and whether a signal came since.
    run: Mutex<(bool, bool)>,
    signal: Condvar,
    /// 1 while guest code may run. For assertions, so not a part of the model: std's.
    pub(crate) guest_runs: std::sync::atomic::AtomicUsize,
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
    pub(crate) fn run(&self) {
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

    pub(crate) fn send_signal(&self) {
        let mut run = self.run.lock().unwrap();
        if run.0 {
            run.1 = true;
            self.signal.notify_one();
        }
    }

    pub(crate) fn kick(&self) {
        self.immediate_exit.store(1, Ordering::Release);
        self.send_signal();
    }

    pub(crate) fn rearm(&self) {
        self.immediate_exit.store(0, Ordering::Release);
    }
}

pub(crate) struct Vcpu {
    pub(crate) control: ControlWord,
    pub(crate) kernel: Kernel,
    pub(crate) work_done: AtomicUsize,
}

impl Vcpu {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(ControlWord::new(0, false))
    }

    pub(crate) fn with(control: ControlWord) -> Arc<Self> {
        let (kernel, work_done) = (Kernel::new(), AtomicUsize::new(0));
        Arc::new(Self {
            control,
            kernel,
            work_done,
        })
    }

    /// The loop of a vCPU's thread.
    pub(crate) fn run(&self) {
        self.run_with(Kernel::rearm, |_| (), Self::serve);
    }

    /// The same loop with its steps to choose: what comes before the look at the control word, what comes between the look
    /// and KVM_RUN, and what is done about a refusal.
    pub(crate) fn run_with(
        &self,
        before_look: impl Fn(&Kernel),
        before_run: impl Fn(&Kernel),
        serve: impl Fn(&Self, Refusal) -> bool,
    ) {
        loop {
            before_look(&self.kernel);
            match self.control.try_enter() {
                Ok(_) => {
                    before_run(&self.kernel);
                    self.kernel.run();
                    self.control.leave();
                }
                Err(refusal) => {
                    if !serve(self, refusal) {
                        return;
                    }
                }
            }
        }
    }

    /// `false`: the thread ends.
    pub(crate) fn serve(&self, refusal: Refusal) -> bool {
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

    pub(crate) fn pause(&self) {
        assert!(self.control.request_stop(|| self.kernel.kick()));
        self.wait_paused();
    }

    pub(crate) fn wait_paused(&self) {
        self.control.wait_stopped(false, None).unwrap();
        assert_eq!(
            self.kernel.guest_runs.load(Ordering::Relaxed),
            0,
            "guest code in a pause"
        );
    }

    pub(crate) fn end(&self) {
        self.control.request_exit(|| self.kernel.kick());
    }
}

/// A thread that does `act` with the vCPU.
pub(crate) fn spawn(vcpu: &Arc<Vcpu>, act: impl FnOnce(&Vcpu) + 'static) -> JoinHandle<()> {
    let vcpu = Arc::clone(vcpu);
    thread::spawn(move || act(&vcpu))
}

/// A vCPU whose thread does `thread`, while the caller's does `client`. Both have ended when it returns.
pub(crate) fn one_vcpu(thread: impl FnOnce(&Vcpu) + 'static, client: impl FnOnce(&Arc<Vcpu>)) {
    against(&Vcpu::new(), thread, client);
}

/// [`one_vcpu`] with a vCPU of the caller's.
pub(crate) fn against(
    vcpu: &Arc<Vcpu>,
    thread: impl FnOnce(&Vcpu) + 'static,
    client: impl FnOnce(&Arc<Vcpu>),
) {
    let thread = spawn(vcpu, thread);
    client(vcpu);
    thread.join().unwrap();
}

/// Two vCPUs in their loops, while the caller's thread does `client`.
pub(crate) fn two_vcpus(client: impl FnOnce(&[Arc<Vcpu>])) {
    let vcpus = [(); 2].map(|()| Vcpu::new());
    let threads = vcpus.clone().map(|vcpu| spawn(&vcpu, Vcpu::run));
    client(&vcpus);
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The pauser's side: so many pauses, with a resume between two, and the end during the last.
pub(crate) fn cycles(vcpus: &[Arc<Vcpu>], count: usize) {
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

/// Explores `f` with up to so many preemptions, or with any number; with `LOOM_UNBOUNDED` in the environment with any number in any case.
pub(crate) fn model(preemptions: Option<usize>, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    let unbounded = std::env::var_os("LOOM_UNBOUNDED").is_some();
    builder.preemption_bound = preemptions.filter(|_| !unbounded);
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
