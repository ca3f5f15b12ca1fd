//! The state-change handlers: those that hear of every start and stop.
//!
//! On a start the lowest priority is called first, equals in the order of their registration; on
//! a stop in the exact reverse.
//!
//! Two walks. `Current` walks the list as it was when the round began. `Qemu7_2` walks it as it
//! is, with the next one looked up before each call, as QEMU does: a handler that is added further
//! on is called in the same round. In both, one that is removed before its turn is not called.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Bound;
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use notifiers::{NotifierHandle, PriorityList};
use runstate::RunState;

use crate::compat::Compat;

/// What a state-change handler is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateNotice {
    /// The machine starts; else it stops.
    pub running: bool,
    /// The state that it enters.
    pub state: RunState,
}

type Callback = dyn Fn(&StateNotice);

/// Priority, then the order of registration.
type Key = (i32, u64);

#[derive(Default)]
struct LiveList {
    entries: RefCell<BTreeMap<Key, Rc<Callback>>>,
    serial: Cell<u64>,
}

impl LiveList {
    fn add(&self, priority: i32, callback: Rc<Callback>) -> Key {
        let serial = self.serial.get();
        self.serial.set(serial.wrapping_add(1));
        self.entries
            .borrow_mut()
            .insert((priority, serial), callback);
        (priority, serial)
    }

    fn after(&self, key: Option<Key>, ascending: bool) -> Option<Key> {
        let edge = key.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.entries.borrow();
        if ascending {
            entries.range((edge, Bound::Unbounded)).next().map(|e| *e.0)
        } else {
            let mut range = entries.range((Bound::Unbounded, edge));
            range.next_back().map(|e| *e.0)
        }
    }

    fn walk(&self, notice: &StateNotice) {
        let mut turn = self.after(None, notice.running);
        while let Some(key) = turn {
            turn = self.after(Some(key), notice.running);
            let callback = self.entries.borrow().get(&key).cloned();
            match callback {
                Some(callback) => callback(notice),
                // Removed by the one before it: who comes then was looked up just now.
                None => continue,
            }
        }
    }
}

/// The state-change handlers of one machine.
pub(crate) struct StateHandlers(Walk);

enum Walk {
    AsItBegan(PriorityList<StateNotice>),
    AsItIs(Rc<LiveList>),
}

/// Keeps a state-change handler registered: dropping it removes the handler.
#[must_use = "dropping the handle removes the handler; `detach` keeps it for good"]
#[derive(Debug)]
pub struct StateHandler(Registration);

enum Registration {
    AsItBegan(NotifierHandle),
    AsItIs(Weak<LiveList>, Key),
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsItBegan(handle) => handle.fmt(f),
            Self::AsItIs(_, key) => f.debug_tuple("AsItIs").field(key).finish(),
        }
    }
}

impl StateHandler {
    /// Leaves the handler registered for as long as the lifecycle lives.
    pub fn detach(self) {
        let mut handle = self;
        let nothing = Registration::AsItIs(Weak::new(), (0, 0));
        if let Registration::AsItBegan(handle) = core::mem::replace(&mut handle.0, nothing) {
            handle.detach();
        }
    }

    /// Removes the handler: the same as dropping the handle.
    pub fn remove(self) {}
}

impl Drop for StateHandler {
    fn drop(&mut self) {
        if let Registration::AsItIs(list, key) = &self.0
            && let Some(list) = list.upgrade()
        {
            let removed = list.entries.borrow_mut().remove(key);
            // The borrow has ended: what the callback captured may do what it likes.
            drop(removed);
        }
    }
}

impl StateHandlers {
    pub(crate) fn new(compat: Compat) -> Self {
        Self(match compat {
            Compat::Qemu7_2 => Walk::AsItIs(Rc::default()),
            Compat::Current => Walk::AsItBegan(PriorityList::new()),
        })
    }

    pub(crate) fn add(
        &self,
        priority: i32,
        callback: impl Fn(&StateNotice) + 'static,
    ) -> StateHandler {
        StateHandler(match &self.0 {
            Walk::AsItBegan(list) => Registration::AsItBegan(list.add(priority, callback)),
            Walk::AsItIs(list) => {
                Registration::AsItIs(Rc::downgrade(list), list.add(priority, Rc::new(callback)))
            }
        })
    }

    pub(crate) fn notify(&self, notice: &StateNotice) {
        match &self.0 {
            Walk::AsItBegan(list) => {
                // Starts and stops do not nest under `Current`, so neither do rounds.
                let _never_nested = if notice.running {
                    list.run_up(notice)
                } else {
                    list.run_down(notice)
                };
            }
            Walk::AsItIs(list) => list.walk(notice),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Walk::AsItBegan(list) => list.len(),
            Walk::AsItIs(list) => list.entries.borrow().len(),
        }
    }
}

impl fmt::Debug for StateHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateHandlers")
            .field("len", &self.len())
            .finish()
    }
}
