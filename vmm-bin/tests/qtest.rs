//! The qtest protocol: a test client plays the guest of a machine that executes nothing. No KVM is
//! needed.

mod common;

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::time::Duration;

use common::qtest::{Client, Machine};
use common::{Directory, Qmp, Running, output, program, wait_for};
use serde_json::json;

/// The PM1 block: status, enable, control, timer.
const PM1_STS: u16 = 0x600;
const PM1_EN: u16 = 0x602;
const PM1_CNT: u16 = 0x604;
/// PM1_CNT: go to sleep.
const S3: u16 = 0x2400;
const S4: u16 = 0x2800;
const S5: u16 = 0x2000;

const SECOND: u64 = 1_000_000_000;

#[test]
fn every_request_has_its_answer() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    for (request, answer) in [
        ("endianness", "OK little"),
        // pvpanic has one port, and a wide access finds it in every byte.
        ("inb 0x505", "OK 0x0003"),
        ("inw 0x505", "OK 0x0303"),
        ("inl 1285", "OK 0x3030303"),
        ("inb 0x1234", "OK 0x00ff"),
        ("inl 0x1234", "OK 0xffffffff"),
        ("outl 0x1234 0xffffffffffffffff", "OK"),
        ("writeq 0x200000 0x1122334455667788", "OK"),
        ("readb 0x200001", "OK 0x0000000000000077"),
        ("readw 0x200001", "OK 0x0000000000006677"),
        ("readl 010000001", "OK 0x0000000044556677"),
        ("readq 0x200000", "OK 0x1122334455667788"),
        ("writew 0x200000 0xabcdef", "OK"),
        ("read 0x200000 4", "OK 0xefcd6655"),
        ("b64read 0x200000 4", "OK 781mVQ=="),
        ("write 0x200000 4 0x0102", "OK"),
        ("readl 0x200000", "OK 0x0000000000000201"),
        ("b64write 0x200000 3 /wAB", "OK"),
        ("read 0x200000 3", "OK 0xff0001"),
        ("memset 0x200000 8 0xaa", "OK"),
        ("memset 0x200008 0 0xbb", "OK"),
        ("readq 0x200004", "OK 0x44332211aaaaaaaa"),
        // Where nothing is, nothing is read; a stretch that ends there has its beginning.
        ("writel 0xd0000000 1", "OK"),
        ("readl 0xd0000000", "OK 0x0000000000000000"),
        ("writeq 0x3ffffc 0x0102030405060708", "OK"),
        ("readq 0x3ffffc", "OK 0x0000000005060708"),
        ("memset 0x3fffff 0x100000000000000 0xee", "OK"),
        ("readl 0x3ffffd", "OK 0x0000000000ee0607"),
        ("readq 0xffffffffffffffff", "OK 0x0000000000000000"),
        ("write 0xfffffffffffffffe 4 0x01020304", "OK"),
        // A counter that waits for its count: no timer is left.
        ("outb 0x43 0x30", "OK"),
        ("clock_step", "OK 0"),
        ("clock_step 100", "OK 100"),
        ("clock_set 50", "OK 100"),
        ("clock_set 0x400", "OK 1024"),
        ("irq_intercept_in nobody", "FAIL Unknown device"),
        ("irq_intercept_in serial", "FAIL No intercepts installed"),
        ("irq_intercept_out ioapic", "FAIL No intercepts installed"),
        ("irq_intercept_in ioapic", "OK"),
        ("irq_intercept_in /machine/q35/ioapic", "OK"),
        (
            "irq_intercept_in serial",
            "FAIL IRQ intercept already enabled",
        ),
        (
            "set_irq_in nobody unnamed-gpio-in 1 1",
            "FAIL Unknown device",
        ),
        ("set_irq_in ioapic other 1 1", "FAIL Unknown pin"),
        ("set_irq_in ioapic unnamed-gpio-in 24 1", "FAIL Unknown pin"),
        ("set_irq_in ioapic unnamed-gpio-in 23 1", "OK"),
        ("module_load accel- tcg", "FAIL there are no modules"),
        ("quit", "FAIL Unknown command 'quit'"),
        ("", "FAIL empty request"),
        ("inb", "FAIL inb: PORT is missing"),
    ] {
        if request == "readq 0x200004" {
            guest.tell("writel 0x200008 0x44332211");
        }
        assert_eq!(guest.ask(request), answer, "{request}");
    }
    assert_eq!(guest.pins(), [(23, true)]);
    machine.end();
}

#[test]
fn requests_come_in_pieces_and_in_heaps() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    guest.send(b"clo");
    std::thread::sleep(Duration::from_millis(20));
    guest.send(b"ck_step 1\nclock_step 1\nnonsense\nclock_st");
    assert_eq!(guest.answer(), "OK 1");
    assert_eq!(guest.answer(), "OK 2");
    assert_eq!(guest.answer(), "FAIL Unknown command 'nonsense'");
    guest.send(b"ep 1\n");
    assert_eq!(guest.answer(), "OK 3");
    // More than any buffer on the way holds, written without reading.
    let many = 5_000;
    let heap = "clock_step 1\n".repeat(many).into_bytes();
    let mut writer = guest.try_clone();
    std::thread::scope(|scope| {
        scope.spawn(move || writer.send(&heap));
        for count in 0..many {
            assert_eq!(guest.answer(), format!("OK {}", 4 + count));
        }
    });
    machine.end();
}

#[test]
fn a_request_without_an_end_is_refused_and_the_next_one_served() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    let block = vec![b'x'; 1 << 20];
    for _ in 0..40 {
        guest.send(&block);
    }
    guest.send(b"\n");
    assert_eq!(guest.answer(), "FAIL request is too long");
    assert_eq!(guest.ask("clock_step 1"), "OK 1");
    machine.end();
}

#[test]
fn large_blocks_go_both_ways() {
    let mut machine = Machine::start(&[]);
    let guest = &mut machine.guest;
    let data: String = (0..1 << 20)
        .map(|at: u32| format!("{:02x}", at % 251))
        .collect();
    guest.tell(&format!("write 0x200000 0x100000 0x{data}"));
    let read = guest.ask("read 0x200000 0x100000");
    assert!(
        read.strip_prefix("OK 0x") == Some(&data),
        "other bytes came back"
    );
    machine.end();
}

#[test]
fn a_client_that_goes_leaves_the_machine_as_it_is() {
    let directory = Directory::new();
    let mut child = Running::start(
        program()
            .args(["--accel", "qtest", "--serial", "none", "--rtc", "clock=vm"])
            .args([
                "--qtest",
                &(directory.option("unix", "qtest") + ",server=on"),
            ])
            .stderr(Stdio::null()),
    );
    let connect = || {
        let path = directory.path("qtest");
        Client::over(wait_for("socket", || UnixStream::connect(&path).ok()))
    };
    let mut first = connect();
    assert_eq!(first.step(5), 5);
    first.tell("writeb 0x200000 0x55");
    first.tell("irq_intercept_in ioapic");
    first.tell("set_irq_in ioapic unnamed-gpio-in 3 1");
    // It waits its turn, and it is not heard before.
    let mut second = connect();
    second.send(b"clock_step 1\n");
    assert_eq!(first.step(5), 10);
    drop(first);
    assert_eq!(second.answer(), "OK 11");
    assert_eq!(second.number("readb 0x200000"), 0x55);
    // The pins count as low, and are still watched.
    second.tell("set_irq_in ioapic unnamed-gpio-in 3 0");
    second.tell("set_irq_in ioapic unnamed-gpio-in 3 1");
    assert_eq!(second.pins(), [(3, true)]);
    // One that asks and never listens does not hinder the next.
    second.send("read 0 0x100000\n".repeat(3).as_bytes());
    drop(second);
    let mut third = connect();
    assert_eq!(third.step(1), 12);
    common::kill(child.id(), "TERM");
    let status = wait_for("end", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    third.closed();
}

/// Clients come to listen in any order, and late.
#[test]
fn the_machine_connects_in_either_order() {
    for late in ["qtest", "qmp"] {
        let directory = Directory::new();
        let early = if late == "qmp" { "qtest" } else { "qmp" };
        let listener = UnixListener::bind(directory.path(early)).unwrap();
        let child = Running::start(
            program()
                .args(["--accel", "qtest", "--serial", "none"])
                .args(["--qtest", &directory.option("unix", "qtest")])
                .args(["--qmp", &(directory.option("unix", "qmp") + ",server=off")])
                .stderr(Stdio::null()),
        );
        let first = listener.accept().unwrap().0;
        let listener = UnixListener::bind(directory.path(late)).unwrap();
        let second = listener.accept().unwrap().0;
        let (guest, monitor) = if late == "qmp" {
            (first, second)
        } else {
            (second, first)
        };
        assert_eq!(
            Client::over(guest.try_clone().unwrap()).ask("endianness"),
            "OK little"
        );
        assert_eq!(Qmp::over(monitor).status(), "running");
        // The client's end is not the machine's.
        guest.shutdown(Shutdown::Both).unwrap();
        drop(child);
    }
}

#[test]
fn a_wrong_combination_is_one_clear_line() {
    for (args, parts) in [
        (
            &["--qtest", "unix:/q"][..],
            &["--qtest is for", "add --accel qtest"][..],
        ),
        (
            &["--accel", "qtest", "--qtest", "stdio"],
            &["standard streams", "use unix:PATH"],
        ),
        (
            &["--accel", "qtest", "--qtest", "pipe:x"],
            &["--qtest pipe:x", "is not known"],
        ),
        (
            &["--accel", "tcg"],
            &["--accel tcg", "use kvm, kvm,fd=N or qtest"],
        ),
        (
            &["--rtc", "clock=rt"],
            &["--rtc clock=rt", "use host or vm"],
        ),
    ] {
        let run = output(args);
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{said}");
        for part in parts {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// The end is a signal, and it is a good one in every state.
#[test]
fn a_signal_ends_the_program_well_in_every_state() {
    let pause = &["--action", "panic=pause,shutdown=pause,watchdog=pause"][..];
    for (state, bring) in [
        ("running", (|_| ()) as fn(&mut Machine)),
        ("paused", |machine| drop(machine.qmp.execute("stop"))),
        ("prelaunch", |machine| {
            machine.qmp.execute("stop");
            machine.guest.outb(0xcf9, 6);
        }),
        ("guest-panicked", |machine| machine.guest.outb(0x505, 1)),
        ("shutdown", |machine| machine.guest.outw(PM1_CNT, S5)),
        ("suspended", |machine| machine.guest.outw(PM1_CNT, S3)),
        ("watchdog", |machine| {
            machine.guest.outb(0x443, 0xf);
            machine.guest.step(1);
        }),
    ] {
        let mut machine = Machine::start(pause);
        bring(&mut machine);
        assert_eq!(machine.qmp.status(), state);
        machine.end();
    }
}

/// Whoever has the answer finds the events sent and the state reached.
#[test]
fn an_answer_comes_when_all_that_was_asked_for_is_done() {
    let mut machine = Machine::start(&["--action", "panic=pause,shutdown=pause"]);
    for _ in 0..50 {
        machine.guest.outb(0x64, 0xfe);
        assert_eq!(machine.qmp.events_so_far(), ["RESET"]);
        machine.guest.outw(PM1_CNT, S3);
        assert_eq!(machine.qmp.events_so_far(), ["SUSPEND"]);
        machine.qmp.execute("system_wakeup");
        assert_eq!(machine.qmp.events_so_far(), ["WAKEUP"]);
        machine.guest.outb(0x505, 1);
        assert_eq!(machine.qmp.events_so_far(), ["GUEST_PANICKED", "STOP"]);
        machine.qmp.execute("cont");
        assert_eq!(machine.qmp.events_so_far(), ["RESUME"]);
        machine.guest.outw(PM1_CNT, S4);
        assert_eq!(
            machine.qmp.events_so_far(),
            ["SUSPEND_DISK", "SHUTDOWN", "STOP"]
        );
        machine.qmp.execute("system_reset");
        machine.qmp.execute("cont");
        assert_eq!(machine.qmp.events_so_far(), ["RESET", "RESUME"]);
    }
    machine.end();
}

/// The last answer comes even if the process ends.
#[test]
fn the_request_that_ends_the_program_is_answered() {
    let mut machine = Machine::start(&[]);
    machine.guest.tell("outb 0x501 0x10");
    assert_eq!(
        machine.qmp.event("SHUTDOWN"),
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    machine.guest.closed();
    assert_eq!(machine.wait().code, Some(33));
}

#[test]
fn a_timer_waits_for_the_machine_to_run() {
    let mut machine = Machine::start(&["--action", "watchdog=none"]);
    let Machine { guest, qmp, .. } = &mut machine;
    guest.stop_timer();
    // 30 - 2 * 14 seconds.
    guest.outb(0x443, 14);
    assert_eq!(guest.number("clock_step"), 2 * SECOND);
    assert_eq!(qmp.event("WATCHDOG"), json!({"action": "none"}));
    assert_eq!(
        guest.number("clock_step"),
        2 * SECOND,
        "there is no other timer"
    );

    machine.end();

    let mut machine = Machine::start(&["--action", "watchdog=none"]);
    let Machine { guest, qmp, .. } = &mut machine;
    guest.outb(0x443, 14);
    qmp.execute("stop");
    assert_eq!(qmp.events_so_far(), ["STOP"]);
    assert_eq!(guest.number("clock_step"), 0, "no timer goes off now");
    assert_eq!(guest.step(100 * SECOND), 100 * SECOND);
    assert_eq!(qmp.events_so_far(), [""; 0]);
    qmp.execute("cont");
    guest.tell("outb 0x80 0");
    assert_eq!(qmp.events_so_far(), ["RESUME", "WATCHDOG"]);
    machine.end();
}

#[test]
fn timers_go_off_in_the_order_of_time_within_one_step() {
    let mut machine = Machine::start(&["--rtc", "clock=vm,base=2026-01-01T00:00:00.5"]);
    let Machine { guest, .. } = &mut machine;
    guest.stop_timer();
    guest.tell("irq_intercept_in ioapic");
    // The ACPI timer's carry comes after 2^23 ticks, 2.34 s.
    guest.outw(PM1_STS, 1);
    guest.outw(PM1_EN, 1);
    guest.outw(PM1_CNT, 1);
    // The clock updates half a second from now.
    guest.outb(0x70, 0x0b);
    guest.outb(0x71, 0x12);
    assert_eq!(guest.number("clock_step"), SECOND / 2);
    guest.outb(0x70, 0x0c);
    assert_eq!(guest.inb(0x71) & 0x90, 0x90);
    assert_eq!(guest.pins(), [(8, true), (8, false)]);
    assert_eq!(guest.step(10 * SECOND), 10 * SECOND + SECOND / 2);
    assert_eq!(guest.pins(), [(8, true), (9, true)]);
    machine.end();
}

/// What a reset does to the pins is told before the reset's answer.
#[test]
fn the_pins_fall_with_a_reset() {
    let mut machine = Machine::start(&["--rtc", "clock=vm"]);
    let Machine { guest, qmp, .. } = &mut machine;
    guest.stop_timer();
    guest.tell("irq_intercept_in ioapic");
    guest.outb(0x70, 0x0b);
    guest.outb(0x71, 0x52);
    guest.number("clock_step");
    assert_eq!(guest.pins(), [(8, true)]);
    guest.outb(0xcf9, 6);
    assert_eq!(guest.pins(), [(8, false)]);
    assert_eq!(qmp.events_so_far(), ["RESET"]);
    machine.end();
}

#[test]
fn the_vcpus_are_there_and_execute_nothing() {
    let mut machine = Machine::start(&["--cpus", "3"]);
    let cpus = machine.qmp.execute("query-cpus-fast");
    let cpus = cpus.as_array().unwrap();
    assert_eq!(cpus.len(), 3);
    for (index, cpu) in cpus.iter().enumerate() {
        assert_eq!(cpu["cpu-index"], json!(index));
        assert!(cpu["thread-id"].as_u64().unwrap() > 0);
    }
    // The embedded guest's first instruction is where it was put; nobody runs it.
    for _ in 0..20 {
        machine.qmp.execute("stop");
        machine.qmp.execute("cont");
        machine.qmp.execute("inject-nmi");
        machine.qmp.execute("system_reset");
    }
    common::quiet(machine.child.id());
    machine.end();
}
