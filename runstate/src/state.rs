//! What a set of states is: an enum whose members can be counted, listed and named.
//!
//! The rule that must never be broken: `S::ALL[s.index()] == s` for every state `s`. The
//! [`states!`](crate::states) macro keeps it by construction.

use core::fmt;
use core::marker::PhantomData;

/// The largest number of states in one set: a row of the transition table is one `u32`.
pub const MAX_STATES: usize = 32;

/// A finite set of states, at most [`MAX_STATES`] of them.
///
/// [`states!`](crate::states) declares an enum and implements this for it. An implementation by
/// hand must keep `ALL[s.index()] == s`; one that does not gets wrong answers, never a panic.
pub trait State: Copy + Eq + fmt::Debug + 'static {
    /// Every state, in the order of [`State::index`].
    const ALL: &'static [Self];

    /// How many states there are.
    const COUNT: usize = Self::ALL.len();

    /// The position of this state in [`State::ALL`]: `0..COUNT`.
    fn index(self) -> usize;

    /// The name of this state, as a person or a protocol spells it.
    fn name(self) -> &'static str;

    /// The state with this name. Spelling and case must match.
    ///
    /// # Errors
    ///
    /// [`UnknownState`], whose message lists the names that exist.
    fn from_name(name: &str) -> Result<Self, UnknownState<Self>> {
        Self::ALL
            .iter()
            .copied()
            .find(|state| state.name() == name)
            .ok_or(UnknownState::NEW)
    }
}

/// No state has this name. The message lists those that exist.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnknownState<S>(PhantomData<S>);

impl<S> UnknownState<S> {
    pub(crate) const NEW: Self = Self(PhantomData);
}

impl<S> Default for UnknownState<S> {
    fn default() -> Self {
        Self::NEW
    }
}

impl<S: State> fmt::Debug for UnknownState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnknownState")
    }
}

impl<S: State> fmt::Display for UnknownState<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such state: expected one of ")?;
        for (i, state) in S::ALL.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(state.name())?;
        }
        Ok(())
    }
}

impl<S: State> core::error::Error for UnknownState<S> {}

/// Declares a set of states: an enum, the name of each member, and [`State`] for it.
///
/// The enum also gets `ALL`, `COUNT`, a `const` `as_str`, `Display` and `FromStr`. More than
/// [`MAX_STATES`] members do not compile.
///
/// ```
/// runstate::states! {
///     /// What a microVM can be doing.
///     pub enum MicroVm {
///         /// Configured, never started.
///         NotStarted = "not-started",
///         /// vCPUs may execute.
///         Running = "running",
///         /// vCPUs are parked.
///         Paused = "paused",
///     }
/// }
///
/// assert_eq!(MicroVm::ALL.len(), 3);
/// assert_eq!(MicroVm::Paused.to_string(), "paused");
/// assert_eq!("running".parse(), Ok(MicroVm::Running));
/// ```
#[macro_export]
macro_rules! states {
    (
        $(#[$meta:meta])*
        $vis:vis enum $Set:ident {
            $( $(#[$member_meta:meta])* $Member:ident = $name:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $Set {
            $( $(#[$member_meta])* $Member ),+
        }

        impl $Set {
            /// Every state, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$( Self::$Member ),+];

            /// How many states there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name of this state.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$Member => $name ),+
                }
            }
        }

        const _: () = ::core::assert!(
            $Set::COUNT <= $crate::MAX_STATES,
            "too many states for one transition table"
        );

        impl $crate::State for $Set {
            const ALL: &'static [Self] = Self::ALL;

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                self.as_str()
            }
        }

        impl ::core::fmt::Display for $Set {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::core::str::FromStr for $Set {
            type Err = $crate::UnknownState<Self>;

            fn from_str(name: &str) -> ::core::result::Result<Self, Self::Err> {
                <Self as $crate::State>::from_name(name)
            }
        }
    };
}
