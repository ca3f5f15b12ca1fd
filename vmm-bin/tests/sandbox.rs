//! Every thread of a running VM is confined, and nothing that a VM goes through breaks out of it.
//! (The other tests run confined as well: that is the default.)

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::{Directory, Vm, needs_kvm, output, wait_for};
use serde_json::json;

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
    ["sender", "trace", "vcpu0", "vcpu1", "vcpu2", "vmm-bin"]
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

/// A second signal ends the program from within its handler, which no other thread may do: one that
/// was interrupted instead would die of its filter.
#[test]
fn signals_that_end_the_program_interrupt_the_main_loop_alone() {
    needs_kvm!();
    // SIGHUP, SIGINT and SIGTERM.
    const ENDING: u64 = 1 << 0 | 1 << 1 | 1 << 14;
    let directory = Directory::new();
    let (trace, dumps) = (directory.path("trace"), directory.path(""));
    let [trace, dumps] = [&trace, &dumps].map(|path| path.to_str().unwrap());
    let vm = Vm::menu(&["--cpus", "2", "--trace", trace, "--dump-dir", dumps]);
    let blocked: Vec<_> = threads(vm.child.id(), "SigBlk")
        .into_iter()
        .map(|(name, mask)| (name, u64::from_str_radix(&mask, 16).unwrap() & ENDING))
        .collect();
    let expected = ["dump", "sender", "trace", "vcpu0", "vcpu1", "vmm-bin"]
        .map(|name| (name.to_owned(), if name == "vmm-bin" { 0 } else { ENDING }));
    assert_eq!(blocked, expected);
    vm.power_off();
}

#[test]
fn clients_learn_how_the_program_is_confined() {
    needs_kvm!();
    let asked = |args: &[&str]| {
        let vm = Vm::start(args);
        let mut qmp = vm.qmp();
        let confined = qmp.execute("x-query-sandbox");
        let schema = qmp.execute("query-qmp-schema").to_string();
        assert!(schema.contains("x-query-sandbox"), "{schema}");
        qmp.execute("quit");
        assert_eq!(vm.wait().code, Some(0), "{args:?}");
        confined
    };
    let nothing = json!({"abi": 0, "restricts": []});
    let off = asked(&["--landlock", "off", "--seccomp", "log"]);
    assert_eq!(off, json!({"seccomp": "log", "landlock": nothing}));
    let on = asked(&["--seccomp", "off"]);
    assert_eq!(on["seccomp"], "off");
    let restricts = on["landlock"]["restricts"].as_array().unwrap();
    let files = restricts.contains(&json!("files"));
    assert_eq!(files, on["landlock"]["abi"] != 0, "{on}");
    // Whether all of it is there, the kernel decides.
    if restricts.contains(&json!("signals")) {
        assert_eq!(asked(&["--seccomp", "off", "--landlock", "required"]), on);
    } else {
        let output = output(&["--serial", "none", "--landlock", "required"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("--landlock required: "), "{text}");
    }
}

#[test]
fn files_in_any_directory_are_taken_away_at_the_end() {
    needs_kvm!();
    let (there, elsewhere) = (Directory::new(), Directory::new());
    let pidfile = there.path("pid");
    let monitor = elsewhere.option("unix", "monitor");
    let gdb = there.option("unix", "gdb");
    let pidfile = pidfile.to_str().unwrap();
    let mut vm = Vm::menu(&["--pidfile", pidfile, "--monitor", &monitor, "--gdb", &gdb]);
    // One that somebody has replaced is no longer ours.
    std::fs::remove_file(elsewhere.path("monitor")).unwrap();
    std::fs::write(elsewhere.path("monitor"), "somebody else's").unwrap();
    vm.press("r", "guest> ");
    vm.keys("s");
    assert_eq!(vm.wait().code, Some(0));
    assert_eq!(there.names(), Vec::<String>::new());
    assert_eq!(elsewhere.names(), ["monitor"]);
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
