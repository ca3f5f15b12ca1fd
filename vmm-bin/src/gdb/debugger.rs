//! What is being debugged: the guest's vCPUs with the breakpoints that are set.
//!
//! Nothing here runs or stops a vCPU. What gdb asks for is written down, and [`Debugger::arm`]
//! says what each vCPU is to watch for when the machine starts.

use super::arch::Description;
use super::cpus::{Arming, Cpus, Exception, Unavailable};
use super::hardware::{Hardware, Purpose};
use super::software::Software;
use crate::platform::DebugHit;

/// Pages are the unit of translation.
const PAGE: u64 = 4096;

/// Exceptions by number.
const DEBUG: u32 = 1;
const BREAKPOINT: u32 = 3;

/// DR6: a single step.
const SINGLE_STEP: u64 = 1 << 14;

/// What a vCPU does when the machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Action {
    /// It runs, as those do that nobody named.
    #[default]
    Continue,
    /// It was named, and runs.
    ContinueNamed,
    /// It executes one instruction.
    Step,
    /// It stays where it is.
    Stay,
}

/// Why a vCPU stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It came to a software breakpoint.
    Software,
    /// A debug register matched.
    Hardware(Purpose),
    /// It has made its step.
    Step,
    /// It was the guest's own doing.
    Guest(Exception),
}

/// The guest, as its debugger sees it.
#[derive(Debug)]
pub(super) struct Debugger<C> {
    pub(super) cpus: C,
    pub(super) description: Description,
    pub(super) software: Software,
    pub(super) hardware: Hardware,
    /// The vCPU that was reported last: software breakpoints are looked up in its page tables.
    pub(super) focus: u32,
    /// For each vCPU.
    pub(super) actions: Vec<Action>,
    /// What each vCPU watches for.
    armed: Vec<Arming>,
}

impl<C: Cpus> Debugger<C> {
    /// A guest without breakpoints.
    pub(super) fn new(cpus: C, description: Description) -> Self {
        let count = usize::try_from(cpus.count()).unwrap_or(usize::MAX);
        Self {
            cpus,
            description,
            software: Software::default(),
            hardware: Hardware::default(),
            focus: 0,
            actions: vec![Action::Continue; count],
            armed: vec![Arming::default(); count],
        }
    }

    /// The vCPUs and what they do next.
    fn each(&self) -> impl Iterator<Item = (u32, Action)> {
        (0..).zip(self.actions.iter().copied())
    }

    /// Lets every vCPU do the same.
    pub(super) fn all_do(&mut self, action: Action) {
        self.actions.fill(action);
    }

    /// What each vCPU does now. One that stays cannot be what stops next: gdb takes that for a lie.
    pub(super) fn set_out(&mut self) -> Vec<Action> {
        let moves = |(_, does): &(u32, Action)| *does != Action::Stay;
        let moving: Vec<u32> = self.each().filter(moves).map(|(cpu, _)| cpu).collect();
        if !moving.contains(&self.focus)
            && let Some(&first) = moving.first()
        {
            self.focus = first;
        }
        self.actions.clone()
    }

    /// What this vCPU is to watch for.
    fn arming(&self, action: Action) -> Arming {
        Arming {
            software: !self.software.is_empty(),
            step: action == Action::Step,
            hardware: self.hardware.values(),
        }
    }

    /// Tells the vCPUs what to watch for, those that do not know yet. They must be out of the guest.
    /// Without a breakpoint there is nothing to tell.
    ///
    /// # Errors
    /// [`Unavailable`]; then the others have been told.
    pub(super) fn arm(&mut self) -> Result<(), Unavailable> {
        let wanted: Vec<_> = self
            .each()
            .map(|(cpu, action)| (cpu, self.arming(action)))
            .collect();
        let mut all = Ok(());
        for ((cpu, wanted), armed) in wanted.into_iter().zip(&mut self.armed) {
            if wanted == *armed {
                continue;
            }
            match self.cpus.arm(cpu, &wanted, None) {
                Ok(()) => *armed = wanted,
                Err(error) => all = Err(error),
            }
        }
        all
    }

    /// Forgets every breakpoint. What the vCPUs watch for goes with the next [`arm`](Self::arm).
    pub(super) fn clear(&mut self) {
        self.software.clear(&self.cpus);
        self.hardware = Hardware::default();
        self.all_do(Action::Continue);
    }

    /// Memory was loaded anew.
    pub(super) fn after_reset(&mut self) {
        self.software.after_reset(&self.cpus);
    }

    /// Why this vCPU has exited.
    pub(super) fn cause(&self, cpu: u32, hit: &DebugHit) -> Cause {
        match hit.exception {
            BREAKPOINT => {
                let physical = self.cpus.translate(cpu, hit.pc);
                if physical.is_some_and(|physical| self.software.is_at(physical)) {
                    Cause::Software
                } else {
                    Cause::Guest(Exception::Breakpoint)
                }
            }
            DEBUG => {
                let index = usize::try_from(cpu).unwrap_or(usize::MAX);
                let steps = self.armed.get(index).is_some_and(|armed| armed.step);
                match self.hardware.hit(hit.dr6) {
                    Some(purpose) => Cause::Hardware(purpose),
                    None if steps && hit.dr6 & SINGLE_STEP != 0 => Cause::Step,
                    None => Cause::Guest(Exception::Debug),
                }
            }
            _ => Cause::Step,
        }
    }

    /// Gives a vCPU the exception that was not the debugger's. It must be out of the guest.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(super) fn pass_on(&self, cpu: u32, exception: Exception) -> Result<(), Unavailable> {
        let index = usize::try_from(cpu).unwrap_or(usize::MAX);
        let armed = self.armed.get(index).ok_or(Unavailable)?;
        self.cpus.arm(cpu, armed, Some(exception))
    }

    /// Where a software breakpoint at this linear address goes, as the first vCPU has it that knows the
    /// address, this one before the others.
    pub(super) fn physical(&self, first: u32, linear: u64) -> Option<u64> {
        std::iter::once(first)
            .chain((0..self.cpus.count()).filter(|&cpu| cpu != first))
            .find_map(|cpu| self.cpus.translate(cpu, linear))
    }

    /// Fills `bytes` from a linear address on, without the breakpoints; how many bytes there are until
    /// the first that is no memory.
    pub(super) fn read(&self, cpu: u32, linear: u64, bytes: &mut [u8]) -> usize {
        let mut done: usize = 0;
        while let Some(left) = bytes.get_mut(done..).filter(|left| !left.is_empty()) {
            let Some(address) = linear.checked_add(done as u64) else {
                break;
            };
            let on_page = left.len().min(to_page_end(address));
            let Some(piece) = left.get_mut(..on_page) else {
                break;
            };
            let Some(physical) = self.cpus.translate(cpu, address) else {
                break;
            };
            if !self.cpus.read(physical, piece) {
                break;
            }
            self.software.reveal(physical, piece);
            done = done.saturating_add(on_page);
        }
        done
    }

    /// Writes `bytes` to a linear address, under the breakpoints; `false`, and nothing is written, if
    /// not all of that is memory.
    pub(super) fn write(&mut self, cpu: u32, linear: u64, bytes: &[u8]) -> bool {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        let mut address = linear;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(to_page_end(address)));
            let Some(physical) = self.cpus.translate(cpu, address) else {
                return false;
            };
            if !self.cpus.read(physical, &mut vec![0; piece.len()]) {
                return false;
            }
            pieces.push((physical, piece.to_vec()));
            rest = after;
            match address.checked_add(piece.len() as u64) {
                Some(next) => address = next,
                None if rest.is_empty() => break,
                None => return false,
            }
        }
        for (physical, mut piece) in pieces {
            self.software.keep(physical, &mut piece);
            self.cpus.write(physical, &piece);
        }
        true
    }
}

/// How many bytes there are from this address to the end of its page.
fn to_page_end(address: u64) -> usize {
    let left = PAGE.saturating_sub(address % PAGE);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use gdbstub::target::ext::breakpoints::WatchKind;

    use super::super::fake::FakeCpus;
    use super::*;

    fn debugger() -> Debugger<FakeCpus> {
        Debugger::new(FakeCpus::new(2), Description::X86_64)
    }

    fn hit(exception: u32, pc: u64, dr6: u64) -> DebugHit {
        DebugHit {
            exception,
            pc,
            dr6,
            ..DebugHit::default()
        }
    }

    #[test]
    fn memory_is_read_up_to_its_end_and_written_whole_or_not() {
        let mut debugger = debugger();
        assert!(debugger.write(0, 0xffe, &[1, 2, 3, 4]));
        let mut bytes = [0; 4];
        assert_eq!(debugger.read(0, 0x8000_0ffe, &mut bytes), 4);
        assert_eq!(bytes, [1, 2, 3, 4]);
        let end = FakeCpus::MEMORY;
        assert_eq!(debugger.read(0, end, &mut bytes), 0);
        assert_eq!(debugger.read(0, u64::MAX - 1, &mut bytes), 0);
        assert_eq!(debugger.read(0, end - 0x1000, &mut [0; 0x1800]), 0x1000);
        assert!(!debugger.write(0, end - 2, &[9; 4]));
        assert!(!debugger.write(0, u64::MAX, &[9; 4]));
        assert!(!debugger.write(0, 0xffff_fffe, &[9; 4]));
        assert_eq!(debugger.read(0, end - 2, &mut bytes[..2]), 2);
        assert_eq!(bytes[..2], [0, 0], "half of a write was made");
    }

    #[test]
    fn breakpoints_are_not_seen_in_memory() {
        let mut debugger = debugger();
        assert!(debugger.write(0, 0x1000, &[1, 2, 3]));
        let physical = debugger.physical(1, 0x8000_1001).unwrap();
        debugger
            .software
            .add(&debugger.cpus, 0x8000_1001, physical)
            .unwrap();
        let mut bytes = [0; 3];
        assert_eq!(debugger.read(0, 0x1000, &mut bytes), 3);
        assert_eq!(bytes, [1, 2, 3]);
        assert!(debugger.write(0, 0x1000, &[4, 5, 6]));
        assert!(debugger.cpus.read(0x1000, &mut bytes));
        assert_eq!(bytes, [4, 0xcc, 6]);
        debugger.clear();
        assert!(debugger.cpus.read(0x1000, &mut bytes));
        assert_eq!(bytes, [4, 5, 6]);
    }

    #[test]
    fn an_exit_is_the_debuggers_or_the_guests() {
        let mut debugger = debugger();
        let cpus = &debugger.cpus;
        debugger.software.add(cpus, 0x1000, 0x1000).unwrap();
        let watched = Purpose::Watch {
            address: 0x2000,
            length: 4,
            kind: WatchKind::Write,
        };
        debugger.hardware.add(watched).unwrap();
        debugger.actions[1] = Action::Step;
        debugger.arm().unwrap();
        let cause = |cpu, exception, pc, dr6| debugger.cause(cpu, &hit(exception, pc, dr6));
        assert_eq!(cause(0, BREAKPOINT, 0x1000, 0), Cause::Software);
        assert_eq!(cause(0, BREAKPOINT, 0x8000_1000, 0), Cause::Software);
        let guest = Cause::Guest(Exception::Breakpoint);
        assert_eq!(cause(0, BREAKPOINT, 0x1001, 0), guest);
        assert_eq!(cause(0, DEBUG, 0, 0xffff_0ff1), Cause::Hardware(watched));
        assert_eq!(cause(1, DEBUG, 0, SINGLE_STEP), Cause::Step);
        let guest = Cause::Guest(Exception::Debug);
        assert_eq!(cause(0, DEBUG, 0, SINGLE_STEP), guest);
    }

    #[test]
    fn a_vcpu_that_stays_is_not_the_next_to_be_reported() {
        let mut debugger = debugger();
        for (actions, focus) in [
            ([Action::Continue, Action::Continue], 0),
            ([Action::Stay, Action::ContinueNamed], 1),
            ([Action::Continue, Action::Continue], 1),
            ([Action::Step, Action::Stay], 0),
            ([Action::Stay, Action::Stay], 0),
        ] {
            debugger.actions = actions.to_vec();
            assert_eq!(debugger.set_out(), actions);
            assert_eq!(debugger.focus, focus, "{actions:?}");
        }
    }

    #[test]
    fn a_vcpu_is_told_only_what_it_does_not_know() {
        let mut debugger = debugger();
        debugger.arm().unwrap();
        let untouched = vec![(Arming::default(), None); 2];
        assert_eq!(*debugger.cpus.armed.borrow(), untouched);
        debugger.actions[1] = Action::Step;
        debugger.arm().unwrap();
        let step = Arming {
            step: true,
            ..Arming::default()
        };
        assert_eq!(debugger.cpus.armed.borrow()[1], (step, None));
        debugger.pass_on(1, Exception::Debug).unwrap();
        let passed_on = (step, Some(Exception::Debug));
        assert_eq!(debugger.cpus.armed.borrow()[1], passed_on);
        debugger.clear();
        debugger.arm().unwrap();
        assert_eq!(*debugger.cpus.armed.borrow(), untouched);
    }
}
