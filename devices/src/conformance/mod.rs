//! A kit that tests a device's contract: any VMM can run it on its own devices.
//!
//! | check | what it proves |
//! |---|---|
//! | [`reset_equals_fresh`] | after a reset a used device is as one just made, but for what the specification keeps |
//! | [`reset_while_paused`] | a reset of a paused device completes, and is as good |
//! | [`save_restore_round_trips`] | a saved state makes a fresh device the same, in state and in what the guest reads |
//! | [`pause_keeps_work`] | work that was begun before a pause ends after it as it would have without |
//! | [`hostile_access_is_harmless`] | 50,000 random accesses, in and far out of the window, never panic, and a reset still heals |
//!
//! Implement [`Fixture`] for a device in its wiring; then `devices::conformance!(my_device,
//! MyFixture);` makes a module `my_device` with one `#[test]` a check (see
//! `examples/own_device.rs`). Each check is a plain function too; it returns a [`Failure`] that
//! says what was expected and what was found. A check refuses a fixture that could not fail it: one
//! whose `disturb` changes nothing, or whose work does nothing.

mod checks;

use std::fmt;

pub use checks::{
    hostile_access_is_harmless, pause_keeps_work, reset_equals_fresh, reset_while_paused,
    save_restore_round_trips,
};

use crate::{BusDevice, Pausable, Resettable, SaveRestore};

/// What a fixture's device has to be.
pub trait Conforming: BusDevice + Resettable + SaveRestore + Pausable {}

impl<D: BusDevice + Resettable + SaveRestore + Pausable> Conforming for D {}

/// A device in its wiring, ready to be tested.
pub trait Fixture {
    /// The device.
    type Device: Conforming;

    /// Whether the device has any state. A device without is not asked to show that `disturb`
    /// changes something.
    const HAS_STATE: bool = true;

    /// A device as at power-on, with sinks, lines and clocks of its own. Two fresh fixtures behave
    /// alike: clocks start at the same time.
    fn fresh() -> Self;

    /// The device.
    fn device(&self) -> &Self::Device;

    /// How many bytes of registers the device has; the hostile accesses aim mostly at these.
    fn window(&self) -> u64;

    /// Uses the device so that as much of its state as possible differs from fresh.
    fn disturb(&self);

    /// In `state`, taken after a reset, puts back to its fresh value what the specification says
    /// survives a reset. The default: nothing survives.
    fn forgive(&self, state: &mut <Self::Device as SaveRestore>::State) {
        let _ = state;
    }

    /// Begins something that takes effect later: input that waits, a transfer, a timer.
    fn begin_work(&self);

    /// Lets the work end, and returns what came of it: what the guest reads, the line, the
    /// requests. Also called when no work was begun, and must then return something else.
    fn finish_work(&self) -> Vec<u64>;
}

/// A check that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The fixture cannot show what it is for.
    #[error("{check}: the fixture proves nothing: {why}")]
    Vacuous {
        /// The check.
        check: &'static str,
        /// What is wrong with the fixture.
        why: &'static str,
    },
    /// Two things that had to be equal are not.
    #[error("{check}: {what}\n  expected {expected}\n  found    {found}")]
    Differs {
        /// The check.
        check: &'static str,
        /// What was compared.
        what: String,
        /// What it should have been.
        expected: String,
        /// What it was.
        found: String,
    },
    /// The device refused its own state.
    #[error("{check}: the device refused a state that it had saved: {reason}")]
    Refused {
        /// The check.
        check: &'static str,
        /// The device's error.
        reason: String,
    },
    /// The device panicked.
    #[error("{check}: the device panicked in {access}: {message}")]
    Panicked {
        /// The check.
        check: &'static str,
        /// The access, and how to get there again.
        access: String,
        /// What the panic said.
        message: String,
    },
}

/// Makes a module of tests that hold a device to its contract.
///
/// `conformance!(name, Fixture)`: `name` is the module's, `Fixture` a type that implements
/// [`conformance::Fixture`](Fixture). See the [module](self).
#[macro_export]
macro_rules! conformance {
    ($module:ident, $fixture:ty) => {
        #[cfg(test)]
        mod $module {
            #[allow(
                unused_imports,
                clippy::allow_attributes,
                clippy::wildcard_imports,
                reason = "the fixture may be named by any path"
            )]
            use super::*;

            $crate::conformance!(@check $fixture, reset_equals_fresh);
            $crate::conformance!(@check $fixture, reset_while_paused);
            $crate::conformance!(@check $fixture, save_restore_round_trips);
            $crate::conformance!(@check $fixture, pause_keeps_work);
            $crate::conformance!(@check $fixture, hostile_access_is_harmless);
        }
    };
    (@check $fixture:ty, $check:ident) => {
        #[test]
        fn $check() -> ::core::result::Result<(), $crate::conformance::Failure> {
            $crate::conformance::$check::<$fixture>()
        }
    };
}

/// Formats two values that had to be equal.
fn differs(
    check: &'static str,
    what: impl Into<String>,
    expected: &impl fmt::Debug,
    found: &impl fmt::Debug,
) -> Failure {
    Failure::Differs {
        check,
        what: what.into(),
        expected: format!("{expected:?}"),
        found: format!("{found:?}"),
    }
}
