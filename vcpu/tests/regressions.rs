//! Bugs of the field, one test each: named after what it prevents.
#![cfg(feature = "test-utilities")]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use vcpu::fake::{FakeGuest, FakeVcpu, Step};
use vcpu::{Control, VcpuError, VcpuId, VcpuSet, VcpuState};

use crate::common::{blocking, eventually, in_guest, set_of, shortly, soon};

/// How far vCPU 0 has come.
fn rip(set: &VcpuSet<FakeVcpu>) -> u64 {
    set.run_on(VcpuId(0), soon(), |vcpu| vcpu.registers().rip)
        .unwrap()
}

/// cloud-hypervisor#7427, #7428, #7455, #7459, #816; firecracker#304, #1410: the kick that comes between the look at the flag and the
/// entry is lost. Every interleaving is in `tests/loom.rs`; here, the real threads, with no resend to paper over a loss.
#[test]
fn a_kick_before_the_entry_is_not_lost() {
    let (set, guests) = set_of(1);
    for _ in 0..20_000 {
        set.pause_all(soon()).unwrap().resume();
    }
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#7638: a pause that times out leaves the VM in between, and does not say whose fault it was.
#[test]
fn a_pause_that_fails_leaves_a_vm_that_runs_and_names_the_vcpu() {
    let (set, guests) = set_of(2);
    let release = blocking(&guests[1]);
    let error = set.pause_all(shortly()).unwrap_err();
    assert!(
        error.to_string().contains("vCPU 1 in its exit handler"),
        "{error}"
    );
    assert!(!set.is_paused());
    eventually("vCPU 0 runs on", || guests[0].is_in_guest());
    release.send(()).unwrap();
    // Neither the next pause nor the next resume is refused.
    set.pause_all(soon()).unwrap().resume();
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#7397; firecracker's stale replies after a timeout: the acknowledgement of an earlier pause is
/// taken for one of this.
#[test]
fn a_pause_right_after_a_resume_is_not_answered_by_the_last_acknowledgement() {
    let (set, guests) = set_of(2);
    for _ in 0..5_000 {
        let guard = set.pause_all(soon()).unwrap();
        assert!(guests.iter().all(|guest| !guest.is_in_guest()));
        guard.resume();
    }
    // Nor by one that comes late, after a pause that timed out.
    let release = blocking(&guests[0]);
    set.pause_all(shortly()).unwrap_err();
    release.send(()).unwrap();
    let guard = set.pause_all(soon()).unwrap();
    assert!(guests.iter().all(|guest| !guest.is_in_guest()));
    drop(guard);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#7990, #8092: the waiter holds the lock of the vCPUs' list, and an exit handler wants it.
#[test]
fn exit_handlers_may_use_the_set_while_it_is_being_paused() {
    let (set, guests) = set_of(2);
    let (entered, has_entered) = mpsc::channel();
    let inside = set.clone();
    guests[0].push(Step::access(move || {
        entered.send(()).unwrap();
        eventually("the pause is asked for", || inside.is_paused());
        // All that a device might ask for.
        inside.states();
        inside.get(VcpuId(1)).unwrap().notify();
        inside.get(VcpuId(1)).unwrap().queue_on(|_| ()).unwrap();
        inside.add(VcpuId(2), FakeVcpu::new()).unwrap();
        Control::Continue
    }));
    has_entered.recv().unwrap();
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(set.vcpus().len(), 3);
    drop(guard);
    set.shutdown(soon()).unwrap();
}

/// cyberus-technology/cloud-hypervisor#96: the exit of a reset write spins until the VMM is killed, so a pause never comes about.
#[test]
fn a_reset_write_posts_and_returns_and_the_pause_comes_about() {
    let (set, guests) = set_of(1);
    let posted = Arc::new(AtomicBool::new(false));
    let latch = Arc::clone(&posted);
    guests[0].push(Step::access(move || {
        latch.store(true, Ordering::Release);
        Control::Hold
    }));
    guests[0].push(Step::Instructions(1_000));
    eventually("posted", || posted.load(Ordering::Acquire));
    let guard = set.pause_all(soon()).unwrap();
    set.reset_all(soon()).unwrap();
    // No instruction ran between the write and the reset.
    assert_eq!(rip(&set), 0);
    drop(guard);
    eventually("it runs after the resume", || rip(&set) == 1_000);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#5419: under CPU hotplug, a flag of the vCPU before stays set, and signals go to the wrong thread.
#[test]
fn nothing_of_a_vcpu_survives_its_removal() {
    let (set, _guests) = set_of(1);
    let mut last = 0;
    for _ in 0..300 {
        let vcpu = FakeVcpu::new();
        let guest = vcpu.guest();
        let old = set.add(VcpuId(1), vcpu).unwrap();
        assert!(old.incarnation() > last);
        last = old.incarnation();
        set.pause_all(soon()).unwrap().resume();
        drop(set.remove(VcpuId(1), soon()).unwrap());
        let signals = guest.signals();
        // The old handle does nothing to anybody.
        old.notify();
        old.release_hold();
        assert!(matches!(old.queue_on(|_| ()), Err(VcpuError::Exited(_))));
        set.pause_all(soon()).unwrap().resume();
        assert_eq!(guest.signals(), signals);
    }
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#5611, #5211, #869, #229: pause returns while a vCPU still runs, or waits for one that has left its loop.
#[test]
fn a_vcpu_that_has_left_is_accounted_for_and_not_waited_for() {
    let (set, guests) = set_of(3);
    guests[0].push(Step::access(|| Control::Exited));
    guests[1].push(Step::Fail("entry failed".into()));
    eventually("one has exited, one failed", || {
        let states = set.states();
        states[0].1 == VcpuState::Exited && states[1].1 == VcpuState::Failed
    });
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(set.get(VcpuId(2)).unwrap().state(), VcpuState::Paused);
    drop(guard);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#7872, #7881, #1556: a barrier that counts participants which never come.
#[test]
fn participants_may_come_and_go_while_pauses_are_under_way() {
    let (set, _guests) = set_of(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                set.add(VcpuId(8), FakeVcpu::new()).unwrap();
                drop(set.remove(VcpuId(8), soon()).unwrap());
            }
        });
        for _ in 0..400 {
            set.pause_all(soon()).unwrap().resume();
        }
    });
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#7948: an operation that pauses internally deadlocks, or resumes, when the user has paused.
#[test]
fn an_internal_pause_of_a_paused_vm_is_free_and_does_not_resume_it() {
    let (set, guests) = set_of(2);
    let user = set.pause_all(soon()).unwrap();
    let entries: Vec<_> = guests.iter().map(FakeGuest::entries).collect();
    for _ in 0..100 {
        set.pause_all(soon()).unwrap().resume();
    }
    assert_eq!(
        entries,
        guests.iter().map(FakeGuest::entries).collect::<Vec<_>>()
    );
    drop(user);
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

/// firecracker#2570, #2571: the kick comes before the thread has set up what the signal handler needs, and crashes.
#[test]
fn a_kick_before_the_thread_has_started_is_harmless() {
    for _ in 0..300 {
        let set = VcpuSet::new(|_, _| {});
        let vcpu = set.add(VcpuId(0), FakeVcpu::new()).unwrap();
        vcpu.notify();
        set.pause_all(soon()).unwrap().resume();
        set.shutdown(soon()).unwrap();
    }
}

/// firecracker#1555, and its 100 ms and cloud-hypervisor's 1,000 ms: a constant deadline fails on a busy machine. Here the deadline is the
/// caller's, and may be none.
#[test]
fn the_deadline_is_the_callers() {
    let (set, guests) = set_of(1);
    let release = blocking(&guests[0]);
    let slow = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        release.send(()).unwrap();
    });
    set.pause_all(None).unwrap().resume();
    slow.join().unwrap();
    set.shutdown(None).unwrap();
}

/// propolis#559, #561: a vCPU that is about to enter the guest misses the poke of a restart.
#[test]
fn reset_while_the_vcpu_is_on_its_way_into_the_guest() {
    let (set, guests) = set_of(1);
    for _ in 0..1_000 {
        let guard = set.pause_all(soon()).unwrap();
        guard.resume();
        let guard = set.pause_all(soon()).unwrap();
        set.reset_all(soon()).unwrap();
        guard.resume();
    }
    in_guest(&guests);
    set.shutdown(soon()).unwrap();
}

/// propolis#578: a wait for a pause never ends because what is waited for was taken away.
#[test]
fn a_pause_completes_when_the_vcpu_ends_meanwhile() {
    let (set, guests) = set_of(1);
    let (entered, has_entered) = mpsc::channel();
    let inside = set.clone();
    guests[0].push(Step::access(move || {
        entered.send(()).unwrap();
        eventually("the pause is asked for", || inside.is_paused());
        Control::Exited
    }));
    has_entered.recv().unwrap();
    let guard = set.pause_all(soon()).unwrap();
    assert_eq!(set.get(VcpuId(0)).unwrap().state(), VcpuState::Exited);
    // A closure for it is refused, not kept for ever.
    assert!(matches!(
        set.run_on(VcpuId(0), None, |_| ()),
        Err(VcpuError::Exited(_))
    ));
    drop(guard);
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#6510: a resume of what was never paused. Here a resume is the end of a pause, and of that pause only.
#[test]
fn a_guard_resumes_only_what_it_paused() {
    let (set, _guests) = set_of(1);
    let first = set.pause_all(soon()).unwrap();
    let second = set.pause_all(soon()).unwrap();
    drop(first);
    assert!(set.is_paused());
    drop(second);
    assert!(!set.is_paused());
    set.shutdown(soon()).unwrap();
}

/// cloud-hypervisor#816, #817, #1064: shutting down a paused VM hangs.
#[test]
fn a_paused_vm_can_be_shut_down() {
    let (set, _guests) = set_of(3);
    let guard = set.pause_all(soon()).unwrap();
    set.shutdown(soon()).unwrap();
    drop(guard);
}

/// cloud-hypervisor#223: the threads of removed vCPUs stay.
#[test]
fn a_removed_vcpu_leaves_no_thread_and_gives_itself_back() {
    let (set, _guests) = set_of(1);
    let dropped = Arc::new(Mutex::new(0));
    for _ in 0..50 {
        set.add(VcpuId(3), FakeVcpu::new()).unwrap();
        let vcpu = set.remove(VcpuId(3), soon()).unwrap();
        *dropped.lock().unwrap() += u32::from(!vcpu.is_half_done());
    }
    assert_eq!(*dropped.lock().unwrap(), 50);
    // The kernel takes an ended thread out of the list a moment after its end was seen.
    eventually("no thread is left", || {
        let threads = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter(|task| {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                name.trim() == "vcpu3"
            });
        threads.count() == 0
    });
    set.shutdown(soon()).unwrap();
}
