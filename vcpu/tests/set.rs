//! Work, exclusive sections, failures, hot add and remove, and the end, on the fake vCPU: what a VMM sees.
#![cfg(feature = "test-utilities")]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use vcpu::fake::{FakeVcpu, Step};
use vcpu::{Control, Failure, FailureKind, VcpuError, VcpuEvent, VcpuId, VcpuSet, VcpuState};

use crate::common::{add_to, blocking, eventually, in_guest, set_of, shortly, soon};

#[test]
fn failures_reach_the_owner_and_a_reset_revives() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let set = VcpuSet::new(move |id, event| ear.lock().unwrap().push((id, event)));
    let guests = add_to(&set, 3);
    guests[0].push(Step::Fail("no such luck".into()));
    guests[1].push(Step::access(|| panic!("the handler is broken")));
    guests[2].push(Step::access(|| Control::Exited));
    eventually("all three are told", || heard.lock().unwrap().len() == 3);
    let states: Vec<_> = set.states().into_iter().map(|(_, state)| state).collect();
    assert_eq!(
        states,
        [VcpuState::Failed, VcpuState::Failed, VcpuState::Exited]
    );
    let mut told = heard.lock().unwrap().clone();
    told.sort_by_key(|(id, _)| *id);
    assert_eq!(told[0].1, VcpuEvent::Failed(Failure::run("no such luck")));
    let VcpuEvent::Failed(failure) = &told[1].1 else {
        panic!("{told:?}")
    };
    assert_eq!(failure.kind, FailureKind::Panic);
    assert!(
        failure.message.contains("the handler is broken"),
        "{failure}"
    );
    assert_eq!(told[2].1, VcpuEvent::Exited);

    // None of them is waited for, and the failed ones still answer.
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(set.run_on(VcpuId(0), soon(), |_| 42).unwrap(), 42);
    assert!(matches!(
        set.run_on(VcpuId(2), soon(), |_| 42),
        Err(VcpuError::Exited(VcpuId(2)))
    ));
    set.reset_all(soon()).unwrap();
    drop(guard);
    eventually("revived", || {
        guests[0].is_in_guest() && guests[1].is_in_guest()
    });
    assert!(set.get(VcpuId(0)).unwrap().failure().is_none());
    set.shutdown(soon()).unwrap();
}

#[test]
fn run_on_works_in_the_guest_paused_and_in_order() {
    let (set, guests) = set_of(1);
    in_guest(&guests);
    let vcpu = set.get(VcpuId(0)).unwrap();
    for n in 1..=100_u64 {
        vcpu.queue_on(move |cpu| {
            let rax = &mut cpu.registers_mut().rax;
            assert_eq!(*rax, n - 1);
            *rax = n;
        })
        .unwrap();
    }
    assert_eq!(vcpu.run_on(soon(), |cpu| cpu.registers().rax).unwrap(), 100);
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(vcpu.run_on(soon(), |cpu| cpu.registers().rax).unwrap(), 100);
    assert_eq!(vcpu.state(), VcpuState::Paused);
    drop(guard);
    set.shutdown(soon()).unwrap();
}

#[test]
fn run_on_at_home_is_direct_and_never_waits_for_itself() {
    let (set, _guests) = set_of(2);
    let vcpu = set.get(VcpuId(0)).unwrap();
    let (here, others) = (Arc::clone(&vcpu), set.clone());
    let outcome = vcpu
        .run_on(soon(), move |cpu| {
            let direct = here.run_on_or_here(cpu, soon(), |cpu| {
                cpu.registers_mut().rax = 3;
                cpu.registers().rax
            });
            let own = here.run_on(soon(), |_| ());
            let other = others.run_on(VcpuId(1), soon(), |cpu| cpu.registers().rax);
            (direct, own, other)
        })
        .unwrap();
    assert_eq!(outcome.0.unwrap(), 3);
    assert!(matches!(outcome.1, Err(VcpuError::OwnThread(VcpuId(0)))));
    assert_eq!(outcome.2.unwrap(), 0);
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_late_closure_does_not_run_later() {
    let (set, guests) = set_of(1);
    let release = blocking(&guests[0]);
    let ran = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&ran);
    let outcome = set.run_on(VcpuId(0), shortly(), move |_| {
        mark.store(true, Ordering::SeqCst)
    });
    assert!(matches!(outcome, Err(VcpuError::Deadline { stuck }) if stuck[0].id == VcpuId(0)));
    release.send(()).unwrap();
    set.run_on(VcpuId(0), soon(), |_| ()).unwrap();
    assert!(!ran.load(Ordering::SeqCst));
    set.shutdown(soon()).unwrap();
}

#[test]
fn exclusive_sections_exclude_guests_and_each_other() {
    let (set, guests) = set_of(3);
    let inside = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    set.exclusive(soon(), || {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        assert!(guests.iter().all(|guest| !guest.is_in_guest()));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    })
                    .unwrap();
                }
            });
        }
    });
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn two_vcpus_may_ask_for_exclusive_sections_and_pauses_at_once() {
    let (set, guests) = set_of(2);
    let done = Arc::new(AtomicU64::new(0));
    for round in 0..100 {
        for guest in &guests {
            let (set, done) = (set.clone(), Arc::clone(&done));
            guest.push(Step::access(move || {
                if round % 2 == 0 {
                    set.exclusive(soon(), || ()).unwrap();
                } else {
                    set.pause_all(soon()).unwrap().resume();
                }
                done.fetch_add(1, Ordering::SeqCst);
                Control::Continue
            }));
        }
    }
    eventually("all are done", || done.load(Ordering::SeqCst) == 200);
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

#[test]
fn hot_add_and_remove_in_every_state() {
    let (set, guests) = set_of(1);
    in_guest(&guests);
    let guard = set.pause_all(soon()).unwrap();
    let late = FakeVcpu::new();
    let late_guest = late.guest();
    let added = set.add(VcpuId(7), late).unwrap();
    assert_eq!(added.state(), VcpuState::Paused);
    assert!(matches!(
        set.add(VcpuId(7), FakeVcpu::new()),
        Err(VcpuError::IdInUse(VcpuId(7)))
    ));
    drop(set.remove(VcpuId(0), soon()).unwrap());
    assert_eq!(late_guest.entries(), 0);
    drop(guard);
    in_guest(&[late_guest]);
    // A second life of number 7 is another vCPU.
    drop(set.remove(VcpuId(7), soon()).unwrap());
    assert_eq!(added.state(), VcpuState::Exited);
    let again = set.add(VcpuId(7), FakeVcpu::new()).unwrap();
    assert_ne!(added.incarnation(), again.incarnation());
    assert!(matches!(
        added.run_on(soon(), |_| ()),
        Err(VcpuError::Exited(_))
    ));
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_vcpu_that_cannot_be_removed_in_time_runs_on() {
    let (set, guests) = set_of(1);
    let release = blocking(&guests[0]);
    assert!(matches!(
        set.remove(VcpuId(0), shortly()),
        Err(VcpuError::Deadline { .. })
    ));
    assert!(matches!(
        set.shutdown(shortly()),
        Err(VcpuError::Deadline { .. })
    ));
    release.send(()).unwrap();
    eventually("it ends when it can", || {
        set.states()
            .iter()
            .all(|(_, state)| *state == VcpuState::Exited)
    });
    set.shutdown(soon()).unwrap();
}

#[test]
fn shutdown_works_from_every_state() {
    let (set, guests) = set_of(5);
    guests[0].push(Step::access(|| Control::Hold));
    guests[1].push(Step::access(|| Control::Halted));
    guests[2].push(Step::Fail("broken".into()));
    guests[3].push(Step::access(|| Control::Exited));
    let wanted = [
        VcpuState::Held,
        VcpuState::Halted,
        VcpuState::Failed,
        VcpuState::Exited,
        VcpuState::Running,
    ];
    eventually("all states", || {
        set.states().iter().map(|(_, state)| *state).eq(wanted) && guests[4].is_in_guest()
    });
    let guard = set.pause_all(soon()).unwrap();
    set.shutdown(soon()).unwrap();
    assert!(set.vcpus().is_empty());
    drop(guard);
    set.shutdown(soon()).unwrap();
}

#[test]
fn dropping_the_set_ends_the_threads() {
    let (set, guests) = set_of(2);
    in_guest(&guests);
    let vcpus = set.vcpus();
    drop(set);
    eventually("all gone", || {
        vcpus.iter().all(|vcpu| vcpu.state() == VcpuState::Exited)
    });
}
