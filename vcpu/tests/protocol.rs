//! The control word alone, step by step: no features, no threads but where one is kicked.
#![expect(clippy::panic, reason = "a test may fail so")]

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use vcpu::protocol::{ControlWord, Phase, Refusal};
use vcpu::{VcpuState, Word};

fn never() {
    panic!("a vCPU outside the guest was kicked");
}

fn at(word: &ControlWord) -> (Phase, VcpuState, u64) {
    let now: Word = word.load();
    (now.phase(), now.state(), now.stops())
}

#[test]
fn a_vcpu_is_born_idle_and_enters_when_nothing_keeps_it_out() {
    let word = ControlWord::new(2, false);
    assert_eq!(at(&word), (Phase::Idle, VcpuState::Paused, 2));
    assert_eq!(word.try_enter(), Err(Refusal::StayOut));
    word.release_stop();
    assert_eq!(word.try_enter(), Err(Refusal::StayOut));
    word.release_stop();
    assert_eq!(word.try_enter(), Ok(1));
    assert_eq!(at(&word), (Phase::Guest, VcpuState::Running, 0));
}

#[test]
fn one_kick_for_one_stay_in_the_guest() {
    let word = ControlWord::new(0, false);
    word.try_enter().unwrap();
    let kicks = Cell::new(0);
    let kick = || kicks.set(kicks.get() + 1);
    assert!(word.request_stop(kick));
    word.request_work(kick);
    word.notify(kick);
    assert!(word.request_stop(kick));
    assert_eq!(kicks.get(), 1);
    // Out of the guest: none.
    word.leave();
    assert!(word.request_stop(never));
    word.request_work(never);
    // In again: one more.
    for _ in 0..3 {
        word.release_stop();
    }
    word.take_work();
    word.try_enter().unwrap();
    assert!(word.request_stop(kick));
    assert_eq!(kicks.get(), 2);
}

#[test]
fn only_parking_acknowledges() {
    let word = ControlWord::new(0, false);
    word.try_enter().unwrap();
    assert!(word.request_stop(|| ()));
    let soon = || Instant::now().checked_add(Duration::from_millis(1));
    assert!(word.wait_stopped(false, soon()).is_err());
    word.leave();
    assert!(word.wait_stopped(false, soon()).is_err());
    assert!(word.wait_outside(soon()).is_ok());
    word.park();
    assert_eq!(
        word.wait_stopped(false, soon()).unwrap().state(),
        VcpuState::Paused
    );
}

#[test]
fn a_hold_ends_with_the_last_pause_and_a_cancelled_pause_leaves_it() {
    let word = ControlWord::new(0, false);
    let epoch = word.try_enter().unwrap();
    word.leave();
    word.hold(epoch);
    word.park();
    assert_eq!(at(&word), (Phase::Idle, VcpuState::Held, 0));
    assert!(word.request_stop(never));
    word.cancel_stop();
    assert_eq!(word.load().state(), VcpuState::Held);
    assert!(word.request_stop(never) && word.request_stop(never));
    word.release_stop();
    assert_eq!(word.load().state(), VcpuState::Paused);
    word.release_stop();
    let next = word.try_enter().unwrap();
    assert_ne!(next, epoch);
    // The release came first this time: nothing to hold for.
    word.leave();
    word.release_hold();
    word.hold(next);
    assert!(word.try_enter().is_ok());
}

#[test]
fn requests_are_answered_in_the_order_exit_work_stop() {
    let word = ControlWord::new(1, true);
    word.request_work(never);
    assert_eq!(word.try_enter(), Err(Refusal::Work));
    word.request_exit(never);
    assert_eq!(word.try_enter(), Err(Refusal::Exit));
    assert!(word.cancel_exit());
    word.take_work();
    word.release_stop();
    assert_eq!(word.try_enter(), Err(Refusal::StayOut));
    word.release_exclusive();
    assert!(word.try_enter().is_ok());
    word.leave();
    word.end();
    assert_eq!(at(&word), (Phase::Gone, VcpuState::Exited, 0));
    assert!(!word.cancel_exit());
}

#[test]
fn failure_and_halt_are_undone_by_recovery_and_a_halt_by_an_event() {
    let word = ControlWord::new(0, false);
    word.try_enter().unwrap();
    word.leave();
    word.halt();
    assert_eq!(word.load().state(), VcpuState::Halted);
    word.notify(never);
    // The event came before the next halt.
    word.halt();
    assert_eq!(word.load().state(), VcpuState::Running);
    word.fail();
    word.park();
    assert_eq!(at(&word), (Phase::Idle, VcpuState::Failed, 0));
    assert_eq!(word.try_enter(), Err(Refusal::StayOut));
    word.recover();
    assert!(word.try_enter().is_ok());
}

#[test]
fn a_kick_that_panics_is_counted_out() {
    let word = ControlWord::new(0, false);
    word.try_enter().unwrap();
    let kick = || panic!("a broken kicker");
    thread::scope(|scope| {
        assert!(scope.spawn(|| word.request_stop(kick)).join().is_err());
    });
    word.leave();
    // It would wait for ever for the kick that never came.
    word.end();
    assert_eq!(word.load().phase(), Phase::Gone);
    assert!(format!("{:?}", word.load()).contains("stops=1"));
}
