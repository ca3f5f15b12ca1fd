//! The list for a change that can be refused.
//!
//! ```text
//!   prepare a ── prepare b ── prepare c      all agree:   commit a, commit b, commit c
//!                                 │
//!                              refuses       one refuses: roll back b, roll back a
//! ```
//!
//! The rule that must never be broken: whoever has prepared, and is still registered, hears
//! exactly one of commit and roll back.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::mem;
use core::ops::ControlFlow;

use crate::error::NotifyError;
use crate::handle::NotifierHandle;
use crate::registry::{Order, Registry, Round};

/// One who must agree to a change before it is made.
pub trait Participant<E: ?Sized, Err> {
    /// Gets ready for the change, or refuses it. Whoever refuses must have undone what it began:
    /// it is not rolled back.
    ///
    /// # Errors
    ///
    /// Why the change cannot be made.
    fn prepare(&self, event: &E) -> Result<(), Err>;

    /// Makes the change. Everybody has agreed, so this cannot fail.
    fn commit(&self, event: &E);

    /// Undoes [`prepare`](Self::prepare): somebody else has refused.
    fn roll_back(&self, event: &E);
}

/// Participants in changes of type `E`, ordered by priority as in a
/// [`PriorityList`](crate::PriorityList).
///
/// For one thread. Participants may add to this list, remove from it and run it again; see the
/// [crate documentation](crate#contract).
pub struct TwoPhaseList<E: ?Sized, Err> {
    registry: Rc<Registry<Callbacks<E, Err>, Cow<'static, str>>>,
}

type Callbacks<E, Err> = dyn Participant<E, Err>;

basics!(TwoPhaseList<E, Err>, "participant");

impl<E: ?Sized + 'static, Err: 'static> TwoPhaseList<E, Err> {
    /// Adds a participant, after those of the same priority. `name` is what an error calls it; it
    /// need not be unique.
    ///
    /// A round that is under way leaves it alone, in both phases; the next one does not.
    pub fn add(
        &self,
        name: impl Into<Cow<'static, str>>,
        priority: i32,
        participant: impl Participant<E, Err> + 'static,
    ) -> NotifierHandle {
        self.registry
            .add(priority, name.into(), Rc::new(participant))
    }

    /// Prepares everybody, priorities ascending, then commits everybody in the same order.
    ///
    /// If a participant refuses, or panics, those that had prepared are rolled back in reverse.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Failed`] names the participant that refused; nobody has committed.
    /// [`NotifyError::NestingExceeded`] when too many rounds of this list are under way; nobody was
    /// called.
    pub fn run_up(&self, event: &E) -> Result<(), NotifyError<Err>> {
        self.run(Order::Ascending, event)
    }

    /// As [`run_up`](Self::run_up), in the exact reverse order.
    ///
    /// # Errors
    ///
    /// As [`run_up`](Self::run_up).
    pub fn run_down(&self, event: &E) -> Result<(), NotifyError<Err>> {
        self.run(Order::Descending, event)
    }

    fn run(&self, order: Order, event: &E) -> Result<(), NotifyError<Err>> {
        let round = self.registry.round()?;
        let mut prepared = Prepared {
            round: &round,
            positions: Vec::new(),
            event,
        };
        let outcome = round.walk(order, |at, participant| match participant.prepare(event) {
            Ok(()) => {
                prepared.positions.push(at);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(NotifyError::failed(round.label(at), error)),
        });
        match outcome {
            ControlFlow::Continue(()) => {
                prepared.commit();
                Ok(())
            }
            ControlFlow::Break(error) => Err(error),
        }
    }
}

type ParticipantRound<'a, E, Err> = Round<'a, Callbacks<E, Err>, Cow<'static, str>>;

/// Those that have prepared. Dropping it, which a refusal and a panic do, rolls them back.
struct Prepared<'a, 'r, E: ?Sized, Err> {
    round: &'a ParticipantRound<'r, E, Err>,
    positions: Vec<usize>,
    event: &'a E,
}

impl<E: ?Sized, Err> Prepared<'_, '_, E, Err> {
    fn commit(mut self) {
        for at in mem::take(&mut self.positions) {
            if let Some(participant) = self.round.get(at) {
                participant.commit(self.event);
            }
        }
    }
}

impl<E: ?Sized, Err> Drop for Prepared<'_, '_, E, Err> {
    fn drop(&mut self) {
        while let Some(at) = self.positions.pop() {
            if let Some(participant) = self.round.get(at) {
                participant.roll_back(self.event);
            }
        }
    }
}
