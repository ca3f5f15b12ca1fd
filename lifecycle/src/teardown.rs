//! Tear-down: what goes before what, as one table; and how long anybody waits for it.
//!
//! The rule that must never be broken: a tear-down comes to its end, from every state, whatever
//! fails in it. Every wait has a bound.

use core::fmt;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::compat::Compat;
use crate::error::Error;
use crate::event::EventSink;
use crate::lifecycle::Lifecycle;
use crate::machine::Machine;
use crate::names::qapi_enum;

qapi_enum! {
    /// The phases of the tear-down: those of QEMU's `qemu_cleanup`, by the names of its
    /// functions. A VMM that has nothing for a phase leaves it empty.
    "tear-down phase"
    pub enum TeardownPhase {
        /// The debugger learns of the exit while its connection works.
        Debugger = "gdb_exit",
        /// Migration stops touching devices and storage.
        Migration = "migration_shutdown",
        /// Exported storage is closed.
        Exports = "blk_exp_close_all",
        /// Storage is quiescent from here on.
        Drain = "bdrv_drain_all_begin",
        /// The machine stops, silently: no vCPU and no device is active afterwards.
        StopMachine = "vm_shutdown",
        /// The recording ends: after the guest's last instruction.
        Replay = "replay_finish",
        /// Jobs are cancelled.
        Jobs = "job_cancel_sync_all",
        /// Storage is closed: after the jobs on it.
        Storage = "bdrv_close_all",
        /// The TPM.
        Tpm = "tpm_cleanup",
        /// The network.
        Network = "net_cleanup",
        /// Sound.
        Audio = "audio_cleanup",
        /// Monitors: their last events and replies are flushed. They need character devices.
        Monitor = "monitor_cleanup",
        /// Character devices.
        Chardevs = "qemu_chr_cleanup",
        /// What the user made: secrets, back-ends.
        UserObjects = "user_creatable_cleanup",
    }
}

impl TeardownPhase {
    /// The phases in their order. QEMU 7.2 drains before the machine is stopped, and a device's
    /// request that is stuck in a queue can hang the exit; `Current` drains afterwards.
    #[must_use]
    pub const fn order(compat: Compat) -> &'static [Self] {
        use TeardownPhase as P;
        const CURRENT: &[P] = &[
            P::Debugger,
            P::Migration,
            P::Exports,
            P::StopMachine,
            P::Replay,
            P::Drain,
            P::Jobs,
            P::Storage,
            P::Tpm,
            P::Network,
            P::Audio,
            P::Monitor,
            P::Chardevs,
            P::UserObjects,
        ];
        match compat {
            Compat::Qemu7_2 => P::ALL,
            Compat::Current => CURRENT,
        }
    }
}

type Task<E> = Box<dyn FnOnce(Deadline) -> Result<(), E>>;

/// A tear-down that is being put together.
pub struct Teardown<E> {
    tasks: Vec<(TeardownPhase, Task<E>)>,
}

/// What failed in a tear-down, which went on all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeardownFailure<E> {
    /// The machine could not be stopped, or not be flushed.
    Machine(Error),
    /// A task of this phase failed.
    Task(TeardownPhase, E),
}

impl<E> Teardown<E> {
    /// A tear-down whose phases are all empty, but for the one that stops the machine.
    #[must_use]
    pub const fn new() -> Self {
        Self { tasks: Vec::new() }
    }

    /// Adds to a phase. Within a phase, what was added last comes first: it may rest on what was
    /// there before. The task is given the time at which it must be done.
    #[must_use]
    pub fn with(
        mut self,
        phase: TeardownPhase,
        task: impl FnOnce(Deadline) -> Result<(), E> + 'static,
    ) -> Self {
        self.tasks.push((phase, Box::new(task)));
        self
    }

    /// Goes through the phases, each task with at most `bound`; `enter` is told of each phase,
    /// empty or not. Returns what failed.
    pub fn run<M: Machine, S: EventSink>(
        self,
        lifecycle: &Lifecycle<M, S>,
        bound: Duration,
        mut enter: impl FnMut(TeardownPhase),
    ) -> Vec<TeardownFailure<E>> {
        let mut failures = Vec::new();
        let mut tasks = self.tasks;
        for phase in TeardownPhase::order(lifecycle.compat()) {
            enter(*phase);
            if *phase == TeardownPhase::StopMachine
                && let Err(error) = lifecycle.shutdown_for_exit()
            {
                failures.push(TeardownFailure::Machine(error));
            }
            let (mut due, rest): (Vec<_>, Vec<_>) =
                tasks.into_iter().partition(|(of, _)| of == phase);
            tasks = rest;
            while let Some((_, task)) = due.pop() {
                if let Err(error) = task(Deadline::after(bound)) {
                    failures.push(TeardownFailure::Task(*phase, error));
                }
            }
        }
        failures
    }
}

impl<E> Default for Teardown<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for Teardown<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases = self.tasks.iter().map(|(phase, _)| phase.as_str());
        f.debug_list().entries(phases).finish()
    }
}

/// When something must be done.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(bound: Duration) -> Self {
        // None: so far away that the clock cannot say it.
        Self(Instant::now().checked_add(bound))
    }

    /// How long there is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.0.map_or(Duration::MAX, |at| {
            at.saturating_duration_since(Instant::now())
        })
    }

    /// Waits for a thread, no longer than this.
    ///
    /// # Errors
    ///
    /// [`StillRunning`] gives the thread back.
    pub fn join<T>(
        &self,
        thread: JoinHandle<T>,
    ) -> Result<std::thread::Result<T>, StillRunning<T>> {
        let mut pause = Duration::from_micros(50);
        while !thread.is_finished() {
            let left = self.remaining();
            if left.is_zero() {
                return Err(StillRunning(thread));
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "the standard library has no join with a bound; a tear-down can afford to look again"
            )]
            std::thread::sleep(pause.min(left));
            pause = pause.saturating_mul(2).min(Duration::from_millis(5));
        }
        Ok(thread.join())
    }
}

/// A thread that was not done in time.
#[derive(Debug)]
pub struct StillRunning<T>(pub JoinHandle<T>);

/// How hard a machine is asked to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// The power button: the guest may shut down in its own way.
    Powerdown,
    /// `quit`: an orderly tear-down, the guest is not asked.
    Quit,
    /// The process ends at once.
    Kill,
}

/// How long each rung waits for the next: a pure policy, the time is given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Escalation {
    /// From the power button to `quit`.
    pub powerdown: Duration,
    /// From `quit` to the kill.
    pub quit: Duration,
}

impl Escalation {
    /// The rung at which a machine is that was first asked `elapsed` ago, from `first` on.
    #[must_use]
    pub fn rung(&self, first: Rung, elapsed: Duration) -> Rung {
        let quit_at = match first {
            Rung::Powerdown => self.powerdown,
            Rung::Quit | Rung::Kill => Duration::ZERO,
        };
        if first == Rung::Kill || elapsed >= quit_at.saturating_add(self.quit) {
            Rung::Kill
        } else if elapsed >= quit_at {
            Rung::Quit
        } else {
            Rung::Powerdown
        }
    }
}

/// A climb of the [`Escalation`]: each rung is told once. A person who asks again skips a rung.
#[derive(Debug, Clone, Copy)]
pub struct Ladder {
    escalation: Escalation,
    first: Rung,
    asked: Duration,
    reached: Option<Rung>,
}

impl Ladder {
    /// A climb that begins at `first`, at the time `now` of whatever clock.
    #[must_use]
    pub const fn new(escalation: Escalation, first: Rung, now: Duration) -> Self {
        Self {
            escalation,
            first,
            asked: now,
            reached: None,
        }
    }

    /// The rung that is due now, if it was not told before.
    pub fn due(&mut self, now: Duration) -> Option<Rung> {
        let rung = self
            .escalation
            .rung(self.first, now.saturating_sub(self.asked));
        let is_new = self.reached.is_none_or(|reached| rung > reached);
        is_new.then(|| {
            self.reached = Some(rung);
            rung
        })
    }

    /// Somebody asks again: the next rung is due at once.
    pub fn press(&mut self, now: Duration) {
        let current = self
            .escalation
            .rung(self.first, now.saturating_sub(self.asked));
        self.first = match self.reached.map_or(current, |reached| reached.max(current)) {
            Rung::Powerdown => Rung::Quit,
            Rung::Quit | Rung::Kill => Rung::Kill,
        };
        self.asked = now;
    }

    /// How long until the next rung is due, for a timer. `None`: there is none.
    #[must_use]
    pub fn next_in(&self, now: Duration) -> Option<Duration> {
        let elapsed = now.saturating_sub(self.asked);
        let at = match self.escalation.rung(self.first, elapsed) {
            Rung::Powerdown => self.escalation.powerdown,
            Rung::Quit if self.first == Rung::Powerdown => self
                .escalation
                .powerdown
                .saturating_add(self.escalation.quit),
            Rung::Quit => self.escalation.quit,
            Rung::Kill => return None,
        };
        Some(at.saturating_sub(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESCALATION: Escalation = Escalation {
        powerdown: Duration::from_secs(30),
        quit: Duration::from_secs(5),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_guest_that_does_not_listen_is_quit_and_then_killed() {
        let mut ladder = Ladder::new(ESCALATION, Rung::Powerdown, at(100));
        assert_eq!(ladder.due(at(100)), Some(Rung::Powerdown));
        assert_eq!(ladder.due(at(101)), None, "each rung is told once");
        assert_eq!(ladder.next_in(at(101)), Some(at(29)));
        assert_eq!(ladder.due(at(130)), Some(Rung::Quit));
        assert_eq!(ladder.next_in(at(130)), Some(at(5)));
        assert_eq!(ladder.due(at(134)), None);
        assert_eq!(ladder.due(at(135)), Some(Rung::Kill));
        assert_eq!(ladder.due(at(1_000)), None);
        assert_eq!(ladder.next_in(at(135)), None);
    }

    #[test]
    fn a_main_loop_that_was_away_skips_to_the_rung_that_is_due() {
        let mut ladder = Ladder::new(ESCALATION, Rung::Powerdown, at(0));
        assert_eq!(ladder.due(at(500)), Some(Rung::Kill));
        // And a clock that goes backwards does no harm.
        assert_eq!(ladder.due(at(0)), None);
        assert_eq!(ladder.next_in(Duration::ZERO), Some(at(30)));
    }

    #[test]
    fn who_asks_again_does_not_wait() {
        let mut ladder = Ladder::new(ESCALATION, Rung::Quit, at(0));
        assert_eq!(ladder.due(at(0)), Some(Rung::Quit));
        ladder.press(at(1));
        assert_eq!(ladder.due(at(1)), Some(Rung::Kill));

        let mut ladder = Ladder::new(ESCALATION, Rung::Powerdown, at(0));
        assert_eq!(ladder.due(at(0)), Some(Rung::Powerdown));
        ladder.press(at(2));
        assert_eq!(ladder.due(at(2)), Some(Rung::Quit));
        assert_eq!(ladder.next_in(at(3)), Some(at(4)));
        assert_eq!(ladder.due(at(7)), Some(Rung::Kill));
    }
}
