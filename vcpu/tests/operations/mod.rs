//! Sequences of operations on a set of fake vCPUs, against a reference that knows no threads. Bytes in, so that both the property
//! test and the fuzzer drive it.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use vcpu::fake::{FakeGuest, FakeRegisters, FakeVcpu, Step};
use vcpu::{Control, PauseGuard, VcpuError, VcpuId, VcpuSet, VcpuState};

const VCPUS: usize = 3;

/// What a guest does next, as the reference knows it.
#[derive(Clone, Copy)]
enum Planned {
    Instructions(u64),
    Access,
    Hold,
    Halt,
    Fail,
    Exit,
}

/// One vCPU of the reference.
#[derive(Default)]
struct Expected {
    planned: VecDeque<Planned>,
    registers: FakeRegisters,
    held: bool,
    halted: bool,
    failed: bool,
    exited: bool,
}

impl Expected {
    /// Runs until there is nothing to do, or a reason not to.
    fn run(&mut self) {
        while !(self.held || self.halted || self.failed || self.exited) {
            let Some(planned) = self.planned.pop_front() else {
                return;
            };
            let done = match planned {
                Planned::Instructions(count) => count,
                Planned::Fail => 0,
                _ => 1,
            };
            self.registers.rip = self.registers.rip.wrapping_add(done);
            self.held = matches!(planned, Planned::Hold);
            self.halted = matches!(planned, Planned::Halt);
            self.failed = matches!(planned, Planned::Fail);
            self.exited = matches!(planned, Planned::Exit);
        }
    }

    fn state(&self, paused: bool) -> VcpuState {
        if self.exited {
            VcpuState::Exited
        } else if self.failed {
            VcpuState::Failed
        } else if paused {
            VcpuState::Paused
        } else if self.held {
            VcpuState::Held
        } else if self.halted {
            VcpuState::Halted
        } else {
            VcpuState::Running
        }
    }
}

struct Driver {
    set: VcpuSet<FakeVcpu>,
    guards: Vec<PauseGuard<FakeVcpu>>,
    vcpus: [Option<(FakeGuest, Expected)>; VCPUS],
}

fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(20))
}

/// Runs the operations that `bytes` spell, two bytes each.
pub fn run(bytes: &[u8]) {
    let mut driver = Driver {
        set: VcpuSet::new(|_, _| {}),
        guards: Vec::new(),
        vcpus: [const { None }; VCPUS],
    };
    for pair in bytes.chunks_exact(2) {
        let &[operation, argument] = pair else { return };
        driver.perform(operation, argument);
        driver.settle();
    }
    driver
        .set
        .shutdown(soon())
        .expect("a set can be shut down in every state");
    assert!(driver.set.vcpus().is_empty());
}

impl Driver {
    fn perform(&mut self, operation: u8, argument: u8) {
        let index = usize::from(argument) % VCPUS;
        let id = VcpuId(u32::from(argument) % 3);
        let count = u64::from(argument >> 2);
        match operation % 16 {
            0 => self
                .guards
                .push(self.set.pause_all(soon()).expect("all can be paused")),
            1 => {
                let resumed = self.guards.pop().map(PauseGuard::resume);
                if resumed.is_some() && self.guards.is_empty() {
                    self.release();
                }
            }
            2 => self.plan(
                index,
                Planned::Instructions(count),
                Step::Instructions(count),
            ),
            3 => self.plan(index, Planned::Access, Step::access(|| Control::Continue)),
            4 => self.plan(index, Planned::Hold, Step::access(|| Control::Hold)),
            5 => self.plan(index, Planned::Halt, Step::access(|| Control::Halted)),
            6 => self.plan(index, Planned::Fail, Step::Fail("planned".into())),
            7 => self.plan(index, Planned::Exit, Step::access(|| Control::Exited)),
            8 | 9 => self.add(index, id),
            10 => self.remove(index, id),
            11 => {
                if let (Some(vcpu), Some((_, expected))) = (self.set.get(id), self.slot(index)) {
                    vcpu.notify();
                    expected.halted = false;
                }
            }
            12 => {
                self.set.release_held();
                self.release();
            }
            13 => self
                .set
                .exclusive(soon(), || ())
                .expect("a section can be entered"),
            14 => self.reset(),
            _ => self.write_register(index, id, count),
        }
    }

    fn slot(&mut self, index: usize) -> Option<&mut (FakeGuest, Expected)> {
        self.vcpus.get_mut(index).and_then(Option::as_mut)
    }

    fn plan(&mut self, index: usize, planned: Planned, step: Step) {
        if let Some((guest, expected)) = self.slot(index) {
            guest.push(step);
            expected.planned.push_back(planned);
        }
    }

    fn release(&mut self) {
        for (_, expected) in self.vcpus.iter_mut().flatten() {
            expected.held = false;
        }
    }

    fn add(&mut self, index: usize, id: VcpuId) {
        let vcpu = FakeVcpu::new();
        let guest = vcpu.guest();
        let added = self.set.add(id, vcpu);
        if self.slot(index).is_some() {
            assert!(matches!(added, Err(VcpuError::IdInUse(_))));
        } else {
            added.expect("a free number can be used");
            self.vcpus[index] = Some((guest, Expected::default()));
        }
    }

    fn remove(&mut self, index: usize, id: VcpuId) {
        let removed = self.set.remove(id, soon());
        match self.vcpus[index].take() {
            None => assert!(matches!(removed, Err(VcpuError::NoSuchVcpu(_)))),
            Some((_, expected)) => {
                let vcpu = removed.expect("a vCPU can be removed in every state");
                if !expected.exited {
                    assert_eq!(vcpu.registers(), expected.registers);
                }
            }
        }
    }

    fn reset(&mut self) {
        let reset = self.set.reset_all(soon());
        if self.guards.is_empty() {
            assert!(matches!(reset, Err(VcpuError::NotPaused)));
            return;
        }
        reset.expect("paused vCPUs can be reset");
        for (_, expected) in self
            .vcpus
            .iter_mut()
            .flatten()
            .filter(|(_, vcpu)| !vcpu.exited)
        {
            expected.registers = FakeRegisters::default();
            (expected.failed, expected.halted) = (false, false);
        }
    }

    fn write_register(&mut self, index: usize, id: VcpuId, value: u64) {
        let written = self
            .set
            .run_on(id, soon(), move |vcpu| vcpu.registers_mut().rax = value);
        match self.slot(index) {
            None => assert!(matches!(written, Err(VcpuError::NoSuchVcpu(_)))),
            Some((_, expected)) if expected.exited => {
                assert!(matches!(written, Err(VcpuError::Exited(_))));
            }
            Some((_, expected)) => {
                written.expect("a living vCPU runs closures");
                expected.registers.rax = value;
            }
        }
    }

    /// Lets the guests do all that they can, and compares.
    fn settle(&mut self) {
        let paused = !self.guards.is_empty();
        let set = &self.set;
        assert_eq!(set.is_paused(), paused);
        for (index, slot) in self.vcpus.iter_mut().enumerate() {
            let Some((guest, expected)) = slot else {
                continue;
            };
            if !paused {
                expected.run();
            }
            let vcpu = set.get(VcpuId(index as u32)).expect("it is in the set");
            let wanted = expected.state(paused);
            let deadline = soon();
            loop {
                let running = wanted == VcpuState::Running;
                let state = vcpu.state();
                // Asking kicks it out of the guest: only once it has arrived.
                let there = state == wanted && (!running || guest.is_in_guest());
                let registers = (there && !expected.exited)
                    .then(|| vcpu.run_on(soon(), |vcpu| vcpu.registers()));
                // An exited vCPU answers no more: its state is all there is.
                if there
                    && registers
                        .as_ref()
                        .is_none_or(|read| matches!(read, Ok(read) if *read == expected.registers))
                {
                    break;
                }
                assert!(
                    Some(Instant::now()) < deadline,
                    "vCPU {index} is {state} with {registers:?}, not {wanted} with {:?}",
                    expected.registers
                );
                thread::yield_now();
            }
        }
    }
}
