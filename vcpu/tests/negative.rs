//! What must be refused, and how it is said.
#![cfg(feature = "test-utilities")]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use std::sync::mpsc;
use std::time::{Duration, Instant};

use vcpu::fake::{FakeVcpu, Step};
use vcpu::protocol::ControlWord;
use vcpu::{Control, VcpuError, VcpuId, VcpuSet, VcpuState};

fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(20))
}

fn one() -> VcpuSet<FakeVcpu> {
    let set = VcpuSet::new(|_, _| {});
    set.add(VcpuId(0), FakeVcpu::new()).unwrap();
    set
}

fn says(error: &VcpuError, wanted: &str) {
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn an_unknown_vcpu() {
    let set = one();
    says(
        &set.run_on(VcpuId(5), soon(), |_| ()).unwrap_err(),
        "there is no vCPU 5",
    );
    says(
        &set.remove(VcpuId(5), soon()).unwrap_err(),
        "there is no vCPU 5",
    );
    assert!(set.get(VcpuId(5)).is_none());
    set.shutdown(soon()).unwrap();
}

#[test]
fn the_same_number_twice() {
    let set = one();
    let error = set.add(VcpuId(0), FakeVcpu::new()).unwrap_err();
    says(&error, "vCPU 0 exists already: remove it first");
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_reset_of_running_vcpus() {
    let set = one();
    says(
        &set.reset_all(soon()).unwrap_err(),
        "the vCPUs are not paused",
    );
    set.shutdown(soon()).unwrap();
}

#[test]
fn a_vcpu_cannot_wait_for_itself() {
    let set = VcpuSet::new(|_, _| {});
    let vcpu = FakeVcpu::new();
    let (guest, inside) = (vcpu.guest(), set.clone());
    let (send, errors) = mpsc::channel();
    guest.push(Step::access(move || {
        let own = VcpuId(0);
        send.send(inside.run_on(own, None, |_| ()).unwrap_err())
            .unwrap();
        send.send(inside.remove(own, None).unwrap_err()).unwrap();
        send.send(inside.shutdown(None).unwrap_err()).unwrap();
        let all = inside.run_on_all(None, |_| ());
        send.send(
            all.into_iter()
                .find_map(|(_, outcome)| outcome.err())
                .unwrap(),
        )
        .unwrap();
        Control::Continue
    }));
    set.add(VcpuId(0), vcpu).unwrap();
    for _ in 0..4 {
        let error = errors.recv().unwrap();
        says(
            &error,
            "called on the thread of vCPU 0, which would wait for itself",
        );
    }
    set.shutdown(soon()).unwrap();
}

#[test]
fn pauses_without_end_are_refused_and_counted_right() {
    let set = one();
    let guards: Vec<_> = (0..4095).map(|_| set.pause_all(soon()).unwrap()).collect();
    assert!(matches!(
        set.pause_all(soon()),
        Err(VcpuError::TooManyPauses)
    ));
    assert_eq!(set.vcpus()[0].word().stops(), 4095);
    // A vCPU that is added now is born with all of them.
    let late = set.add(VcpuId(1), FakeVcpu::new()).unwrap();
    assert_eq!(late.word().stops(), 4095);
    assert!(matches!(late.pause(soon()), Err(VcpuError::TooManyPauses)));
    drop(guards);
    assert_eq!(late.word().stops(), 0);
    // Pauses of one vCPU alone count too, and where there is no room for it, a pause of all is no pause of some.
    let alone: Vec<_> = (0..4095).map(|_| late.pause(soon()).unwrap()).collect();
    assert!(matches!(
        set.pause_all(soon()),
        Err(VcpuError::TooManyPauses)
    ));
    assert!(!set.is_paused());
    assert_eq!(set.vcpus()[0].word().stops(), 0);
    drop(alone);
    set.pause_all(soon()).unwrap().resume();
    set.shutdown(soon()).unwrap();
}

#[test]
fn work_without_end_is_refused() {
    let set = VcpuSet::new(|_, _| {});
    let vcpu = FakeVcpu::new();
    let (release, released) = mpsc::channel::<()>();
    let (entered, has_entered) = mpsc::channel();
    vcpu.guest().push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().ok();
        Control::Continue
    }));
    let thread = set.add(VcpuId(0), vcpu).unwrap();
    has_entered.recv().unwrap();
    for _ in 0..1024 {
        thread
            .queue_on(|vcpu| vcpu.registers_mut().rax += 1)
            .unwrap();
    }
    let error = thread.queue_on(|_| ()).unwrap_err();
    says(&error, "1024 closures are waiting for vCPU 0 already");
    drop(release);
    eventually_empty(&set);
    assert_eq!(
        thread.run_on(soon(), |vcpu| vcpu.registers().rax).unwrap(),
        1024
    );
    set.shutdown(soon()).unwrap();
}

fn eventually_empty(set: &VcpuSet<FakeVcpu>) {
    while matches!(
        set.run_on(VcpuId(0), soon(), |_| ()),
        Err(VcpuError::QueueFull(_))
    ) {
        std::thread::yield_now();
    }
}

#[test]
fn a_panicking_closure_is_the_callers_trouble_or_the_vcpus() {
    let set = one();
    let error = set
        .run_on(VcpuId(0), soon(), |_| panic!("no"))
        .map(|(): ()| ())
        .unwrap_err();
    says(&error, "on vCPU 0: the closure panicked: no");
    let vcpu = set.get(VcpuId(0)).unwrap();
    assert_eq!(vcpu.state(), VcpuState::Running);
    // Nobody waits for a queued one: the vCPU fails, and the next closure finds it alive.
    vcpu.queue_on(|_| panic!("never")).unwrap();
    vcpu.run_on(soon(), |_| ()).unwrap();
    assert_eq!(vcpu.state(), VcpuState::Failed);
    assert_eq!(
        vcpu.failure().unwrap().message,
        "queued work panicked: never"
    );
    set.shutdown(soon()).unwrap();
}

#[test]
fn releases_without_a_request_change_nothing_that_matters() {
    let word = ControlWord::new(0, false);
    word.release_stop();
    word.cancel_stop();
    assert_eq!(word.load().stops(), 0);
    word.recover();
    word.release_exclusive();
    assert!(word.try_enter().is_ok());
    assert_eq!(word.load().state(), VcpuState::Running);
}
