//! What all the lists are made of: an ordered set of callbacks that may change while it is walked.
//!
//! ```text
//!   Registry ── entries ──> Entries { keys, labels, callbacks } <── Round, a clone of the Rc
//!      │                                                              │
//!      └── removals: 7                             the count it saw: 7 ┘
//! ```
//!
//! A round holds the entries as they were when it began. A change made meanwhile copies the entries
//! first (`Rc::make_mut`), so a round does not see what is added. It learns of a removal from the
//! count of removals, and only then asks for each notifier whether it is still there. So a round
//! that nothing disturbs costs one reference count and, for each notifier, one comparison.
//!
//! The rule that must never be broken: nothing of a caller's runs while `entries` is borrowed. Not a
//! callback, and not the `Drop` of what a callback captured.

use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::mem;
use core::ops::ControlFlow;

use crate::error::NestingExceeded;
use crate::handle::NotifierHandle;
use crate::nesting::{Entered, Nesting};

/// The place of a notifier: its priority, then its turn among equals. Never used twice in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    priority: i32,
    serial: u64,
}

/// The notifiers in ascending order of their keys; three columns, of which a round reads one.
///
/// A removed notifier leaves a gap in the callbacks until there are more gaps than notifiers,
/// which makes a removal cheap on average.
struct Entries<F: ?Sized, L> {
    keys: Vec<Key>,
    labels: Vec<L>,
    callbacks: Vec<Option<Rc<F>>>,
}

impl<F: ?Sized, L: Clone> Clone for Entries<F, L> {
    fn clone(&self) -> Self {
        Self {
            keys: self.keys.clone(),
            labels: self.labels.clone(),
            callbacks: self.callbacks.clone(),
        }
    }
}

impl<F: ?Sized, L> Entries<F, L> {
    const fn new() -> Self {
        Self {
            keys: Vec::new(),
            labels: Vec::new(),
            callbacks: Vec::new(),
        }
    }

    fn has(&self, key: Key) -> bool {
        let at = self.keys.binary_search(&key).ok();
        at.and_then(|at| self.callbacks.get(at))
            .is_some_and(Option::is_some)
    }

    fn close_gaps(&mut self) {
        let Self {
            keys,
            labels,
            callbacks,
        } = self;
        let mut present = callbacks.iter().map(Option::is_some);
        keys.retain(|_| present.next() == Some(true));
        let mut present = callbacks.iter().map(Option::is_some);
        labels.retain(|_| present.next() == Some(true));
        callbacks.retain(Option::is_some);
    }
}

/// The notifiers of one list. `L` is what each is called.
pub(crate) struct Registry<F: ?Sized, L = ()> {
    entries: RefCell<Rc<Entries<F, L>>>,
    /// How many notifiers there are, gaps not counted.
    count: Cell<usize>,
    next_serial: Cell<u64>,
    /// How often a notifier was removed.
    removals: Cell<u64>,
    nesting: Nesting,
}

impl<F: ?Sized, L: Clone> Registry<F, L> {
    /// An empty one, of which `limit` rounds may be under way at a time.
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            entries: RefCell::new(Rc::new(Entries::new())),
            count: Cell::new(0),
            next_serial: Cell::new(0),
            removals: Cell::new(0),
            nesting: Nesting::new(limit),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.get()
    }

    fn insert(&self, priority: i32, label: L, callback: Rc<F>) -> Key {
        let serial = self.next_serial.get();
        // 2^64 registrations do not happen.
        self.next_serial.set(serial.wrapping_add(1));
        self.count.set(self.count.get().saturating_add(1));
        let key = Key { priority, serial };

        let mut entries = self.entries.borrow_mut();
        let entries = Rc::make_mut(&mut *entries);
        let at = entries.keys.partition_point(|other| *other < key);
        entries.keys.insert(at, key);
        entries.labels.insert(at, label);
        entries.callbacks.insert(at, Some(callback));
        key
    }

    /// Begins a round with the notifiers as they are now. Holds no borrow.
    #[inline]
    pub(crate) fn round(&self) -> Result<Round<'_, F, L>, NestingExceeded> {
        let entered = self.nesting.enter()?;
        Ok(Round {
            registry: self,
            entries: Rc::clone(&self.entries.borrow()),
            removals: self.removals.get(),
            _entered: entered,
        })
    }

    /// How many rounds are under way.
    pub(crate) fn rounds(&self) -> u32 {
        self.nesting.depth()
    }

    /// Removes every notifier.
    pub(crate) fn clear(&self) {
        self.removals.set(self.removals.get().wrapping_add(1));
        self.count.set(0);
        let removed = mem::replace(&mut *self.entries.borrow_mut(), Rc::new(Entries::new()));
        // The borrow has ended: what the callbacks captured may do what it likes.
        drop(removed);
    }

    fn take(&self, key: Key) -> Option<Rc<F>> {
        let mut entries = self.entries.borrow_mut();
        let at = entries.keys.binary_search(&key).ok()?;
        let entries = Rc::make_mut(&mut *entries);
        let callback = entries.callbacks.get_mut(at)?.take()?;
        let count = self.count.get().saturating_sub(1);
        self.count.set(count);
        self.removals.set(self.removals.get().wrapping_add(1));
        if entries.callbacks.len().saturating_sub(count) > count {
            entries.close_gaps();
        }
        Some(callback)
    }
}

impl<F: ?Sized + 'static, L: Clone + 'static> Registry<F, L> {
    /// Adds a notifier, after those of the same priority.
    pub(crate) fn add(self: &Rc<Self>, priority: i32, label: L, callback: Rc<F>) -> NotifierHandle {
        let key = self.insert(priority, label, callback);
        let list: Weak<Self> = Rc::downgrade(self);
        NotifierHandle::new(list, key)
    }
}

/// Removal by key, whatever the list calls.
pub(crate) trait Remove {
    fn remove(&self, key: Key);
    fn has(&self, key: Key) -> bool;
}

impl<F: ?Sized, L: Clone> Remove for Registry<F, L> {
    fn remove(&self, key: Key) {
        let callback = self.take(key);
        // The borrow has ended inside `take`: what the callback captured may do what it likes.
        drop(callback);
    }

    fn has(&self, key: Key) -> bool {
        self.entries.borrow().has(key)
    }
}

/// Which way a round goes over the keys.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// One walk over the notifiers that were registered when it began.
pub(crate) struct Round<'a, F: ?Sized, L> {
    registry: &'a Registry<F, L>,
    entries: Rc<Entries<F, L>>,
    removals: u64,
    /// The last field: what a removed callback captured is dropped before the round is left.
    _entered: Entered<'a>,
}

impl<F: ?Sized, L: Clone> Round<'_, F, L> {
    /// Calls `visit` with each notifier that is registered when its turn comes, and with its
    /// position, until it breaks.
    #[inline]
    pub(crate) fn walk<B>(
        &self,
        order: Order,
        visit: impl FnMut(usize, &F) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let callbacks = self.entries.callbacks.as_slice();
        let last = callbacks.len().saturating_sub(1);
        match order {
            Order::Ascending => {
                self.walk_over(callbacks.iter(), |left| last.saturating_sub(left), visit)
            }
            Order::Descending => self.walk_over(callbacks.iter().rev(), |left| left, visit),
        }
    }

    /// `position` is worked out from how many are left, and so only where it is asked for: a
    /// counter in this loop can be measured.
    #[inline]
    fn walk_over<'c, B>(
        &self,
        mut callbacks: impl ExactSizeIterator<Item = &'c Option<Rc<F>>>,
        position: impl Fn(usize) -> usize,
        mut visit: impl FnMut(usize, &F) -> ControlFlow<B>,
    ) -> ControlFlow<B>
    where
        F: 'c,
    {
        while let Some(callback) = callbacks.next() {
            let Some(callback) = callback else { continue };
            let at = position(callbacks.len());
            if self.is_registered(at) {
                visit(at, callback)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether the notifier at this position is registered now.
    #[inline]
    fn is_registered(&self, at: usize) -> bool {
        self.registry.removals.get() == self.removals || self.is_still_there(at)
    }

    #[cold]
    fn is_still_there(&self, at: usize) -> bool {
        self.entries
            .keys
            .get(at)
            .is_some_and(|key| self.registry.has(*key))
    }

    /// What the notifier at this position is called.
    pub(crate) fn label(&self, at: usize) -> Option<&L> {
        self.entries.labels.get(at)
    }

    /// The notifier at this position, if it is registered now.
    pub(crate) fn get(&self, at: usize) -> Option<&F> {
        let callback = self.entries.callbacks.get(at)?.as_deref()?;
        self.is_registered(at).then_some(callback)
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Registry, Remove};
    use crate::DEFAULT_MAX_NESTING;
    use alloc::rc::Rc;
    use std::vec::Vec;

    fn registered(registry: &Registry<u32>) -> Vec<u32> {
        let entries = registry.entries.borrow();
        entries
            .callbacks
            .iter()
            .flatten()
            .map(|callback| **callback)
            .collect()
    }

    /// Adds and removes in an order without a pattern, and looks at the table itself.
    #[test]
    fn there_are_never_more_gaps_than_notifiers() {
        let registry = Registry::<u32>::new(DEFAULT_MAX_NESTING);
        let mut keys: Vec<(Key, u32)> = Vec::new();
        let mut random = 1_u32;
        for n in 0..5_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Grows for a while, shrinks for a while.
            let grows = (n / 500) % 2 == 0;
            if keys.is_empty() || grows != (random >> 16).is_multiple_of(4) {
                keys.push((
                    registry.insert(i32::from((random >> 24) as u8 % 3), (), Rc::new(n)),
                    n,
                ));
            } else {
                let (key, _) = keys.swap_remove((random >> 8) as usize % keys.len());
                registry.remove(key);
                registry.remove(key);
            }
            let entries = registry.entries.borrow();
            assert_eq!(registry.len(), keys.len());
            assert!(entries.callbacks.len() <= 2 * keys.len());
            assert_eq!(entries.keys.len(), entries.callbacks.len());
            assert_eq!(entries.labels.len(), entries.callbacks.len());
            assert!(entries.keys.is_sorted());
        }
        keys.sort_by_key(|(key, _)| *key);
        assert_eq!(
            registered(&registry),
            keys.iter().map(|(_, n)| *n).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_round_keeps_what_it_began_with() {
        let registry = Registry::<u32>::new(DEFAULT_MAX_NESTING);
        let first = registry.insert(0, (), Rc::new(1));
        let Ok(round) = registry.round() else {
            panic!("no other round is under way")
        };
        registry.insert(0, (), Rc::new(2));
        registry.remove(first);
        assert_eq!(registered(&registry), [2]);
        assert_eq!(round.entries.callbacks.len(), 1);
        assert_eq!(round.get(0), None, "it is not registered any more");
    }
}
