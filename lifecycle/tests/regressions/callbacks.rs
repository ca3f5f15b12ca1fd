//! Handlers and notifiers may do what they like, and the machine stays in order.

use std::cell::RefCell;
use std::rc::Rc;

use lifecycle::{Compat, ShutdownCause, StateHandler, Turn};
use runstate::RunState;

use crate::NOW;
use crate::common::{machine, running};

/// QEMU: a handler that removes the one after it makes the list walk freed memory.
#[test]
fn a_handler_may_remove_the_next_one() {
    for compat in [Compat::Qemu7_2, NOW] {
        let (vm, notes) = machine(compat);
        let next: Rc<RefCell<Option<StateHandler>>> = Rc::default();
        let victim = Rc::clone(&next);
        let first = vm.add_state_handler(0, move |_| drop(victim.take()));
        let log = notes.clone();
        next.replace(Some(vm.add_state_handler(0, move |_| log.add("removed"))));
        let log = notes.clone();
        let last = vm.add_state_handler(0, move |_| log.add("last"));
        vm.start().expect("starts");
        let lines = notes.take();
        assert!(lines.contains(&"last".to_owned()), "{compat}: {lines:?}");
        assert!(
            !lines.contains(&"removed".to_owned()),
            "{compat}: {lines:?}"
        );
        drop((first, last));
    }
}

/// Dragonball 73: a handler that takes itself, or another, off the list deadlocks. And a pair that
/// undo each other's changes must come to an end.
#[test]
fn callbacks_that_undo_each_other_come_to_an_end() {
    let (vm, notes) = machine(NOW);
    let weak = Rc::downgrade(&vm);
    let handler = vm.add_state_handler(0, move |notice| {
        let vm = weak.upgrade().expect("it lives");
        let undone = if notice.running {
            vm.stop(RunState::Paused)
        } else {
            vm.start()
        };
        undone.expect("deferred");
    });
    vm.start().expect("starts");
    let lines = notes.take();
    assert!(lines.len() < 500);
    assert!(
        lines
            .last()
            .is_some_and(|line| line.starts_with("report: ")),
        "{lines:?}"
    );
    drop(handler);
    vm.stop(RunState::Paused).expect("works still");
}

/// QEMU issue 2771: exit notifiers ran without the big lock, on whatever thread called exit().
/// Here the lifecycle, and with it the list, cannot leave the main loop's thread; and a notifier
/// finds the lifecycle in working order.
#[test]
fn exit_notifiers_run_on_the_main_loops_thread() {
    let (vm, notes) = running(NOW);
    let main = std::thread::current().id();
    for name in ["first", "second"] {
        let (log, weak) = (notes.clone(), Rc::downgrade(&vm));
        vm.on_exit(move || {
            assert_eq!(std::thread::current().id(), main);
            log.add(name);
            let vm = weak.upgrade().expect("it lives");
            vm.shutdown_for_exit().expect("legal");
        })
        .detach();
    }
    vm.requests().quit();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    notes.take();
    vm.run_exit_notifiers();
    let lines = notes.take();
    assert_eq!(lines.first().map(String::as_str), Some("second"), "LIFO");
    assert_eq!(vm.state(), RunState::Shutdown);
}

/// A shutdown notifier that stops or starts the machine: SHUTDOWN is the last event all the same, and
/// nothing runs after it.
#[test]
fn nothing_that_a_notifier_wants_outlives_the_machine() {
    let (vm, notes) = running(NOW);
    let weak = Rc::downgrade(&vm);
    vm.on_shutdown(move |_| {
        let vm = weak.upgrade().expect("it lives");
        vm.stop(RunState::Paused).expect("deferred");
        vm.start().expect("deferred");
    })
    .detach();
    vm.requests().quit();
    assert!(matches!(vm.dispatch(), Turn::Exit(_)));
    vm.shutdown_for_exit().expect("stops");
    assert_eq!(notes.events(), ["SHUTDOWN"]);
    assert_eq!(vm.state(), RunState::Shutdown);
}

/// A stop that a callback of a reset wants comes after the reset, and keeps its state.
#[test]
fn a_stop_in_the_middle_of_a_reset_is_not_taken_for_a_fresh_machine() {
    let (vm, notes) = running(NOW);
    let weak = Rc::downgrade(&vm);
    notes.while_pausing.set(Some(Box::new(move || {
        let vm = weak.upgrade().expect("it lives");
        vm.stop(RunState::IoError).expect("deferred");
    })));
    vm.requests().reset(ShutdownCause::GuestReset);
    vm.dispatch();
    assert_eq!(notes.events(), ["RESET", "STOP"]);
    assert_eq!(vm.state(), RunState::IoError);
}
