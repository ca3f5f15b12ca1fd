//! A vCPU without a hypervisor: its guest counts, and does what a test tells it to.
//!
//! It behaves as a real one does where it matters: it stays in the guest until it is kicked or exits; a kick that comes before
//! the entry makes the entry return; an access to a device is half done until the next entry or completion.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::error::Failure;
use crate::run::{Control, Entry, Kicker, LastExit, VcpuRun};
use crate::sync::{Condvar, Mutex, lock};

/// What the guest does next.
pub enum Step {
    /// Runs some instructions, and stays in the guest.
    Instructions(u64),
    /// Accesses a device: an exit, whose handler is the closure. The instruction is complete, and `rip` moves on, at the next
    /// entry or when it is completed for a pause.
    Access(Box<dyn FnOnce() -> Control + Send>),
    /// An access in so many parts more: each completion brings the next exit.
    AccessInParts(u32),
    /// The hypervisor fails.
    Fail(String),
}

impl Step {
    /// An access with this handler.
    pub fn access(handler: impl FnOnce() -> Control + Send + 'static) -> Self {
        Self::Access(Box::new(handler))
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instructions(n) => write!(f, "Instructions({n})"),
            Self::Access(_) => f.write_str("Access"),
            Self::AccessInParts(n) => write!(f, "AccessInParts({n})"),
            Self::Fail(message) => write!(f, "Fail({message:?})"),
        }
    }
}

/// The registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FakeRegisters {
    /// Instructions completed since the reset.
    pub rip: u64,
    /// For tests to write.
    pub rax: u64,
}

/// What the guest's threads share.
#[derive(Debug, Default)]
struct Inside {
    kicked: bool,
    in_guest: bool,
    steps: VecDeque<Step>,
    entries: u64,
    signals: u64,
    needless_signals: u64,
}

#[derive(Debug)]
struct Shared {
    inside: Mutex<Inside>,
    changed: Condvar,
}

/// The remote control of a [`FakeVcpu`], for the test.
#[derive(Debug, Clone)]
pub struct FakeGuest(Arc<Shared>);

impl FakeGuest {
    /// Has the guest do something after all that it was told before.
    pub fn push(&self, step: Step) {
        lock(&self.0.inside).steps.push_back(step);
        self.0.changed.notify_all();
    }

    /// How often the guest was entered.
    #[must_use]
    pub fn entries(&self) -> u64 {
        lock(&self.0.inside).entries
    }

    /// How many signals were sent to the vCPU, and how many of them while it was outside the guest.
    #[must_use]
    pub fn signals(&self) -> (u64, u64) {
        let inside = lock(&self.0.inside);
        (inside.signals, inside.needless_signals)
    }

    /// Whether it is in the guest at this moment.
    #[must_use]
    pub fn is_in_guest(&self) -> bool {
        lock(&self.0.inside).in_guest
    }
}

/// The vCPU.
#[derive(Debug)]
pub struct FakeVcpu {
    shared: Arc<Shared>,
    registers: FakeRegisters,
    half_done: bool,
    parts_left: u32,
}

impl FakeVcpu {
    /// A vCPU whose guest stays inside until it is kicked or told something.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            inside: Mutex::default(),
            changed: Condvar::new(),
        };
        let (registers, shared) = (FakeRegisters::default(), Arc::new(shared));
        Self {
            shared,
            registers,
            half_done: false,
            parts_left: 0,
        }
    }

    /// The remote control.
    #[must_use]
    pub fn guest(&self) -> FakeGuest {
        FakeGuest(Arc::clone(&self.shared))
    }

    /// The registers. In the middle of an instruction they are those before it.
    #[must_use]
    pub fn registers(&self) -> FakeRegisters {
        self.registers
    }

    /// The registers, to be changed.
    pub fn registers_mut(&mut self) -> &mut FakeRegisters {
        &mut self.registers
    }

    /// Whether an instruction is half done.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        self.half_done
    }

    /// What entering does first: the instruction before is completed. `false`: it has another part, which exits.
    fn finish_access(&mut self) -> bool {
        if !self.half_done {
            return true;
        }
        if let Some(left) = self.parts_left.checked_sub(1) {
            self.parts_left = left;
            return false;
        }
        self.half_done = false;
        self.registers.rip = self.registers.rip.wrapping_add(1);
        true
    }
}

impl Default for FakeVcpu {
    fn default() -> Self {
        Self::new()
    }
}

impl VcpuRun for FakeVcpu {
    type State = FakeRegisters;
    type Error = Infallible;

    fn kicker(&mut self) -> Arc<dyn Kicker> {
        Arc::new(FakeKicker(Arc::clone(&self.shared)))
    }

    fn run(&mut self, entry: &mut Entry<'_>) -> Control {
        if !self.finish_access() {
            entry.left(Some(LastExit {
                code: 1,
                address: None,
            }));
            return Control::Continue;
        }
        let shared = Arc::clone(&self.shared);
        let mut inside = lock(&shared.inside);
        inside.in_guest = true;
        inside.entries = inside.entries.saturating_add(1);
        let step = loop {
            if inside.kicked {
                break None;
            }
            match inside.steps.pop_front() {
                Some(Step::Instructions(n)) => {
                    self.registers.rip = self.registers.rip.wrapping_add(n);
                }
                Some(exit) => break Some(exit),
                None => {
                    inside = shared
                        .changed
                        .wait(inside)
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                }
            }
        };
        inside.in_guest = false;
        drop(inside);
        match step {
            None | Some(Step::Instructions(_)) => {
                entry.left(None);
                Control::Continue
            }
            Some(Step::Access(handler)) => {
                entry.left(Some(LastExit {
                    code: 1,
                    address: Some(0x64),
                }));
                self.half_done = true;
                handler()
            }
            Some(Step::AccessInParts(parts)) => {
                entry.left(Some(LastExit {
                    code: 1,
                    address: None,
                }));
                self.half_done = true;
                self.parts_left = parts;
                Control::Continue
            }
            Some(Step::Fail(message)) => {
                entry.left(Some(LastExit {
                    code: 2,
                    address: None,
                }));
                Control::Failed(Failure::run(message))
            }
        }
    }

    fn complete(&mut self) -> Control {
        while !self.finish_access() {}
        Control::Continue
    }

    fn save(&mut self) -> Result<FakeRegisters, Infallible> {
        Ok(self.registers)
    }

    fn restore(&mut self, state: &FakeRegisters) -> Result<(), Infallible> {
        self.registers = *state;
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Infallible> {
        self.registers = FakeRegisters::default();
        Ok(())
    }

    fn exit_name(code: u16) -> &'static str {
        match code {
            1 => "access",
            _ => "failure",
        }
    }
}

#[derive(Debug)]
struct FakeKicker(Arc<Shared>);

impl Kicker for FakeKicker {
    fn kick(&self) {
        let mut inside = lock(&self.0.inside);
        inside.kicked = true;
        inside.signals = inside.signals.saturating_add(1);
        if !inside.in_guest {
            inside.needless_signals = inside.needless_signals.saturating_add(1);
        }
        drop(inside);
        self.0.changed.notify_all();
    }

    fn rearm(&self) {
        lock(&self.0.inside).kicked = false;
    }
}
