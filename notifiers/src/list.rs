//! The plain notifier list.

use alloc::rc::Rc;
use core::convert::Infallible;
use core::ops::ControlFlow;

use crate::error::NestingExceeded;
use crate::handle::NotifierHandle;
use crate::registry::{Order, Registry};

/// Callbacks for an event of type `E`; the newest registered is called first, as QEMU's
/// `NotifierList`.
///
/// For one thread. Callbacks may add to this list, remove from it and notify it again; see the
/// [crate documentation](crate#contract).
pub struct NotifierList<E: ?Sized> {
    registry: Rc<Registry<Callback<E>>>,
}

type Callback<E> = dyn Fn(&E);

basics!(NotifierList<E>, "notifier");

impl<E: ?Sized + 'static> NotifierList<E> {
    /// Adds a notifier, which will be called before all those that are there.
    ///
    /// A round that is under way does not call it; the next one does.
    pub fn add(&self, callback: impl Fn(&E) + 'static) -> NotifierHandle {
        self.registry.add(0, (), Rc::new(callback))
    }

    /// Calls every notifier with `event`, the newest first.
    ///
    /// # Errors
    ///
    /// [`NestingExceeded`] when too many rounds of this list are under way. No notifier was called.
    pub fn notify(&self, event: &E) -> Result<(), NestingExceeded> {
        let ControlFlow::Continue(()) =
            self.registry
                .round()?
                .walk(Order::Descending, |_, callback| {
                    callback(event);
                    ControlFlow::<Infallible>::Continue(())
                });
        Ok(())
    }
}
