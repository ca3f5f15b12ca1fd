//! What the main loop waits for at one descriptor, where that changes from turn to turn.

use std::os::fd::AsRawFd;

use event_manager::{EventOps, Events, Result};
use vmm_sys_util::epoll::EventSet;

/// What is waited for. `None`: nothing. (An empty set still reports that the other end has gone, each
/// turn for ever.)
#[derive(Debug, Default)]
pub(crate) struct Watch(Option<EventSet>);

impl Watch {
    /// Has the main loop wait for `wanted` at `fd`, which is the same each time.
    ///
    /// # Errors
    /// When it cannot; then it waits for nothing.
    pub(crate) fn set(
        &mut self,
        fd: &impl AsRawFd,
        wanted: Option<EventSet>,
        ops: &mut EventOps,
    ) -> Result<()> {
        let before = std::mem::replace(&mut self.0, wanted);
        if wanted == before {
            return Ok(());
        }
        let changed = match (before, wanted) {
            (None, Some(wanted)) => ops.add(Events::new(fd, wanted)),
            (Some(_), Some(wanted)) => ops.modify(Events::new(fd, wanted)),
            (_, None) => ops.remove(Events::empty(fd)),
        };
        changed.inspect_err(|_| {
            drop(ops.remove(Events::empty(fd)));
            self.0 = None;
        })
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}
