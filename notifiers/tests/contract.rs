//! The contract of the README, one promise a test.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use notifiers::{
    DEFAULT_MAX_NESTING, NestingExceeded, NotifierHandle, NotifierList, NotifierWithReturnList,
    NotifyError, PriorityList,
};

/// What was called, in order.
type Log = Rc<RefCell<Vec<String>>>;

fn push(log: &Log, entry: impl Into<String>) {
    log.borrow_mut().push(entry.into());
}

fn logger(log: &Log, name: &str) -> impl Fn(&u32) + 'static {
    let (log, name) = (Rc::clone(log), name.to_owned());
    move |event| push(&log, format!("{name}{event}"))
}

/// A handle that a callback can get at.
type SharedHandle = Rc<RefCell<Option<NotifierHandle>>>;

fn drop_handle(handle: &SharedHandle) {
    let handle = handle.borrow_mut().take();
    drop(handle);
}

#[test]
fn the_newest_notifier_is_called_first() {
    let (list, log) = (NotifierList::new(), Log::default());
    list.add(logger(&log, "a")).detach();
    list.add(logger(&log, "b")).detach();
    list.add(logger(&log, "c")).detach();
    list.notify(&1).unwrap();
    assert_eq!(*log.borrow(), ["c1", "b1", "a1"]);
}

#[test]
fn dropping_the_handle_removes_and_detaching_keeps() {
    let (list, log) = (NotifierList::new(), Log::default());
    let kept = list.add(logger(&log, "kept"));
    let dropped = list.add(logger(&log, "dropped"));
    list.add(logger(&log, "detached")).detach();
    assert!(dropped.is_registered());
    dropped.remove();
    assert_eq!(list.len(), 2);
    list.notify(&1).unwrap();
    drop(kept);
    list.notify(&2).unwrap();
    assert_eq!(*log.borrow(), ["detached1", "kept1", "detached2"]);
}

#[test]
fn a_handle_may_outlive_its_list() {
    let list = NotifierList::<()>::new();
    let handle = list.add(|()| {});
    drop(list);
    assert!(!handle.is_registered());
    drop(handle);
}

#[test]
fn priorities_ascend_on_the_way_up_and_the_way_down_is_the_exact_reverse() {
    let (list, log) = (PriorityList::new(), Log::default());
    for (name, priority) in [
        ("a", 0),
        ("b", -5),
        ("c", 0),
        ("d", 7),
        ("e", -5),
        ("f", i32::MIN),
    ] {
        list.add(priority, logger(&log, name)).detach();
    }
    list.run_up(&1).unwrap();
    let mut up = log.take();
    assert_eq!(up, ["f1", "b1", "e1", "a1", "c1", "d1"]);
    list.run_down(&1).unwrap();
    up.reverse();
    assert_eq!(*log.borrow(), up);
}

#[test]
fn the_first_error_stops_the_round_and_is_named() {
    let (list, log) = (NotifierWithReturnList::new(), Log::default());
    for (name, result) in [
        ("never", Ok(())),
        ("net0", Err("cable cut")),
        ("disk", Ok(())),
    ] {
        let log = Rc::clone(&log);
        list.add(name, move |(): &()| {
            push(&log, name);
            result
        })
        .detach();
    }
    let error = list.notify(&()).unwrap_err();
    assert_eq!(*log.borrow(), ["disk", "net0"]);
    assert_eq!(error.to_string(), "notifier `net0` failed: cable cut");
    assert_eq!(
        error,
        NotifyError::Failed {
            notifier: "net0".into(),
            error: "cable cut"
        }
    );
}

#[test]
fn a_notifier_added_during_a_round_waits_for_the_next() {
    let (list, log) = (Rc::new(PriorityList::new()), Log::default());
    let (weak, inner) = (Rc::downgrade(&list), Rc::clone(&log));
    list.add(0, move |event: &u32| {
        push(&inner, format!("adder{event}"));
        let list = weak.upgrade().unwrap();
        // Before it and after it in the order: neither is called in this round.
        list.add(-1, logger(&inner, "early")).detach();
        list.add(1, logger(&inner, "late")).detach();
    })
    .detach();
    list.run_up(&1).unwrap();
    assert_eq!(log.take(), ["adder1"]);
    list.run_up(&2).unwrap();
    assert_eq!(log.take(), ["early2", "adder2", "late2"]);
}

#[test]
fn a_round_inside_a_round_calls_what_was_added_before_it() {
    let (list, log) = (Rc::new(NotifierList::new()), Log::default());
    let (weak, inner) = (Rc::downgrade(&list), Rc::clone(&log));
    list.add(move |event: &u32| {
        if *event == 1 {
            let list = weak.upgrade().unwrap();
            list.add(logger(&inner, "added")).detach();
            list.notify(&2).unwrap();
        }
    })
    .detach();
    list.notify(&1).unwrap();
    assert_eq!(*log.borrow(), ["added2"]);
}

#[test]
fn nesting_beyond_the_limit_is_an_error_and_the_list_goes_on() {
    let list = Rc::new(NotifierList::new());
    let (rounds, refusals) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (weak, r, n) = (
        Rc::downgrade(&list),
        Rc::clone(&refusals),
        Rc::clone(&rounds),
    );
    list.add(move |(): &()| {
        n.set(n.get() + 1);
        if let Err(NestingExceeded { limit }) = weak.upgrade().unwrap().notify(&()) {
            assert_eq!(limit, DEFAULT_MAX_NESTING);
            r.set(r.get() + 1);
        }
    })
    .detach();
    for round in 1..=2 {
        list.notify(&()).unwrap();
        assert_eq!(
            (rounds.get(), refusals.get()),
            (round * DEFAULT_MAX_NESTING, round)
        );
    }
}

#[test]
fn what_a_callback_captured_is_released_on_removal() {
    let list = NotifierList::<()>::new();
    let captured = Rc::new(());
    let inner = Rc::clone(&captured);
    let handle = list.add(move |()| drop(Rc::clone(&inner)));
    drop(handle);
    assert_eq!(Rc::strong_count(&captured), 1);
}

#[test]
fn what_a_callback_captured_outlives_the_round_that_sees_it() {
    let list = NotifierList::<()>::new();
    let captured = Rc::new(Cell::new(0));
    let handle = SharedHandle::default();
    let (inner, own) = (Rc::clone(&captured), Rc::clone(&handle));
    *handle.borrow_mut() = Some(list.add(move |()| {
        drop_handle(&own);
        // What this closure captured is still there.
        inner.set(inner.get() + 1);
    }));
    list.notify(&()).unwrap();
    assert_eq!((captured.get(), Rc::strong_count(&captured)), (1, 1));
}

#[test]
fn a_captured_value_may_use_the_list_while_it_is_dropped() {
    struct AddsWhenDropped(Rc<NotifierList<u32>>, Log);
    impl Drop for AddsWhenDropped {
        fn drop(&mut self) {
            self.0.notify(&7).unwrap();
            self.0.add(logger(&self.1, "heir")).detach();
        }
    }
    let (list, log) = (Rc::new(NotifierList::new()), Log::default());
    list.add(logger(&log, "other")).detach();
    let last_will = AddsWhenDropped(Rc::clone(&list), Rc::clone(&log));
    let handle = list.add(move |_| {
        let _captured = &last_will;
    });
    drop(handle);
    list.notify(&8).unwrap();
    assert_eq!(*log.borrow(), ["other7", "heir8", "other8"]);

    let last_will = AddsWhenDropped(Rc::clone(&list), Rc::clone(&log));
    list.add(move |_| {
        let _captured = &last_will;
    })
    .detach();
    log.take();
    list.clear();
    list.notify(&9).unwrap();
    assert_eq!(
        *log.borrow(),
        ["heir9"],
        "when it is cleared, the list is empty at once"
    );
    // The last will holds the list and the list its heir: break the circle.
    list.clear();
}

#[test]
fn a_callback_may_clear_the_list() {
    let (list, log) = (Rc::new(PriorityList::new()), Log::default());
    list.add(1, logger(&log, "late")).detach();
    let weak = Rc::downgrade(&list);
    list.add(0, move |_| weak.upgrade().unwrap().clear())
        .detach();
    list.run_up(&1).unwrap();
    assert!(log.borrow().is_empty() && list.is_empty());
}

#[test]
fn a_panicking_callback_leaves_the_list_usable() {
    let (list, log) = (NotifierList::with_max_nesting(2), Log::default());
    list.add(logger(&log, "a")).detach();
    list.add(|event| assert_ne!(*event, 1, "the callback's own bug"))
        .detach();
    list.add(logger(&log, "b")).detach();
    // More panics than rounds may be nested: a round that was not left would show.
    for _ in 0..5 {
        let panicked = catch_unwind(AssertUnwindSafe(|| list.notify(&1)));
        assert!(panicked.is_err());
    }
    assert_eq!(log.take(), ["b1"; 5]);
    list.add(logger(&log, "c")).detach();
    list.notify(&2).unwrap();
    assert_eq!(*log.borrow(), ["c2", "b2", "a2"]);
}

#[test]
fn memory_follows_the_number_of_notifiers_and_not_of_registrations() {
    let list = NotifierList::<u64>::new();
    let sum = Rc::new(Cell::new(0));
    let mut handles = std::collections::VecDeque::new();
    for n in 0..10_000_u64 {
        let inner = Rc::clone(&sum);
        handles.push_back(list.add(move |event| inner.set(inner.get() + *event * n)));
        if handles.len() > 3 {
            handles.pop_front();
        }
        assert_eq!(list.len(), handles.len());
        assert_eq!(
            Rc::strong_count(&sum),
            1 + handles.len(),
            "nothing else is held"
        );
    }
    list.notify(&1).unwrap();
    assert_eq!(sum.get(), 9_999 + 9_998 + 9_997);
}
