//! Falling asleep and waking up.

use super::*;

/// Long enough for any real clock to have moved.
fn pass_time() {
    std::thread::sleep(Duration::from_millis(5));
}

#[test]
fn a_sleeping_guest_keeps_its_memory_and_its_time() {
    let Some(mut bench) = Bench::real_mode(SLEEP) else {
        return;
    };
    let deadline = || Instant::now().checked_add(PATIENCE);
    for round in 0_u8..20 {
        bench.resume();
        assert_eq!(bench.hear(), Heard::Power(PowerRequest::Suspend));
        bench.pause();
        assert_eq!(bench.said(), "B");
        let machine = &bench.machine;
        machine.memory.write(0x9000, &[round; 2]).unwrap();
        let vector = SLEEP_VECTOR.to_le_bytes();
        let at = machine.tables.waking_vector_at();
        machine.memory.write(at, &vector).unwrap();
        machine.suspend().unwrap();
        // Whoever starts its clock starts nothing.
        machine.start_clock().unwrap();
        let slept_at = machine.clock().now_ns();
        pass_time();
        assert_eq!(machine.clock().now_ns(), slept_at);

        machine.wake(deadline()).unwrap();
        pass_time();
        assert!(machine.clock().now_ns() > slept_at);
        bench.resume();
        bench.expect("W");
        bench.pause();
        let mut kept = [0; 2];
        bench.machine.memory.read(0x9000, &mut kept).unwrap();
        assert_eq!(kept, [round; 2]);
        bench.reset();
    }
}

#[test]
fn a_waking_vector_that_real_mode_cannot_reach_is_refused() {
    let Some(bench) = Bench::real_mode(SLEEP) else {
        return;
    };
    let machine = &bench.machine;
    let at = machine.tables.waking_vector_at();
    for vector in [0, 0x10_0000, 0x8000_0000, u32::MAX] {
        machine.memory.write(at, &vector.to_le_bytes()).unwrap();
        machine.suspend().unwrap();
        let error = machine
            .wake(Instant::now().checked_add(PATIENCE))
            .unwrap_err();
        assert!(
            matches!(error, Error::WakingVector { vector: found } if found == vector),
            "{error}"
        );
        let before = machine.clock().now_ns();
        pass_time();
        assert!(machine.clock().now_ns() > before, "its time stands still");
    }
}

/// Firmware is told to resume by a wakeup, and by nothing else: QEMU resumes a guest that was reset
/// while it slept, into memory that is gone.
#[test]
fn firmware_resumes_after_a_wakeup_and_boots_after_a_reset() {
    let mut image = FIRMWARE.to_vec();
    image.resize(0xf0, 0xf4);
    image.extend_from_slice(FIRMWARE_VECTOR);
    image.resize(0x100, 0xf4);
    let file = TempFile::new().unwrap();
    file.as_file().write_all(&image).unwrap();
    let Some(mut bench) = Bench::new(1, BootSource::Firmware(file.as_path().into())) else {
        return;
    };
    let mut woken = false;
    for wakes in [true, true, false, true, false] {
        bench.resume();
        assert_eq!(bench.hear(), Heard::Power(PowerRequest::Suspend));
        bench.pause();
        // 0xFE without its top bit, or 0.
        assert_eq!(bench.said(), if woken { "\x7e" } else { "\0" });
        bench.machine.suspend().unwrap();
        woken = wakes;
        if wakes {
            let deadline = Instant::now().checked_add(PATIENCE);
            bench.machine.wake(deadline).unwrap();
        } else {
            bench.reset();
        }
    }
}
