//! The list whose callbacks have an order, and which can be walked both ways.

use alloc::rc::Rc;
use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::error::NestingExceeded;
use crate::handle::NotifierHandle;
use crate::registry::{Order, Registry};

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
}

type Callback<E> = dyn Fn(&E);

basics!(PriorityList<E>, "notifier");

impl<E: ?Sized + 'static> PriorityList<E> {
    /// Adds a notifier, after those of the same priority.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(&self, priority: i32, callback: impl Fn(&E) + 'static) -> NotifierHandle {
        self.registry.add(priority, (), Rc::new(callback))
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
        let ControlFlow::Continue(()) = self.registry.round()?.walk(order, |_, callback| {
            callback(event);
            ControlFlow::<Infallible>::Continue(())
        });
        Ok(())
    }
}
