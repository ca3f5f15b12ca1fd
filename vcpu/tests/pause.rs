//! Pauses, holds and halts, on the fake vCPU: what a VMM sees.
#![cfg(feature = "test-utilities")]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod common;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use vcpu::fake::{FakeGuest, FakeVcpu, Step};
use vcpu::{Control, VcpuError, VcpuId, VcpuSet, VcpuState};

use crate::common::{blocking, eventually, in_guest, set_of, shortly, soon};

fn all_are(set: &VcpuSet<FakeVcpu>, state: VcpuState) -> bool {
    set.states().iter().all(|(_, now)| *now == state)
}

/// How far vCPU 0 has come.
fn rip(set: &VcpuSet<FakeVcpu>) -> u64 {
    set.run_on(VcpuId(0), soon(), |vcpu| vcpu.registers().rip)
        .unwrap()
}

#[test]
fn pause_and_resume_many_times() {
    let (set, guests) = set_of(3);
    for _ in 0..1_000 {
        let guard = set.pause_all(soon()).unwrap();
        assert!(guests.iter().all(|guest| !guest.is_in_guest()));
        assert!(all_are(&set, VcpuState::Paused));
        guard.resume();
    }
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn nothing_runs_while_paused() {
    let (set, guests) = set_of(2);
    in_guest(&guests);
    let guard = set.pause_all(soon()).unwrap();
    for guest in &guests {
        guest.push(Step::Instructions(7));
    }
    thread::sleep(Duration::from_millis(20));
    for (_, rip) in set.run_on_all(soon(), |vcpu| vcpu.registers().rip) {
        assert_eq!(rip.unwrap(), 0);
    }
    drop(guard);
    eventually("the instructions run", || {
        set.run_on_all(soon(), |vcpu| vcpu.registers().rip)
            .into_iter()
            .all(|(_, r)| r.unwrap() == 7)
    });
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_nested_pause_sends_no_signal_and_does_not_resume() {
    let (set, guests) = set_of(2);
    in_guest(&guests);
    let outer = set.pause_all(soon()).unwrap();
    let before: Vec<_> = guests.iter().map(FakeGuest::signals).collect();
    let inner = set.pause_all(soon()).unwrap();
    drop(inner);
    assert_eq!(
        before,
        guests.iter().map(FakeGuest::signals).collect::<Vec<_>>()
    );
    assert!(all_are(&set, VcpuState::Paused));
    drop(outer);
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn an_access_is_complete_before_the_vcpu_counts_as_paused() {
    let (set, guests) = set_of(1);
    let (entered, has_entered) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    guests[0].push(Step::access(move || {
        entered.send(()).unwrap();
        may_go_on.recv().unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
    let pauser = {
        let set = set.clone();
        thread::spawn(move || set.pause_all(soon()))
    };
    eventually("the pause is asked for", || set.is_paused());
    assert_eq!(set.get(VcpuId(0)).unwrap().state(), VcpuState::Running);
    go_on.send(()).unwrap();
    let guard = pauser.join().unwrap().unwrap();
    let (rip, half_done) = set
        .run_on(VcpuId(0), soon(), |vcpu| {
            (vcpu.registers().rip, vcpu.is_half_done())
        })
        .unwrap();
    assert_eq!((rip, half_done), (1, false));
    drop(guard);
    set.shutdown(soon()).unwrap();
}

#[test]
fn an_access_in_parts_is_complete_too() {
    let (set, guests) = set_of(1);
    guests[0].push(Step::AccessInParts(3));
    let half_done = set
        .run_on(VcpuId(0), soon(), |vcpu| vcpu.is_half_done())
        .unwrap();
    assert!(!half_done);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_missed_deadline_names_the_stuck_vcpu_and_lets_all_run_on() {
    let (set, guests) = set_of(3);
    let release = blocking(&guests[1]);
    let mut stuck = Vec::new();
    // On a busy machine, others may need longer.
    eventually("it alone is stuck", || {
        let Err(VcpuError::Deadline { stuck: late }) = set.pause_all(shortly()) else {
            panic!("the pause should have failed");
        };
        stuck = late;
        stuck.len() == 1
    });
    assert_eq!(stuck[0].id, VcpuId(1));
    assert_eq!(stuck[0].last_exit, Some(("access", Some(0x64))));
    assert!(
        stuck[0].to_string().contains("exit handler"),
        "{}",
        stuck[0]
    );
    assert!(!set.is_paused());
    eventually("the others run on", || {
        guests[0].is_in_guest() && guests[2].is_in_guest()
    });
    release.send(()).unwrap();
    in_guest(&guests);
    set.pause_all(soon()).unwrap().resume();
    set.shutdown(soon()).unwrap();
}

#[test]
fn hold_lasts_until_the_next_resume() {
    let (set, guests) = set_of(2);
    guests[0].push(Step::access(|| Control::Hold));
    guests[0].push(Step::Instructions(1));
    let held = set.get(VcpuId(0)).unwrap();
    eventually("held", || held.state() == VcpuState::Held);
    // Complete, though held; and not one instruction further.
    assert_eq!(rip(&set), 1);
    assert_eq!(held.state(), VcpuState::Held);
    let outer = set.pause_all(soon()).unwrap();
    set.pause_all(soon()).unwrap().resume();
    assert_eq!(held.state(), VcpuState::Paused);
    outer.resume();
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_failed_pause_does_not_release_a_hold() {
    let (set, guests) = set_of(2);
    guests[0].push(Step::access(|| Control::Hold));
    let held = set.get(VcpuId(0)).unwrap();
    eventually("held", || held.state() == VcpuState::Held);
    let release = blocking(&guests[1]);
    set.pause_all(shortly()).unwrap_err();
    assert_eq!(held.state(), VcpuState::Held);
    release.send(()).unwrap();
    set.release_held();
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_release_that_comes_before_the_hold_counts() {
    let (set, guests) = set_of(1);
    let served = set.clone();
    guests[0].push(Step::access(move || {
        // The main loop drops the request before the handler gets to its answer.
        thread::spawn(move || served.release_held()).join().unwrap();
        Control::Hold
    }));
    guests[0].push(Step::Instructions(5));
    eventually("it runs on", || rip(&set) == 6);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_halted_vcpu_pauses_without_waking_and_runs_on_after_an_event() {
    let (set, guests) = set_of(1);
    guests[0].push(Step::access(|| Control::Halted));
    let vcpu = set.get(VcpuId(0)).unwrap();
    eventually("halted", || vcpu.state() == VcpuState::Halted);
    let entries = guests[0].entries();
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(vcpu.state(), VcpuState::Paused);
    assert!(vcpu.word().is_halted());
    drop(guard);
    assert_eq!(vcpu.state(), VcpuState::Halted);
    assert_eq!(guests[0].entries(), entries);
    vcpu.notify();
    in_guest(&guests);
    assert_eq!(vcpu.state(), VcpuState::Running);
    set.shutdown(soon()).unwrap();
}

#[test]
fn an_event_before_the_halt_is_not_lost() {
    let (set, guests) = set_of(1);
    let vcpu = set.get(VcpuId(0)).unwrap();
    let notifier = Arc::clone(&vcpu);
    guests[0].push(Step::access(move || {
        notifier.notify();
        Control::Halted
    }));
    eventually("entered again", || {
        guests[0].entries() >= 2 && guests[0].is_in_guest()
    });
    assert_eq!(vcpu.state(), VcpuState::Running);
    drop(vcpu);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_pause_on_a_vcpu_thread_excepts_it_until_its_exit_is_handled() {
    let (set, guests) = set_of(3);
    let (send, guards) = mpsc::channel();
    let pauser = set.clone();
    guests[0].push(Step::access(move || {
        let guard = pauser.pause_all(soon()).unwrap();
        let states: Vec<_> = pauser
            .states()
            .into_iter()
            .map(|(_, state)| state)
            .collect();
        assert_eq!(
            states,
            [VcpuState::Running, VcpuState::Paused, VcpuState::Paused]
        );
        send.send(guard).unwrap();
        Control::Continue
    }));
    let guard = guards.recv().unwrap();
    eventually("it parks itself", || all_are(&set, VcpuState::Paused));
    drop(guard);
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn pausers_on_several_threads() {
    let (set, guests) = set_of(2);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let guard = set.pause_all(soon()).unwrap();
                    assert!(guests.iter().all(|guest| !guest.is_in_guest()));
                    guard.resume();
                }
            });
        }
    });
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_vcpu_outside_the_guest_is_not_signalled() {
    let (set, guests) = set_of(1);
    let release = blocking(&guests[0]);
    let before = guests[0].signals();
    for _ in 0..10 {
        set.get(VcpuId(0)).unwrap().queue_on(|_| ()).unwrap();
        set.get(VcpuId(0)).unwrap().notify();
    }
    set.pause_all(shortly()).unwrap_err();
    assert_eq!(guests[0].signals(), before);
    release.send(()).unwrap();
    set.shutdown(soon()).unwrap();
}

#[test]
fn one_vcpu_is_paused_and_the_others_run() {
    let (set, guests) = set_of(2);
    in_guest(&guests);
    let alone = set.get(VcpuId(1)).unwrap().pause(soon()).unwrap();
    assert_eq!(set.get(VcpuId(1)).unwrap().state(), VcpuState::Paused);
    assert!(!set.is_paused());
    // A pause of all begins and ends meanwhile, and registers can be read.
    set.pause_all(soon()).unwrap().resume();
    for guest in &guests {
        guest.push(Step::Instructions(7));
    }
    eventually("the other one runs", || rip(&set) == 7);
    let of_it = |set: &VcpuSet<FakeVcpu>| {
        set.run_on(VcpuId(1), soon(), |vcpu| vcpu.registers().rip)
            .unwrap()
    };
    assert_eq!(of_it(&set), 0);
    drop(alone);
    eventually("it runs on", || of_it(&set) == 7);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_vcpu_that_is_kept_out_stays_out_when_a_hold_is_released() {
    let (set, guests) = set_of(2);
    in_guest(&guests);
    let all = set.pause_all(soon()).unwrap();
    let alone = set.get(VcpuId(0)).unwrap().pause(soon()).unwrap();
    set.release_held();
    all.resume();
    guests[0].push(Step::Instructions(7));
    thread::sleep(Duration::from_millis(20));
    assert_eq!(rip(&set), 0);
    drop(alone);
    eventually("it runs on", || rip(&set) == 7);
    set.shutdown(soon()).unwrap();
}
