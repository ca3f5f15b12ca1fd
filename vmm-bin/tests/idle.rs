//! A VM that has nothing to do does nothing, also after it was stopped and continued many times: its threads are not woken.

mod common;

use std::time::Duration;

use common::{Vm, needs_kvm, quiet, switches};

#[test]
fn a_guest_that_halts_costs_nothing_after_a_hundred_stops() {
    needs_kvm!();
    let mut vm = Vm::menu(&["--cpus", "2"]);
    let mut qmp = vm.qmp();
    vm.press("d", "halted, interrupts off");
    for _ in 0..100 {
        qmp.execute("stop");
        qmp.execute("cont");
    }
    let pid = vm.child.id();
    quiet(pid);
    let before = switches(pid);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(pid), before, "it runs on and on");
    // Nor does one that is stopped.
    qmp.execute("stop");
    quiet(pid);
    let before = switches(pid);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(switches(pid), before, "stopped, and something runs");
    qmp.execute("cont");
    qmp.execute("system_reset");
    vm.hear("guest> ");
    vm.power_off();
}
