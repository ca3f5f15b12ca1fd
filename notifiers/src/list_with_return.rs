//! The notifier list that a notifier can stop.

use alloc::borrow::Cow;
use alloc::rc::Rc;
use core::fmt;
use core::ops::ControlFlow;

use crate::error::NotifyError;
use crate::handle::NotifierHandle;
use crate::nesting::{DEFAULT_MAX_NESTING, Nesting};
use crate::registry::{Order, Registry, remover};

/// Callbacks for an event of type `E`, each of which may fail; the newest registered is called
/// first, as QEMU's `NotifierWithReturnList`.
///
/// For one thread. Callbacks may add to this list, remove from it and notify it again; see the
/// [crate documentation](crate#contract).
pub struct NotifierWithReturnList<E: ?Sized, Err> {
    registry: Rc<Registry<Callback<E, Err>, Cow<'static, str>>>,
    nesting: Nesting,
}

type Callback<E, Err> = dyn Fn(&E) -> Result<(), Err>;

impl<E: ?Sized + 'static, Err: 'static> NotifierWithReturnList<E, Err> {
    /// An empty list, with [`DEFAULT_MAX_NESTING`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_nesting(DEFAULT_MAX_NESTING)
    }

    /// An empty list of which `limit` rounds may be under way at a time. With 1, no callback can
    /// notify; with 0, nobody can.
    #[must_use]
    pub fn with_max_nesting(limit: u32) -> Self {
        Self {
            registry: Rc::new(Registry::new()),
            nesting: Nesting::new(limit),
        }
    }

    /// Adds a notifier, which will be called before all those that are there. `name` is what an
    /// error calls it; it need not be unique.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(
        &self,
        name: impl Into<Cow<'static, str>>,
        callback: impl Fn(&E) -> Result<(), Err> + 'static,
    ) -> NotifierHandle {
        let key = self.registry.add(0, name.into(), Rc::new(callback));
        NotifierHandle::new(remover(&self.registry), key)
    }

    /// Calls the notifiers with `event`, the newest first, up to the first that fails.
    ///
    /// # Errors
    ///
    /// [`NotifyError::Failed`] names the notifier that failed; those after it were not called.
    /// [`NotifyError::NestingExceeded`] when too many rounds of this list are under way; no
    /// notifier was called.
    pub fn notify(&self, event: &E) -> Result<(), NotifyError<Err>> {
        let _entered = self.nesting.enter()?;
        let round = self.registry.round();
        let outcome = round.walk(Order::Descending, |at, callback| match callback(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(NotifyError::failed(round.label(at), error)),
        });
        match outcome {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// How many notifiers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes every notifier, detached ones too. Handles that are still held come to nothing.
    pub fn clear(&self) {
        self.registry.clear();
    }
}

impl<E: ?Sized + 'static, Err: 'static> Default for NotifierWithReturnList<E, Err> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: ?Sized, Err> fmt::Debug for NotifierWithReturnList<E, Err> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierWithReturnList")
            .field("len", &self.registry.len())
            .field("rounds_under_way", &self.nesting.depth())
            .finish()
    }
}
