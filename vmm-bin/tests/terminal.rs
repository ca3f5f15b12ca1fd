//! On a terminal: the keys that end the program, and the terminal as it was before, whatever ends
//! it.

mod common;

use std::os::unix::process::ExitStatusExt;

use common::{OnTerminal, kill, needs_kvm, wait_for};

#[test]
fn ctrl_a_x_ends_the_program() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&["--exit-codes", "cause"], "guest> ");
    assert!(vm.is_raw());
    vm.keys(b"\x01x");
    let (status, screen) = vm.wait();
    assert_eq!(status.code(), Some(85), "{screen}");
    assert!(screen.contains("SHUTDOWN: the machine is shut down, cause: host-ui"));
}

#[test]
fn ctrl_a_x_ends_a_guest_that_spins_and_one_that_is_kept() {
    needs_kvm!();
    for keys in [b"b", b"d", b"s"] {
        let mut vm = OnTerminal::start(&["--no-shutdown"], "guest> ");
        vm.keys(keys);
        vm.keys(b"\x01x");
        assert_eq!(vm.wait().0.code(), Some(0));
    }
}

#[test]
fn ctrl_a_h_helps_and_ctrl_a_ctrl_a_is_for_the_guest() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&[], "guest> ");
    vm.keys(b"\x01h");
    wait_for("help", || {
        vm.screen.text().contains("Ctrl-A Ctrl-A").then_some(())
    });
    vm.keys(b"\x01\x01");
    wait_for("answer", || {
        vm.screen.text().contains("no such key").then_some(())
    });
    vm.keys(b"\x01qs");
    assert_eq!(vm.wait().0.code(), Some(0));
}

/// The guest takes the break's zero byte for a key.
#[test]
fn ctrl_a_b_is_a_break() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&[], "guest> ");
    vm.keys(b"\x01b");
    wait_for("answer", || {
        vm.screen.text().contains("no such key").then_some(())
    });
    vm.keys(b"s");
    assert_eq!(vm.wait().0.code(), Some(0));
}

#[test]
fn ctrl_c_ends_the_embedded_guest() {
    needs_kvm!();
    for keys in [&b"\x03"[..], b"b\x03"] {
        let mut vm = OnTerminal::start(&[], "guest> ");
        vm.keys(keys);
        let (status, screen) = vm.wait();
        assert_eq!(status.code(), Some(0));
        assert!(screen.contains("terminating on signal 2"), "{screen}");
    }
}

#[test]
fn a_guest_that_ends_by_itself_gives_the_terminal_back() {
    needs_kvm!();
    let mut vm = OnTerminal::start(&[], "guest> ");
    vm.keys(b"e2");
    assert_eq!(vm.wait().0.code(), Some(5));
}

#[test]
fn signals_give_the_terminal_back() {
    needs_kvm!();
    for signals in [&["TERM"][..], &["HUP"], &["TERM", "TERM", "TERM"]] {
        let vm = OnTerminal::start(&[], "guest> ");
        assert!(vm.is_raw());
        let pid = vm.program();
        for signal in signals {
            kill(pid, signal);
        }
        let (status, _) = vm.wait();
        assert!(
            matches!(status.code(), Some(0 | 143)),
            "{status} {:?}",
            status.signal()
        );
    }
}

#[test]
fn a_start_that_fails_does_not_touch_the_terminal() {
    needs_kvm!();
    let vm = OnTerminal::start(&["--memory", "4K"], "vmm-bin: ");
    assert_eq!(vm.wait().0.code(), Some(2));
}
