//! The legal transitions of a set of states, as a bit matrix that is built at compile time.
//!
//! ```text
//!               to:  a b c d
//!        from a    [ . 1 . . ]      a -> b
//!             b    [ . . 1 1 ]      b -> c, b -> d
//!             c    [ 1 . . . ]      c -> a
//!             d    [ . . . . ]      d is final
//! ```
//!
//! The rule that must never be broken: there is one table, and everybody asks it. A state that is
//! written without asking is a state that no diagram, no test and no reader expects.

use core::fmt;
use core::marker::PhantomData;

use crate::state::{MAX_STATES, State};

/// The legal transitions between the states of `S`.
///
/// Built in a `const` by [`transitions!`](crate::transitions). Staying in a state is never an
/// edge: [`check`](Self::check) answers it with [`Change::Unchanged`] in every table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransitionTable<S> {
    /// Bit `to` of row `from` is set when the transition is legal.
    rows: [u32; MAX_STATES],
    states: PhantomData<fn() -> S>,
}

/// What a legal transition does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The state is another one now.
    Moved,
    /// The state was this one already; nothing was done.
    Unchanged,
}

/// The table has no such transition. Nothing was done.
///
/// [`TransitionTable::successors`] tells what would have been legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvalidTransition<S> {
    /// The state to leave.
    pub from: S,
    /// The state that cannot be entered from there.
    pub to: S,
}

impl<S: State> fmt::Display for InvalidTransition<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid runstate transition: '{}' -> '{}'",
            self.from.name(),
            self.to.name()
        )
    }
}

impl<S: State> core::error::Error for InvalidTransition<S> {}

/// A transition that its table was seen to allow at compile time.
///
/// Made by [`transition!`](crate::transition) alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Transition<S> {
    from: S,
    to: S,
}

impl<S: State> Transition<S> {
    /// The state to leave.
    #[must_use]
    pub fn from(self) -> S {
        self.from
    }

    /// The state to enter.
    #[must_use]
    pub fn to(self) -> S {
        self.to
    }
}

impl<S: State> TransitionTable<S> {
    /// A table from pairs of [indices](State::index), `(from, to)`. A repeated pair is harmless.
    ///
    /// `None` when an index is out of range or a pair leads from a state to itself.
    /// [`transitions!`](crate::transitions) is the readable way to call this, and turns `None`
    /// into a compile error.
    #[must_use]
    pub const fn from_indices(mut pairs: &[(usize, usize)]) -> Option<Self> {
        let mut rows = [0; MAX_STATES];
        while let [(from, to), rest @ ..] = pairs {
            if *from >= S::COUNT || *to >= S::COUNT || *from == *to {
                return None;
            }
            // `get_mut` is not const yet; this is its const spelling.
            match rows.split_at_mut_checked(*from) {
                Some((_, [row, ..])) => *row |= bit(*to),
                _ => return None,
            }
            pairs = rest;
        }
        Some(Self {
            rows,
            states: PhantomData,
        })
    }

    /// Whether the table has an edge between the states with these [indices](State::index).
    /// `false` when one is out of range. For `const` contexts; else see [`allows`](Self::allows).
    #[must_use]
    pub const fn allows_index(&self, from: usize, to: usize) -> bool {
        self.row(from) & bit(to) != 0
    }

    /// Whether the table has this edge. Never true of a state and itself.
    #[must_use]
    pub fn allows(&self, from: S, to: S) -> bool {
        self.allows_index(from.index(), to.index())
    }

    /// Whether the state may become `to`: the answer that [`StateCell::set`](crate::StateCell::set)
    /// acts on, for those who must know before they do anything else.
    ///
    /// # Errors
    ///
    /// [`InvalidTransition`] when the table has no such edge and the states differ.
    pub fn check(&self, from: S, to: S) -> Result<Change, InvalidTransition<S>> {
        if from == to {
            Ok(Change::Unchanged)
        } else if self.allows(from, to) {
            Ok(Change::Moved)
        } else {
            Err(InvalidTransition { from, to })
        }
    }

    /// The states that may follow `from`, in the order of [`State::ALL`].
    pub fn successors(&self, from: S) -> impl Iterator<Item = S> + '_ {
        S::ALL
            .iter()
            .copied()
            .filter(move |to| self.allows(from, *to))
    }

    /// Every edge, ordered by the state left and then by the state entered.
    pub fn edges(&self) -> impl Iterator<Item = (S, S)> + '_ {
        S::ALL
            .iter()
            .flat_map(move |from| self.successors(*from).map(move |to| (*from, to)))
    }

    /// How many edges there are.
    #[must_use]
    pub const fn edge_count(&self) -> u32 {
        let mut rows = self.rows.as_slice();
        let mut count: u32 = 0;
        while let [row, rest @ ..] = rows {
            count = count.saturating_add(row.count_ones());
            rows = rest;
        }
        count
    }

    /// Whether every edge of `other` is an edge here.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        let mut pairs = (self.rows.as_slice(), other.rows.as_slice());
        while let ([row, rest @ ..], [other_row, other_rest @ ..]) = pairs {
            if *other_row & !*row != 0 {
                return false;
            }
            pairs = (rest, other_rest);
        }
        true
    }

    /// The states that can be reached from the one with index `start`, itself included: bit `i`
    /// for the state with index `i`.
    #[must_use]
    pub const fn reachable_from(&self, start: usize) -> u32 {
        let mut seen = bit(start);
        loop {
            let before = seen;
            let mut rows = self.rows.as_slice();
            let mut state: u32 = 1;
            while let [row, rest @ ..] = rows {
                if seen & state != 0 {
                    seen |= *row;
                }
                state = state.wrapping_shl(1);
                rows = rest;
            }
            if seen == before {
                return seen;
            }
        }
    }

    /// Whether every state of the set can be reached from the one with index `start`.
    #[must_use]
    pub const fn reaches_all(&self, start: usize) -> bool {
        self.reachable_from(start).count_ones() as usize == S::COUNT
    }

    /// Whether the state with index `target` can be reached from every state.
    #[must_use]
    pub const fn is_reached_by_all(&self, target: usize) -> bool {
        let mut from = 0;
        while from < S::COUNT {
            if self.reachable_from(from) & bit(target) == 0 {
                return false;
            }
            from = from.wrapping_add(1);
        }
        true
    }

    /// The half of [`transition!`](crate::transition) that is a function.
    #[doc(hidden)]
    pub const fn __transition(&self, from: (S, usize), to: (S, usize)) -> Option<Transition<S>> {
        if self.allows_index(from.1, to.1) {
            Some(Transition {
                from: from.0,
                to: to.0,
            })
        } else {
            None
        }
    }

    const fn row(&self, from: usize) -> u32 {
        match self.rows.split_at_checked(from) {
            Some((_, [row, ..])) => *row,
            _ => 0,
        }
    }
}

impl<S: State> fmt::Debug for TransitionTable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.edges()).finish()
    }
}

/// The bit of the state with this index; none when it is out of range.
const fn bit(index: usize) -> u32 {
    if index < MAX_STATES {
        1_u32 << (index & 0x1f)
    } else {
        0
    }
}

/// A [`TransitionTable`] from its edges, grouped by the state that is left. A `const` expression.
///
/// ```
/// use runstate::TransitionTable;
///
/// runstate::states! {
///     /// A door.
///     pub enum Door { /** Open. */ Open = "open", /** Closed. */ Closed = "closed", /** Locked. */ Locked = "locked" }
/// }
///
/// const DOOR: TransitionTable<Door> = runstate::transitions! { Door {
///     Open => Closed;
///     Closed => Open, Locked;
///     Locked => Closed;
/// } };
///
/// assert!(DOOR.allows(Door::Closed, Door::Locked));
/// assert!(DOOR.check(Door::Open, Door::Locked).is_err());
/// ```
#[macro_export]
macro_rules! transitions {
    ( $Set:ident { $( $From:ident => $( $To:ident ),+ $(,)? );+ $(;)? } ) => {
        const {
            let table = $crate::TransitionTable::<$Set>::from_indices(&[
                $( $( ($Set::$From as usize, $Set::$To as usize) ),+ ),+
            ]);
            ::core::assert!(table.is_some(), "an edge leads from a state to itself");
            match table {
                ::core::option::Option::Some(table) => table,
                ::core::option::Option::None => loop {},
            }
        }
    };
}

/// A [`Transition`] between two literal states; an illegal one does not compile.
///
/// ```
/// use runstate::{QEMU_10_2, RunState, RunStateCell, transition};
///
/// let cell = RunStateCell::new(RunState::Prelaunch);
/// let start = transition!(QEMU_10_2, RunState::Prelaunch => RunState::Running);
/// assert!(cell.apply(start).is_ok());
/// // The machine runs now, so the same transition does not apply again.
/// assert!(cell.apply(start).is_err());
/// ```
///
/// A paused machine does not become `debug`:
///
/// ```compile_fail
/// use runstate::{QEMU_10_2, RunState, transition};
/// let _ = transition!(QEMU_10_2, RunState::Paused => RunState::Debug);
/// ```
#[macro_export]
macro_rules! transition {
    ($TABLE:path, $From:path => $To:path) => {
        const {
            let transition = $TABLE.__transition(($From, $From as usize), ($To, $To as usize));
            ::core::assert!(
                transition.is_some(),
                ::core::concat!(
                    "illegal transition in ",
                    ::core::stringify!($TABLE),
                    ": ",
                    ::core::stringify!($From),
                    " -> ",
                    ::core::stringify!($To),
                )
            );
            match transition {
                ::core::option::Option::Some(transition) => transition,
                ::core::option::Option::None => loop {},
            }
        }
    };
}
