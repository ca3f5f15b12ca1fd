//! The whole set, under schedules that loom cannot reach: more vCPUs, more cycles, several clients.
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release -p vcpu --features test-utilities --test shuttle --target-dir target/shuttle`
//!
//! Random schedules, and PCT: the latter finds what needs few but far-apart preemptions, livelocks among it.
#![cfg(all(shuttle, feature = "test-utilities"))]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

use shuttle::sync::{Arc, Mutex};
use shuttle::thread;
use vcpu::fake::{FakeVcpu, Step};
use vcpu::{Control, VcpuId, VcpuSet, VcpuState};

/// As many schedules of each kind, unless `SHUTTLE_SCHEDULES` says how many.
const SCHEDULES: usize = 10_000;

fn explore(f: impl Fn() + Send + Sync + Clone + 'static) {
    let asked = std::env::var("SHUTTLE_SCHEDULES");
    let schedules = asked.map_or(SCHEDULES, |text| text.parse().unwrap());
    shuttle::check_random(f.clone(), schedules);
    shuttle::check_pct(f, schedules, 3);
}

fn set_of(count: u32) -> VcpuSet<FakeVcpu> {
    let set = VcpuSet::new(|_, _| {});
    for id in 0..count {
        set.add(VcpuId(id), FakeVcpu::new()).unwrap();
    }
    set
}

#[test]
fn three_clients_pause_four_vcpus() {
    explore(|| {
        let set = set_of(4);
        let clients = [(); 3].map(|()| {
            let set = set.clone();
            thread::spawn(move || {
                for _ in 0..3 {
                    let guard = set.pause_all(None).unwrap();
                    let states = set.states();
                    assert!(states.iter().all(|(_, state)| *state == VcpuState::Paused));
                    guard.resume();
                }
            })
        });
        for client in clients {
            client.join().unwrap();
        }
        set.shutdown(None).unwrap();
    });
}

#[test]
fn work_holds_and_exclusive_sections_against_pauses() {
    explore(|| {
        let set = VcpuSet::new(|_, _| {});
        for id in 0..4 {
            let vcpu = FakeVcpu::new();
            let guest = vcpu.guest();
            guest.push(Step::access(move || match id {
                0 => Control::Hold,
                1 => Control::Halted,
                2 => Control::Exited,
                _ => Control::Continue,
            }));
            set.add(VcpuId(id), vcpu).unwrap();
        }
        let (pauser, worker, excluder) = (set.clone(), set.clone(), set.clone());
        let pauser = thread::spawn(move || {
            for _ in 0..2 {
                pauser.pause_all(None).unwrap().resume();
            }
        });
        let worker = thread::spawn(move || {
            for _ in 0..2 {
                worker
                    .run_on(VcpuId(3), None, |vcpu| vcpu.registers())
                    .unwrap();
                worker.run_on_all(None, |vcpu| assert!(!vcpu.is_half_done()));
            }
        });
        let excluder = thread::spawn(move || {
            for _ in 0..2 {
                excluder.exclusive(None, || ()).unwrap();
            }
        });
        for thread in [pauser, worker, excluder] {
            thread.join().unwrap();
        }
        set.shutdown(None).unwrap();
    });
}

#[test]
fn hot_add_and_remove_against_pauses() {
    explore(|| {
        let set = set_of(2);
        let (pauser, adder) = (set.clone(), set.clone());
        let pauser =
            thread::spawn(move || {
                for _ in 0..3 {
                    let guard = pauser.pause_all(None).unwrap();
                    let states = pauser.states();
                    assert!(states.iter().all(|(_, state)| {
                        matches!(state, VcpuState::Paused | VcpuState::Exited)
                    }));
                    drop(guard);
                }
            });
        let adder = thread::spawn(move || {
            for _ in 0..2 {
                adder.add(VcpuId(9), FakeVcpu::new()).unwrap();
                drop(adder.remove(VcpuId(9), None).unwrap());
            }
            drop(adder.remove(VcpuId(0), None).unwrap());
        });
        pauser.join().unwrap();
        adder.join().unwrap();
        set.shutdown(None).unwrap();
    });
}

#[test]
fn pauses_in_exit_handlers_against_a_clients() {
    explore(|| {
        let set = VcpuSet::new(|_, _| {});
        for id in 0..2 {
            let (vcpu, inside) = (FakeVcpu::new(), set.clone());
            vcpu.guest().push(Step::access(move || {
                inside.pause_all(None).unwrap().resume();
                Control::Continue
            }));
            set.add(VcpuId(id), vcpu).unwrap();
        }
        for _ in 0..2 {
            set.pause_all(None).unwrap().resume();
        }
        set.shutdown(None).unwrap();
    });
}

#[test]
fn a_device_lock_is_free_in_a_pause() {
    explore(|| {
        let set = VcpuSet::new(|_, _| {});
        let device = Arc::new(Mutex::new(0));
        for id in 0..3 {
            let vcpu = FakeVcpu::new();
            for _ in 0..2 {
                let device = Arc::clone(&device);
                vcpu.guest().push(Step::access(move || {
                    *device.lock().unwrap() += 1;
                    Control::Continue
                }));
            }
            set.add(VcpuId(id), vcpu).unwrap();
        }
        for _ in 0..3 {
            let guard = set.pause_all(None).unwrap();
            assert!(device.try_lock().is_ok(), "an access is under way");
            guard.resume();
        }
        set.shutdown(None).unwrap();
    });
}

#[test]
fn the_end_of_all_against_pauses() {
    explore(|| {
        let set = set_of(2);
        let vcpu = FakeVcpu::new();
        vcpu.guest().push(Step::access(|| Control::Exited));
        set.add(VcpuId(2), vcpu).unwrap();
        let pauser = set.clone();
        let pauser = thread::spawn(move || {
            for _ in 0..3 {
                pauser.pause_all(None).unwrap().resume();
            }
        });
        set.shutdown(None).unwrap();
        assert!(set.vcpus().is_empty());
        pauser.join().unwrap();
    });
}
