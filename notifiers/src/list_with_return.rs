//! The notifier list that a notifier can stop.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use core::ops::ControlFlow;

use crate::error::NotifyError;
use crate::handle::NotifierHandle;
use crate::registry::{Order, Registry};

/// Callbacks for an event of type `E`, each of which may fail; the newest registered is called
/// first, as QEMU's `NotifierWithReturnList`.
///
/// For one thread. Callbacks may add to this list, remove from it and notify it again; see the
/// [crate documentation](crate#contract).
pub struct NotifierWithReturnList<E: ?Sized, Err> {
    registry: Rc<Registry<Callback<E, Err>, Cow<'static, str>>>,
}

type Callback<E, Err> = dyn Fn(&E) -> Result<(), Err>;

basics!(NotifierWithReturnList<E, Err>, "notifier");

impl<E: ?Sized + 'static, Err: 'static> NotifierWithReturnList<E, Err> {
    /// Adds a notifier, which will be called before all those that are there. `name` is what an
    /// error calls it; it need not be unique.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(
        &self,
        name: impl Into<Cow<'static, str>>,
        callback: impl Fn(&E) -> Result<(), Err> + 'static,
    ) -> NotifierHandle {
        self.registry.add(0, name.into(), Rc::new(callback))
    }

    /// Calls the notifiers with `event`, the newest first, up to the first that fails.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Failed`] names the notifier that failed; those after it were not called.
    /// [`NotifyError::NestingExceeded`] when too many rounds of this list are under way; no
    /// notifier was called.
    pub fn notify(&self, event: &E) -> Result<(), NotifyError<Err>> {
        let round = self.registry.round()?;
        let outcome = round.walk(Order::Descending, |at, callback| match callback(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(NotifyError::failed(round.label(at), error)),
        });
        match outcome {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }
}
