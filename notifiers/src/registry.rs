//! What all the lists are made of: an ordered set of callbacks that may change while it is walked.
//!
//! ```text
//!  list ── entries ──> { keys: [k0 k1 k2], slots: [s0 s1 s2] } <── round (a clone of the Rc)
//!                                          │
//!                                          └─> Slot { registered, callback }
//! ```
//!
//! A round holds the entries as they were when it began. A change made meanwhile copies the entries
//! first (`Rc::make_mut`), so the round does not see what is added. Of what is removed it sees the
//! slot's flag. With no round under way a change is made in place, and a round costs one reference
//! count, not one for each entry.
//!
//! The rule that must never be broken: nothing of a caller's runs while `entries` is borrowed. Not a
//! callback, and not the `Drop` of what a callback captured.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// The place of a notifier: its priority, then its turn among equals. Never used twice in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    priority: i32,
    serial: u64,
}

/// One notifier.
#[derive(Debug)]
pub(crate) struct Slot<F: ?Sized> {
    registered: Cell<bool>,
    pub(crate) callback: F,
}

impl<F> Slot<F> {
    pub(crate) fn new(callback: F) -> Rc<Self> {
        Rc::new(Self {
            registered: Cell::new(true),
            callback,
        })
    }
}

impl<F: ?Sized> Slot<F> {
    /// Whether it is to be called. Ask right before the call, and not earlier.
    pub(crate) fn is_registered(&self) -> bool {
        self.registered.get()
    }
}

/// The notifiers in ascending order of their keys. A removed one leaves a gap until there are as
/// many gaps as notifiers, which makes a removal cheap on average.
struct Entries<F: ?Sized> {
    keys: Vec<Key>,
    slots: Vec<Option<Rc<Slot<F>>>>,
}

impl<F: ?Sized> Clone for Entries<F> {
    fn clone(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            slots: self.slots.clone(),
        }
    }
}

impl<F: ?Sized> Entries<F> {
    const fn new() -> Self {
        Self {
            keys: Vec::new(),
            slots: Vec::new(),
        }
    }

    fn close_gaps(&mut self) {
        let mut slots = self.slots.iter();
        self.keys
            .retain(|_| slots.next().is_some_and(Option::is_some));
        self.slots.retain(Option::is_some);
    }
}

/// The notifiers of one list.
pub(crate) struct Registry<F: ?Sized> {
    entries: RefCell<Rc<Entries<F>>>,
    /// How many notifiers there are, gaps not counted.
    count: Cell<usize>,
    next_serial: Cell<u64>,
}

impl<F: ?Sized> Registry<F> {
    pub(crate) fn new() -> Self {
        Self {
            entries: RefCell::new(Rc::new(Entries::new())),
            count: Cell::new(0),
            next_serial: Cell::new(0),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.get()
    }

    pub(crate) fn add(&self, priority: i32, slot: Rc<Slot<F>>) -> Key {
        let serial = self.next_serial.get();
        // 2^64 registrations do not happen.
        self.next_serial.set(serial.wrapping_add(1));
        let key = Key { priority, serial };
        {
            let mut entries = self.entries.borrow_mut();
            let entries = Rc::make_mut(&mut *entries);
            let at = entries.keys.partition_point(|other| *other < key);
            entries.keys.insert(at, key);
            entries.slots.insert(at, Some(slot));
        }
        self.count.set(self.count.get().saturating_add(1));
        key
    }

    /// The notifiers as they are now. Holds no borrow.
    pub(crate) fn snapshot(&self) -> Snapshot<F> {
        Snapshot(Rc::clone(&self.entries.borrow()))
    }

    /// Removes every notifier.
    pub(crate) fn clear(&self) {
        let removed = self.entries.replace(Rc::new(Entries::new()));
        self.count.set(0);
        for slot in removed.slots.iter().flatten() {
            slot.registered.set(false);
        }
    }

    fn take(&self, key: Key) -> Option<Rc<Slot<F>>> {
        let mut entries = self.entries.borrow_mut();
        let at = entries.keys.binary_search(&key).ok()?;
        let entries = Rc::make_mut(&mut *entries);
        let slot = entries.slots.get_mut(at)?.take()?;
        let count = self.count.get().saturating_sub(1);
        self.count.set(count);
        if entries.slots.len().saturating_sub(count) > count {
            entries.close_gaps();
        }
        Some(slot)
    }
}

/// Removal by key, whatever the list calls.
pub(crate) trait Remove {
    fn remove(&self, key: Key);
    fn has(&self, key: Key) -> bool;
}

impl<F: ?Sized> Remove for Registry<F> {
    fn remove(&self, key: Key) {
        // The borrow ends inside `take`; what the callback captured is dropped after it.
        if let Some(slot) = self.take(key) {
            slot.registered.set(false);
        }
    }

    fn has(&self, key: Key) -> bool {
        let entries = self.entries.borrow();
        let at = entries.keys.binary_search(&key).ok();
        at.and_then(|at| entries.slots.get(at))
            .is_some_and(Option::is_some)
    }
}

/// The notifiers at one moment, in ascending order of their keys.
pub(crate) struct Snapshot<F: ?Sized>(Rc<Entries<F>>);

impl<F: ?Sized> Snapshot<F> {
    /// Those that are registered when their turn comes.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Rc<Slot<F>>> {
        self.0
            .slots
            .iter()
            .flatten()
            .filter(|slot| slot.is_registered())
    }
}

/// A weak reference for a handle.
pub(crate) fn remover<F: ?Sized + 'static>(registry: &Rc<Registry<F>>) -> Weak<dyn Remove> {
    let weak: Weak<Registry<F>> = Rc::downgrade(registry);
    weak
}
