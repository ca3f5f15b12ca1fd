//! A vCPU's thread: the loop that alternates between the guest and the requests.
//!
//! ```text
//!        +--> rearm --> look --- nothing asked --> run, handle the exit --+
//!        |               |                                                |
//!        |               | asked for something                            |
//!        |               v                                                |
//!        |       complete the half-done instruction, if any               |
//!        |               |                                                |
//!        |               +-- exit --> end of the thread                   |
//!        |               +-- work --> run the closures                    |
//!        |               +-- stop, hold, halt... --> park, sleep          |
//!        |               v                                                |
//!        +---------------+------------------------------------------------+
//! ```
//!
//! The rule that must never be broken: a vCPU parks only after the half-done instruction was completed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::control::Refusal;
use crate::error::Failure;
use crate::run::{Control, Entry, Kicker, VcpuRun};
use crate::thread::VcpuThread;

/// Whether a thread goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Again,
    /// The vCPU is done.
    Exited,
    /// Somebody asked the thread to end.
    Asked,
}

/// Runs `vcpu` until it ends, and gives it back; says whether it ended of its own accord.
pub(crate) fn run<R: VcpuRun>(thread: &VcpuThread<R>, mut vcpu: R) -> (R, bool) {
    let kicker = vcpu.kicker();
    thread.attach(Arc::clone(&kicker));
    let mut worker = Worker {
        thread,
        kicker,
        half_done: false,
        epoch: 0,
    };
    loop {
        match worker.turn(&mut vcpu) {
            Turn::Again => {}
            Turn::Exited => return (vcpu, true),
            Turn::Asked => return (vcpu, false),
        }
    }
}

struct Worker<'a, R: VcpuRun> {
    thread: &'a VcpuThread<R>,
    kicker: Arc<dyn Kicker>,
    /// The last exit may have left an instruction half done.
    half_done: bool,
    /// The epoch of the last entry.
    epoch: u32,
}

impl<R: VcpuRun> Worker<'_, R> {
    /// One way round the loop.
    fn turn(&mut self, vcpu: &mut R) -> Turn {
        self.kicker.rearm();
        let refusal = match self.thread.control.try_enter() {
            Ok(epoch) => {
                self.epoch = epoch;
                return self.enter(vcpu);
            }
            Err(refusal) => refusal,
        };
        if self.half_done {
            self.half_done = false;
            let control = catch_unwind(AssertUnwindSafe(|| vcpu.complete()));
            return self.obey(control);
        }
        match refusal {
            Refusal::Exit => return Turn::Asked,
            Refusal::Work => self.work(vcpu),
            Refusal::StayOut => {
                self.thread.control.park();
                self.thread.control.sleep();
            }
        }
        Turn::Again
    }

    fn enter(&mut self, vcpu: &mut R) -> Turn {
        let thread = self.thread;
        let mut entry = Entry::new(&thread.control, &thread.last_exit, thread.id());
        let control = catch_unwind(AssertUnwindSafe(|| vcpu.run(&mut entry)));
        entry.left(None);
        self.half_done = entry.has_exited();
        self.obey(control)
    }

    fn work(&self, vcpu: &mut R) {
        self.thread.control.take_work();
        while let Some(job) = self.thread.queue.pop() {
            let done = catch_unwind(AssertUnwindSafe(|| job(vcpu)));
            if let Err(payload) = done {
                self.thread.fail(Failure::panic("queued work", &*payload));
            }
        }
    }

    fn obey(&self, control: std::thread::Result<Control>) -> Turn {
        match control {
            Ok(Control::Continue) => {}
            Ok(Control::Hold) => self.thread.control.hold(self.epoch),
            Ok(Control::Halted) => self.thread.control.halt(),
            Ok(Control::Exited) => return Turn::Exited,
            Ok(Control::Failed(failure)) => self.thread.fail(failure),
            Err(payload) => self
                .thread
                .fail(Failure::panic("the exit handler", &*payload)),
        }
        Turn::Again
    }
}
