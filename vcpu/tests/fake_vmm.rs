//! The whole crate, on the fake vCPU: what a VMM sees.
#![cfg(feature = "test-utilities")]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use vcpu::fake::{FakeGuest, FakeVcpu, Step};
use vcpu::{Control, Failure, FailureKind, VcpuError, VcpuEvent, VcpuId, VcpuSet, VcpuState};

fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(20))
}

fn shortly() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_millis(50))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Some(Instant::now()) < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn set_of(count: u32) -> (VcpuSet<FakeVcpu>, Vec<FakeGuest>) {
    let set = VcpuSet::new(|_, _| {});
    let guests = (0..count)
        .map(|id| {
            let vcpu = FakeVcpu::new();
            let guest = vcpu.guest();
            set.add(VcpuId(id), vcpu).unwrap();
            guest
        })
        .collect();
    (set, guests)
}

fn in_guest(guests: &[FakeGuest]) {
    eventually("all in the guest", || {
        guests.iter().all(FakeGuest::is_in_guest)
    });
}

#[test]
fn pause_and_resume_many_times() {
    let (set, guests) = set_of(3);
    for _ in 0..1_000 {
        let guard = set.pause_all(soon()).unwrap();
        assert!(guests.iter().all(|guest| !guest.is_in_guest()));
        assert!(
            set.states()
                .iter()
                .all(|(_, state)| *state == VcpuState::Paused)
        );
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
    assert!(
        set.states()
            .iter()
            .all(|(_, state)| *state == VcpuState::Paused)
    );
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
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    guests[1].push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
    let Err(VcpuError::Deadline { stuck }) = set.pause_all(shortly()) else {
        panic!("the pause should have failed");
    };
    assert_eq!(stuck.len(), 1);
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
    assert_eq!(
        set.run_on(VcpuId(0), soon(), |vcpu| vcpu.registers().rip)
            .unwrap(),
        1
    );
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
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    guests[1].push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
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
    eventually("it runs on", || {
        set.run_on(VcpuId(0), soon(), |vcpu| vcpu.registers().rip)
            .unwrap()
            == 6
    });
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
fn failures_reach_the_owner_and_a_reset_revives() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    let set = VcpuSet::new(move |id, event| ear.lock().unwrap().push((id, event)));
    let guests: Vec<_> = (0..3)
        .map(|id| {
            let vcpu = FakeVcpu::new();
            let guest = vcpu.guest();
            set.add(VcpuId(id), vcpu).unwrap();
            guest
        })
        .collect();
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
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    guests[0].push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
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
    eventually("it parks itself", || {
        set.states()
            .iter()
            .all(|(_, state)| *state == VcpuState::Paused)
    });
    drop(guard);
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
    let (release, released) = mpsc::channel::<()>();
    guests[0].push(Step::access(move || {
        released.recv().unwrap();
        Control::Continue
    }));
    eventually("in its handler", || {
        !guests[0].is_in_guest() && guests[0].entries() > 0
    });
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
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    guests[0].push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
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
