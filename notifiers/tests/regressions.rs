//! Bugs that other projects had here. One test each, named after what it prevents.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "a test may panic: that is how it fails"
)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use notifiers::{NotifierHandle, NotifierList, NotifierWithReturnList, PriorityList};

type SharedHandle = Rc<RefCell<Option<NotifierHandle>>>;

/// A callback that drops a handle and counts its calls.
fn remover(victim: &SharedHandle, calls: &Rc<Cell<u32>>) -> impl Fn(&()) + 'static {
    let (victim, calls) = (Rc::clone(victim), Rc::clone(calls));
    move |()| {
        calls.set(calls.get() + 1);
        let handle = victim.borrow_mut().take();
        drop(handle);
    }
}

/// QEMU, `util/notify.c` and `vm_state_notify`: the walk has fetched the next element before it
/// calls, so a callback that removes the next element leaves it holding freed memory.
#[test]
fn removing_the_next_notifier_is_no_use_after_free() {
    let list = NotifierList::new();
    let (victim, calls) = (SharedHandle::default(), Rc::new(Cell::new(0)));
    // The newest is called first, so the victim is next after the remover.
    let victims_calls = Rc::new(Cell::new(0));
    let inner = Rc::clone(&victims_calls);
    *victim.borrow_mut() = Some(list.add(move |()| inner.set(inner.get() + 1)));
    list.add(remover(&victim, &calls)).detach();
    list.notify(&()).unwrap();
    assert_eq!((calls.get(), victims_calls.get(), list.len()), (1, 0, 1));
}

/// The same on QEMU's list of change-state handlers, both ways.
#[test]
fn removing_the_next_change_state_handler_is_no_use_after_free() {
    for up in [true, false] {
        let list = PriorityList::new();
        let (victim, calls) = (SharedHandle::default(), Rc::new(Cell::new(0)));
        let victims_calls = Rc::new(Cell::new(0));
        let inner = Rc::clone(&victims_calls);
        let next = if up { 1 } else { -1 };
        let handle = list.add(next, move |()| inner.set(inner.get() + 1));
        *victim.borrow_mut() = Some(handle);
        list.add(0, remover(&victim, &calls)).detach();
        if up {
            list.run_up(&()).unwrap()
        } else {
            list.run_down(&()).unwrap()
        }
        assert_eq!((calls.get(), victims_calls.get()), (1, 0));
    }
}

/// dragonball-sandbox issue 73: the event manager of the time deadlocked when a handler removed
/// itself, and had to be wrapped. StratoVirt holds a read lock over its notifiers and has the same
/// trap. QEMU's block backend does just this: its handler fires once and removes itself.
#[test]
fn a_notifier_that_removes_itself_does_not_deadlock() {
    let list = NotifierList::new();
    let (own, calls) = (SharedHandle::default(), Rc::new(Cell::new(0)));
    *own.borrow_mut() = Some(list.add(remover(&own, &calls)));
    list.notify(&()).unwrap();
    list.notify(&()).unwrap();
    assert_eq!((calls.get(), list.len()), (1, 0));
}

/// dragonball-sandbox issue 73, the other half: adding from a handler.
#[test]
fn a_notifier_that_adds_another_does_not_deadlock() {
    let list = Rc::new(NotifierWithReturnList::<u32, ()>::new());
    let weak = Rc::downgrade(&list);
    list.add("first", move |_| {
        weak.upgrade().unwrap().add("second", |_| Ok(())).detach();
        Ok(())
    })
    .detach();
    list.notify(&1).unwrap();
    assert_eq!(list.len(), 2);
}

/// StratoVirt walks its notifiers the same way for stop and for start, so that on the way down a
/// bus stops before the devices behind it.
#[test]
fn what_was_started_last_is_stopped_first() {
    let list = PriorityList::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    for (name, depth) in [("bus", 0), ("controller", 1), ("disk 0", 2), ("disk 1", 2)] {
        let order = Rc::clone(&order);
        list.add(depth, move |()| order.borrow_mut().push(name))
            .detach();
    }
    list.run_up(&()).unwrap();
    assert_eq!(order.take(), ["bus", "controller", "disk 0", "disk 1"]);
    list.run_down(&()).unwrap();
    assert_eq!(order.take(), ["disk 1", "disk 0", "controller", "bus"]);
}

/// cloud-hypervisor issue 7930: the clock was restored after the vCPUs had begun to run, and guests
/// hung for minutes. A priority below all others is first on the way up and last on the way down.
#[test]
fn the_clock_goes_first_on_the_way_up_and_last_on_the_way_down() {
    let list = PriorityList::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    for (name, priority) in [
        ("net", 0),
        ("vcpus", i32::MAX),
        ("clock", i32::MIN),
        ("disk", 3),
    ] {
        let order = Rc::clone(&order);
        list.add(priority, move |()| order.borrow_mut().push(name))
            .detach();
    }
    list.run_up(&()).unwrap();
    assert_eq!(order.borrow().first(), Some(&"clock"));
    assert_eq!(order.take().last(), Some(&"vcpus"));
    list.run_down(&()).unwrap();
    assert_eq!(order.take().last(), Some(&"clock"));
}
