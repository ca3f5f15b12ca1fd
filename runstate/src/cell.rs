//! The current state: one writer, any number of readers, no lock.
//!
//! ```text
//!  63                                8 7       0
//! +-----------------------------------+---------+
//! |            generation             |  state  |   one AtomicU64
//! +-----------------------------------+---------+
//! ```
//!
//! The rule that must never be broken: state and generation change together, in one atomic
//! write, and only by way of a table.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU64, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};

use core::fmt;

use crate::run_state::RunState;
use crate::state::{MAX_STATES, State};
use crate::table::{Change, InvalidTransition, Transition, TransitionTable};

const STATE_BITS: u32 = 8;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
/// Generations count modulo 2^56: at a million changes a second they come round after 2,283 years.
const GENERATION_MASK: u64 = u64::MAX >> STATE_BITS;

/// The current [`RunState`] of a machine.
pub type RunStateCell = StateCell<RunState>;

/// The current state of a machine.
///
/// A read is one atomic load: it may be done on any thread and in a signal handler. Writing is
/// for one thread, the owner of the machine. A second writer would not corrupt anything (a write
/// is a compare-and-exchange, and is checked against the state that it really replaces), but two
/// threads that both decide what a machine should do have a problem that no atomic solves.
///
/// What a writer did before a change is visible to a reader that has seen the change (release and
/// acquire).
pub struct StateCell<S> {
    word: AtomicU64,
    /// What an undecodable word reads as. Only a [`State`] that breaks its rule can make one.
    initial: S,
}

/// A state, and how many changes led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Snapshot<S = RunState> {
    /// The state.
    pub state: S,
    /// Grows by one with each change, from 0; modulo 2^56.
    pub generation: u64,
}

impl<S> Snapshot<S> {
    /// How many changes there were after the one numbered `generation`. More than one means that
    /// states came and went unseen.
    #[must_use]
    pub fn changes_since(&self, generation: u64) -> u64 {
        self.generation.wrapping_sub(generation) & GENERATION_MASK
    }
}

impl<S: State> StateCell<S> {
    /// A cell that begins in `initial`, at generation 0.
    #[must_use]
    pub fn new(initial: S) -> Self {
        const { assert!(S::COUNT <= MAX_STATES, "too many states") };
        Self {
            word: AtomicU64::new(pack(initial, 0)),
            initial,
        }
    }

    /// The state. One atomic load.
    #[must_use]
    pub fn load(&self) -> S {
        self.snapshot().state
    }

    /// The state and its generation, which belong together. One atomic load.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<S> {
        self.unpack(self.word.load(Ordering::Acquire))
    }

    /// The present snapshot if there was a change after the one numbered `generation`.
    ///
    /// An observer keeps the generation that it has seen, asks with it, and misses no change: not
    /// even one that led back to the same state. One atomic load.
    #[must_use]
    pub fn changed_since(&self, generation: u64) -> Option<Snapshot<S>> {
        let now = self.snapshot();
        (now.changes_since(generation) != 0).then_some(now)
    }

    /// Changes the state to `to`, if `table` allows it from the present state.
    ///
    /// The present state again is [`Change::Unchanged`], and the generation stays.
    ///
    /// # Errors
    ///
    /// [`InvalidTransition`]; the state is what it was.
    pub fn set(&self, to: S, table: &TransitionTable<S>) -> Result<Change, InvalidTransition<S>> {
        self.update(to, |from| table.check(from, to))
    }

    /// Performs a transition that was checked at compile time.
    ///
    /// # Errors
    ///
    /// [`InvalidTransition`] when the machine is not in the state that the transition leaves. Its
    /// `from` is the state that the machine is in.
    pub fn apply(&self, transition: Transition<S>) -> Result<Change, InvalidTransition<S>> {
        let to = transition.to();
        self.update(to, |from| {
            if from == transition.from() {
                Ok(Change::Moved)
            } else {
                Err(InvalidTransition { from, to })
            }
        })
    }

    fn update(
        &self,
        to: S,
        decide: impl Fn(S) -> Result<Change, InvalidTransition<S>>,
    ) -> Result<Change, InvalidTransition<S>> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let now = self.unpack(word);
            let change = decide(now.state)?;
            if change == Change::Unchanged {
                return Ok(change);
            }
            let next = pack(to, now.generation.wrapping_add(1));
            match self
                .word
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(change),
                Err(current) => word = current,
            }
        }
    }

    fn unpack(&self, word: u64) -> Snapshot<S> {
        let index = usize::try_from(word & STATE_MASK).unwrap_or(usize::MAX);
        Snapshot {
            state: S::ALL.get(index).copied().unwrap_or(self.initial),
            generation: word >> STATE_BITS,
        }
    }
}

fn pack<S: State>(state: S, generation: u64) -> u64 {
    (generation << STATE_BITS) | (state.index() as u64 & STATE_MASK)
}

impl<S: State> fmt::Debug for StateCell<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateCell").field(&self.snapshot()).finish()
    }
}
