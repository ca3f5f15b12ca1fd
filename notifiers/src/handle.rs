//! The registration of one notifier, as its owner holds it.

use alloc::rc::Weak;
use core::fmt;

use crate::registry::{Key, Remove};

/// Keeps a notifier registered: dropping the handle removes it.
///
/// A notifier that is removed is not called again, not even in a round that is under way. What it
/// captured is released at once, or at the end of the last round that had it in its sight.
///
/// A handle does not keep the list alive and may outlive it. It is legal to drop one anywhere,
/// also in a callback, also in that of the notifier itself.
#[must_use = "dropping the handle removes the notifier; `detach` keeps it for good"]
pub struct NotifierHandle {
    list: Option<Weak<dyn Remove>>,
    key: Key,
}

impl NotifierHandle {
    pub(crate) fn new(list: Weak<dyn Remove>, key: Key) -> Self {
        Self {
            list: Some(list),
            key,
        }
    }

    /// Leaves the notifier registered for as long as the list lives.
    pub fn detach(mut self) {
        self.list = None;
    }

    /// Removes the notifier: the same as dropping the handle, and easier to read.
    pub fn remove(self) {}

    /// Whether the notifier is registered: whether the list still lives and has not been cleared.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.list
            .as_ref()
            .and_then(Weak::upgrade)
            .is_some_and(|list| list.has(self.key))
    }
}

impl Drop for NotifierHandle {
    fn drop(&mut self) {
        if let Some(list) = self.list.take().and_then(|list| list.upgrade()) {
            list.remove(self.key);
        }
    }
}

impl fmt::Debug for NotifierHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifierHandle")
            .field("is_registered", &self.is_registered())
            .finish()
    }
}
