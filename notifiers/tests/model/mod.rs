//! A list and a naive reference for it, run side by side on the same program.
//!
//! A program is what the owner of a list does from outside, and a script for each notifier: what it
//! does when it is called. Both sides write down every call, refusal and failure; the two records
//! must be the same. The fuzz target uses this file too: every sequence of bytes is a program.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use notifiers::{NotifierHandle, NotifierList, NotifierWithReturnList, NotifyError, PriorityList};

/// One thing that the owner or a notifier does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Adds a notifier with this priority (of which the plain lists take no notice).
    Add(i8),
    /// Drops the handle of one of the notifiers made so far.
    Remove(u8),
    /// Detaches one of the notifiers made so far.
    Detach(u8),
    /// Removes all.
    Clear,
    /// Begins a round: upwards if that makes a difference.
    Notify(bool),
    /// A notifier drops its own handle. Nothing for the owner.
    RemoveSelf,
    /// A notifier fails, after the rest of its script. Only the list with return minds.
    Fail,
}

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    WithReturn,
    Priority,
}

/// What is run on both sides.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    pub(crate) max_nesting: u32,
    pub(crate) owner: Vec<Act>,
    /// Notifier `n` follows script `n` modulo their number.
    pub(crate) scripts: Vec<Vec<Act>>,
}

impl Program {
    /// A first byte for the list and its limit, one for the notifiers that there are to begin with, and then an act for each
    /// byte (and its argument, if it has one): the owner's, until a byte says that a script begins. What is too long is cut.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let mut bytes = bytes.iter().copied().take(MAX_BYTES);
        let mut next = || bytes.next();
        let head = next().unwrap_or_default();
        let kind = match head % 3 {
            0 => Kind::Plain,
            1 => Kind::WithReturn,
            _ => Kind::Priority,
        };
        let max_nesting = u32::from(head / 3 % 16);
        let first = next().unwrap_or_default() % 8;
        let mut lists = vec![Vec::from_iter(
            (0..first).map(|n| Act::Add((n % 3).cast_signed() - 1)),
        )];
        while let Some(byte) = next() {
            let mut argument = || next().unwrap_or_default();
            let act = match byte % 16 {
                0..3 => Act::Add((argument() % 5).cast_signed() - 2),
                3..5 => Act::Remove(argument()),
                5 => Act::Detach(argument()),
                6 => Act::Clear,
                7..9 => Act::Notify(true),
                9 => Act::Notify(false),
                10..12 => Act::RemoveSelf,
                12 => Act::Fail,
                _ => {
                    lists.push(Vec::new());
                    continue;
                }
            };
            if let Some(list) = lists.last_mut() {
                list.push(act);
            }
        }
        let owner = lists.remove(0);
        Self {
            kind,
            max_nesting,
            owner,
            scripts: lists,
        }
    }
}

/// What can be observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Called {
        notifier: usize,
        event: u32,
    },
    Refused {
        event: u32,
        limit: u32,
    },
    Failed {
        event: u32,
        notifier: usize,
    },
    /// How many notifiers there were after one of the owner's acts.
    Len(usize),
}

/// A program ends after so many acts and calls, wherever it is: scripts that notify multiply, and what is left of those
/// that are under way multiplies once more.
const BUDGET: usize = 250;
/// The reference looks at each for each.
const MAX_NOTIFIERS: usize = 40;
/// Of a program: what comes behind is more of the same.
const MAX_BYTES: usize = 160;

/// A list as the interpreter sees it.
trait Subject {
    fn add(self: &Rc<Self>, priority: i8);
    fn remove(&self, notifier: usize);
    fn detach(&self, notifier: usize);
    fn clear(&self);
    fn notify(&self, up: bool, event: u32) -> Result<(), Seen>;
    fn len(&self) -> usize;
    fn made(&self) -> usize;
}

/// The part of the interpreter that both sides share: scripts, the record, the budget.
#[derive(Debug)]
struct Script {
    program: Program,
    record: RefCell<Vec<Seen>>,
    /// Acts and calls until now.
    spent: Cell<usize>,
    events: Cell<u32>,
}

impl Script {
    fn new(program: &Program) -> Self {
        Self {
            program: program.clone(),
            record: RefCell::default(),
            spent: Cell::new(0),
            events: Cell::new(0),
        }
    }

    /// Takes one from the budget; false if there is none.
    fn spend(&self) -> bool {
        self.spent.set(self.spent.get() + 1);
        self.spent.get() <= BUDGET
    }

    fn perform<S: Subject>(&self, subject: &Rc<S>, act: Act, me: Option<usize>) {
        let pick = |n: u8| usize::from(n).checked_rem(subject.made());
        match act {
            Act::Add(priority) if subject.made() < MAX_NOTIFIERS => subject.add(priority),
            Act::Remove(n) => {
                if let Some(notifier) = pick(n) {
                    subject.remove(notifier);
                }
            }
            Act::Detach(n) => {
                if let Some(notifier) = pick(n) {
                    subject.detach(notifier);
                }
            }
            Act::Clear => subject.clear(),
            Act::Notify(up) => {
                let event = self.events.get() + 1;
                self.events.set(event);
                if let Err(seen) = subject.notify(up, event) {
                    self.record.borrow_mut().push(seen);
                }
            }
            Act::RemoveSelf => {
                if let Some(me) = me {
                    subject.remove(me);
                }
            }
            Act::Add(_) | Act::Fail => {}
        }
    }

    /// What notifier `me` does when it is called.
    fn called<S: Subject>(&self, subject: &Rc<S>, me: usize, event: u32) -> Result<(), ()> {
        self.record.borrow_mut().push(Seen::Called {
            notifier: me,
            event,
        });
        if !self.spend() || self.program.scripts.is_empty() {
            return Ok(());
        }
        let script = &self.program.scripts[me % self.program.scripts.len()];
        for act in script {
            if !self.spend() {
                return Ok(());
            }
            self.perform(subject, *act, Some(me));
        }
        if script.contains(&Act::Fail) {
            Err(())
        } else {
            Ok(())
        }
    }

    fn run<S: Subject>(&self, subject: &Rc<S>) -> Vec<Seen> {
        for act in &self.program.owner {
            if !self.spend() {
                break;
            }
            self.perform(subject, *act, None);
            self.record.borrow_mut().push(Seen::Len(subject.len()));
        }
        self.record.take()
    }
}

// ---- The reference: a vector, cloned for each round. ----

struct Naive {
    script: Script,
    /// (priority, notifier) of those that are registered, in the order of registration.
    registered: RefCell<Vec<(i8, usize)>>,
    detached: RefCell<Vec<usize>>,
    made: Cell<usize>,
    depth: Cell<u32>,
    me: Weak<Self>,
}

impl Naive {
    fn round(&self, up: bool, event: u32) -> Result<(), Seen> {
        let kind = self.script.program.kind;
        let mut order = self.registered.borrow().clone();
        if kind == Kind::Priority {
            order.sort_by_key(|(priority, _)| *priority);
        }
        if kind != Kind::Priority || !up {
            order.reverse();
        }
        for entry in order {
            if !self.registered.borrow().contains(&entry) {
                continue;
            }
            let me = self.me.upgrade().unwrap();
            let result = self.script.called(&me, entry.1, event);
            if kind == Kind::WithReturn && result.is_err() {
                return Err(Seen::Failed {
                    event,
                    notifier: entry.1,
                });
            }
        }
        Ok(())
    }
}

impl Subject for Naive {
    fn add(self: &Rc<Self>, priority: i8) {
        self.registered
            .borrow_mut()
            .push((priority, self.made.get()));
        self.made.set(self.made.get() + 1);
    }

    fn remove(&self, notifier: usize) {
        if !self.detached.borrow().contains(&notifier) {
            self.registered
                .borrow_mut()
                .retain(|(_, other)| *other != notifier);
        }
    }

    fn detach(&self, notifier: usize) {
        let is_registered = |(_, other): &(i8, usize)| *other == notifier;
        let mut detached = self.detached.borrow_mut();
        if self.registered.borrow().iter().any(is_registered) && !detached.contains(&notifier) {
            detached.push(notifier);
        }
    }

    fn clear(&self) {
        self.registered.borrow_mut().clear();
    }

    fn notify(&self, up: bool, event: u32) -> Result<(), Seen> {
        let limit = self.script.program.max_nesting;
        if self.depth.get() >= limit {
            return Err(Seen::Refused { event, limit });
        }
        self.depth.set(self.depth.get() + 1);
        let result = self.round(up, event);
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn len(&self) -> usize {
        self.registered.borrow().len()
    }

    fn made(&self) -> usize {
        self.made.get()
    }
}

// ---- The crate. ----

enum List {
    Plain(NotifierList<u32>),
    WithReturn(NotifierWithReturnList<u32, ()>),
    Priority(PriorityList<u32>),
}

struct Real {
    script: Script,
    list: List,
    handles: RefCell<Vec<Option<NotifierHandle>>>,
    me: Weak<Self>,
}

impl Subject for Real {
    fn add(self: &Rc<Self>, priority: i8) {
        let notifier = self.made();
        let me = Weak::clone(&self.me);
        let call = move |event: &u32| {
            let me = me.upgrade().unwrap();
            me.script.called(&me, notifier, *event)
        };
        let handle = match &self.list {
            List::Plain(list) => list.add(move |event| call(event).unwrap_or(())),
            List::WithReturn(list) => list.add(notifier.to_string(), call),
            List::Priority(list) => {
                list.add(priority.into(), move |event| call(event).unwrap_or(()))
            }
        };
        self.handles.borrow_mut().push(Some(handle));
    }

    fn remove(&self, notifier: usize) {
        let handle = self.handles.borrow_mut()[notifier].take();
        drop(handle);
    }

    fn detach(&self, notifier: usize) {
        let handle = self.handles.borrow_mut()[notifier].take();
        if let Some(handle) = handle {
            handle.detach();
        }
    }

    fn clear(&self) {
        match &self.list {
            List::Plain(list) => list.clear(),
            List::WithReturn(list) => list.clear(),
            List::Priority(list) => list.clear(),
        }
        let handles = self.handles.borrow();
        assert!(
            handles
                .iter()
                .flatten()
                .all(|handle| !handle.is_registered())
        );
    }

    fn notify(&self, up: bool, event: u32) -> Result<(), Seen> {
        let result = match &self.list {
            List::Plain(list) => list.notify(&event).map_err(NotifyError::from),
            List::WithReturn(list) => list.notify(&event),
            List::Priority(list) if up => list.run_up(&event).map_err(NotifyError::from),
            List::Priority(list) => list.run_down(&event).map_err(NotifyError::from),
        };
        result.map_err(|error| match error {
            NotifyError::NestingExceeded(error) => Seen::Refused {
                event,
                limit: error.limit,
            },
            NotifyError::Failed {
                notifier,
                error: (),
            } => Seen::Failed {
                event,
                notifier: notifier.parse().unwrap(),
            },
            other => panic!("an error that nobody knows: {other:?}"),
        })
    }

    fn len(&self) -> usize {
        match &self.list {
            List::Plain(list) => list.len(),
            List::WithReturn(list) => list.len(),
            List::Priority(list) => list.len(),
        }
    }

    fn made(&self) -> usize {
        self.handles.borrow().len()
    }
}

/// Runs the program on the list and on the reference, and compares what was seen.
pub(crate) fn agree(program: &Program) -> usize {
    let naive = Rc::new_cyclic(|me| Naive {
        script: Script::new(program),
        registered: RefCell::default(),
        detached: RefCell::default(),
        made: Cell::new(0),
        depth: Cell::new(0),
        me: Weak::clone(me),
    });
    let limit = program.max_nesting;
    let real = Rc::new_cyclic(|me| Real {
        script: Script::new(program),
        list: match program.kind {
            Kind::Plain => List::Plain(NotifierList::with_max_nesting(limit)),
            Kind::WithReturn => List::WithReturn(NotifierWithReturnList::with_max_nesting(limit)),
            Kind::Priority => List::Priority(PriorityList::with_max_nesting(limit)),
        },
        handles: RefCell::default(),
        me: Weak::clone(me),
    });
    let expected = naive.script.run(&naive);
    let actual = real.script.run(&real);
    assert_eq!(actual, expected);
    expected.len()
}
