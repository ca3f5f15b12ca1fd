//! A set of fake vCPUs, and waiting for what they do.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use vcpu::fake::{FakeGuest, FakeVcpu, Step};
use vcpu::{Control, VcpuId, VcpuSet};

/// Long enough for all that comes about.
pub(crate) fn soon() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_secs(20))
}

/// For what does not come about.
pub(crate) fn shortly() -> Option<Instant> {
    Instant::now().checked_add(Duration::from_millis(50))
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = soon();
    while !holds() {
        assert!(Some(Instant::now()) < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// A set of so many vCPUs, numbered from 0, and their guests.
pub(crate) fn set_of(count: u32) -> (VcpuSet<FakeVcpu>, Vec<FakeGuest>) {
    let set = VcpuSet::new(|_, _| {});
    let guests = add_to(&set, count);
    (set, guests)
}

pub(crate) fn add_to(set: &VcpuSet<FakeVcpu>, count: u32) -> Vec<FakeGuest> {
    let add = |id| {
        let vcpu = FakeVcpu::new();
        let guest = vcpu.guest();
        set.add(VcpuId(id), vcpu).unwrap();
        guest
    };
    (0..count).map(add).collect()
}

pub(crate) fn in_guest(guests: &[FakeGuest]) {
    eventually("all in the guest", || {
        guests.iter().all(FakeGuest::is_in_guest)
    });
}

/// Brings a vCPU into an exit handler that does not return until told.
pub(crate) fn blocking(guest: &FakeGuest) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel();
    let (entered, has_entered) = mpsc::channel();
    guest.push(Step::access(move || {
        entered.send(()).unwrap();
        released.recv().ok();
        Control::Continue
    }));
    has_entered.recv().unwrap();
    release
}
