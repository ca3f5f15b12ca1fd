//! The list whose callbacks have an order, and which can be walked both ways.

use alloc::rc::Rc;
use core::convert::Infallible;
use core::fmt;
use core::ops::ControlFlow;

use crate::error::NestingExceeded;
use crate::handle::NotifierHandle;
use crate::nesting::{DEFAULT_MAX_NESTING, Nesting};
use crate::registry::{Order, Registry, remover};

/// Callbacks for an event of type `E`, ordered by priority: QEMU's change-state handlers.
///
/// On the way up the lowest priority is called first, and equals in the order of their
/// registration. The way down is the exact reverse, also among equals: what was started last is
/// stopped first. QEMU gives a device the depth in the device tree as its priority, so that a bus
/// starts before what is plugged into it, and 0 to everything else.
///
/// For one thread. Callbacks may add to this list, remove from it and run it again; see the
/// [crate documentation](crate#contract).
pub struct PriorityList<E: ?Sized> {
    registry: Rc<Registry<Callback<E>>>,
    nesting: Nesting,
}

type Callback<E> = dyn Fn(&E);

impl<E: ?Sized + 'static> PriorityList<E> {
    /// An empty list, with [`DEFAULT_MAX_NESTING`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_max_nesting(DEFAULT_MAX_NESTING)
    }

    /// An empty list of which `limit` rounds may be under way at a time, up and down together.
    /// With 1, no callback can run it; with 0, nobody can.
    #[must_use]
    pub fn with_max_nesting(limit: u32) -> Self {
        Self {
            registry: Rc::new(Registry::new()),
            nesting: Nesting::new(limit),
        }
    }

    /// Adds a notifier, after those of the same priority.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(&self, priority: i32, callback: impl Fn(&E) + 'static) -> NotifierHandle {
        let key = self.registry.add(priority, (), Rc::new(callback));
        NotifierHandle::new(remover(&self.registry), key)
    }

    /// Calls every notifier with `event`, priorities ascending.
    ///
    /// # Errors
    ///
    /// [`NestingExceeded`] when too many rounds of this list are under way. No notifier was called.
    pub fn run_up(&self, event: &E) -> Result<(), NestingExceeded> {
        self.call_all(Order::Ascending, event)
    }

    /// Calls every notifier with `event`, in the exact reverse of [`run_up`](Self::run_up).
    ///
    /// # Errors
    ///
    /// [`NestingExceeded`] when too many rounds of this list are under way. No notifier was called.
    pub fn run_down(&self, event: &E) -> Result<(), NestingExceeded> {
        self.call_all(Order::Descending, event)
    }

    fn call_all(&self, order: Order, event: &E) -> Result<(), NestingExceeded> {
        let _entered = self.nesting.enter()?;
        let ControlFlow::Continue(()) = self.registry.round().walk(order, |_, callback| {
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

impl<E: ?Sized + 'static> Default for PriorityList<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: ?Sized> fmt::Debug for PriorityList<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriorityList")
            .field("len", &self.registry.len())
            .field("rounds_under_way", &self.nesting.depth())
            .finish()
    }
}
