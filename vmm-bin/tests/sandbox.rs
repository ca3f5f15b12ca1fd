//! Every thread of a running VM is confined, and nothing that a VM goes through breaks out of it.
//! (The other tests run confined as well: that is the default.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{Directory, Vm, needs_kvm, wait_for};

/// What the kernel calls a thread with a filter.
const FILTERED: &str = "2";

/// The name of each thread of `pid`, and what its status says under `field`.
fn threads(pid: u32, field: &str) -> Vec<(String, String)> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut threads: Vec<_> = std::fs::read_dir(tasks)
        .unwrap()
        .map(|task| {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let value = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap().trim_start_matches(':').trim().to_owned()
            };
            (value("Name"), value(field))
        })
        .collect();
    // Newer kernels have workers of KVM among the threads of its user.
    threads.retain(|(name, _)| !name.starts_with("kvm-"));
    threads.sort();
    threads
}

fn named(value: &str) -> Vec<(String, String)> {
    ["trace", "vcpu0", "vcpu1", "vcpu2", "vmm-bin"]
        .map(|name| (name.to_owned(), value.to_owned()))
        .to_vec()
}

#[test]
fn every_thread_is_filtered() {
    needs_kvm!();
    for (mode, expected) in [("on", FILTERED), ("log", FILTERED), ("off", "0")] {
        let directory = Directory::new();
        let trace = directory.path("trace");
        let trace = trace.to_str().unwrap();
        let mut vm = Vm::menu(&["--cpus", "3", "--seccomp", mode, "--trace", trace]);
        assert_eq!(
            threads(vm.child.id(), "Seccomp"),
            named(expected),
            "--seccomp {mode}"
        );
        assert_eq!(threads(vm.child.id(), "NoNewPrivs"), named("1"));
        vm.keys("s");
        assert_eq!(vm.wait().code, Some(0), "--seccomp {mode}");
    }
}

#[test]
fn a_vm_that_has_not_started_is_filtered_already() {
    needs_kvm!();
    let directory = Directory::new();
    let trace = directory.path("trace");
    let trace = trace.to_str().unwrap();
    let vm = Vm::start(&["-S", "--cpus", "3", "--seccomp", "on", "--trace", trace]);
    // The monitor answers from the main loop's first turn on.
    assert_eq!(vm.qmp().status(), "prelaunch");
    assert_eq!(threads(vm.child.id(), "Seccomp"), named(FILTERED));
    vm.signal("TERM");
    assert_eq!(vm.wait().code, Some(0));
}

#[test]
fn a_program_that_was_stopped_and_continued_goes_on() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--seccomp", "on"]);
    for _ in 0..3 {
        vm.signal("STOP");
        wait_for("end of all activity", || {
            let states = threads(vm.child.id(), "State");
            states
                .iter()
                .all(|(_, state)| state.starts_with('T'))
                .then_some(())
        });
        vm.signal("CONT");
        vm.press("r", "guest> ");
    }
    vm.power_off();
}
