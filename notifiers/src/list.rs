//! The plain notifier list.

use alloc::rc::Rc;
use core::convert::Infallible;
use core::fmt;
use core::ops::ControlFlow;

use crate::error::NestingExceeded;
use crate::handle::NotifierHandle;
use crate::nesting::{DEFAULT_MAX_NESTING, Nesting};
use crate::registry::{Order, Registry, remover};

/// Callbacks for an event of type `E`; the newest registered is called first, as QEMU's
/// `NotifierList`.
///
/// For one thread. Callbacks may add to this list, remove from it and notify it again; see the
/// [crate documentation](crate#contract).
pub struct NotifierList<E: ?Sized> {
    registry: Rc<Registry<Callback<E>>>,
    nesting: Nesting,
}

type Callback<E> = dyn Fn(&E);

impl<E: ?Sized + 'static> NotifierList<E> {
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

    /// Adds a notifier, which will be called before all those that are there.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(&self, callback: impl Fn(&E) + 'static) -> NotifierHandle {
        let key = self.registry.add(0, (), Rc::new(callback));
        NotifierHandle::new(remover(&self.registry), key)
    }

    /// Calls every notifier with `event`, the newest first.
    ///
    /// # Errors
    ///
    /// [`NestingExceeded`] when too many rounds of this list are under way. No notifier was called.
    pub fn notify(&self, event: &E) -> Result<(), NestingExceeded> {
        let _entered = self.nesting.enter()?;
        let ControlFlow::Continue(()) =
            self.registry
                .round()
                .walk(Order::Descending, |_, callback| {
                    callback(event);
                    ControlFlow::<Infallible>::Continue(())
                });
        Ok(())
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

impl<E: ?Sized + 'static> Default for NotifierList<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: ?Sized> fmt::Debug for NotifierList<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierList")
            .field("len", &self.registry.len())
            .field("rounds_under_way", &self.nesting.depth())
            .finish()
    }
}
