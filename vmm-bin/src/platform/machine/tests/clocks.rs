//! The guest's clocks, while the machine stands and when it is reset.

use super::*;

#[test]
fn a_reset_while_time_stands_resets_the_interval_timer() {
    let Some(mut bench) = Bench::real_mode(WAIT_FOR_NMI) else {
        return;
    };
    let fresh = bench.kvm().fresh_pit();
    bench.resume();
    bench.expect("r");
    let mut pit = bench.kvm().vm().fd().get_pit2().unwrap();
    (pit.channels[0].mode, pit.channels[0].count) = (2, 1193);
    bench.kvm().vm().fd().set_pit2(&pit).unwrap();
    bench.pause();
    bench.reset();
    bench.resume();
    let pit = bench.kvm().vm().fd().get_pit2().unwrap();
    assert_eq!(pit.channels[0].mode, fresh.channels[0].mode);
    assert_eq!(pit.channels[0].count, fresh.channels[0].count);
}

#[test]
fn a_counter_that_a_reset_began_again_is_not_put_back_further() {
    let Some(mut bench) = Bench::real_mode(WAIT_FOR_NMI) else {
        return;
    };
    bench.resume();
    bench.expect("r");
    bench.pause();
    std::thread::sleep(Duration::from_millis(50));
    let before = sys::host_tsc();
    bench.reset();
    let lag = bench.kvm().clock().start().unwrap().unwrap();
    assert!(lag.cycles() <= sys::host_tsc() - before, "{lag:?}");
}

/// A vCPU's time-stamp counter, as the guest reads it.
fn tsc(bench: &Bench) -> u64 {
    let deadline = Instant::now().checked_add(PATIENCE);
    let read = |vcpu: &mut Vcpu| {
        let entry = kvm_bindings::kvm_msr_entry {
            index: 0x10,
            ..Default::default()
        };
        let mut msrs = kvm_bindings::Msrs::from_entries(&[entry]).unwrap();
        vcpu.kvm().unwrap().fd().get_msrs(&mut msrs).unwrap();
        msrs.as_slice()[0].data
    };
    bench
        .machine
        .vcpus()
        .run_on(VcpuId(0), deadline, read)
        .unwrap()
}

/// Whether a vCPU's counter is the platform's to move: a software KVM accepts that and lets the
/// guest read the host's, and on a host with unreliable counters KVM moves it itself. Moves it ahead
/// by a minute and back.
fn tsc_moves(bench: &Bench) -> bool {
    const MINUTE: u64 = 60 * 5_000_000_000;
    let shift = |by: u64| {
        let deadline = Instant::now().checked_add(PATIENCE);
        let shift = move |vcpu: &mut Vcpu| {
            let offset = sys::tsc_offset(vcpu.kvm().unwrap().fd())?;
            let steady = sys::tsc_offset(vcpu.kvm().unwrap().fd())? == offset;
            sys::set_tsc_offset(vcpu.kvm().unwrap().fd(), offset.wrapping_add(by)).map(|()| steady)
        };
        bench
            .machine
            .vcpus()
            .run_on(VcpuId(0), deadline, shift)
            .unwrap()
            .unwrap_or(false)
    };
    let before = tsc(bench);
    let moved = shift(MINUTE) && tsc(bench) - before >= MINUTE;
    shift(MINUTE.wrapping_neg());
    moved
}

#[test]
fn the_guests_clocks_stand_while_the_machine_does() {
    let Some(mut bench) = Bench::real_mode(WAIT_FOR_NMI) else {
        return;
    };
    bench.resume();
    bench.expect("r");
    bench.pause();
    let tsc_moves = tsc_moves(&bench);
    let stopped = bench.kvm().vm().fd().get_clock().unwrap().clock;
    // The counter stops with `stop_clock`: what passed since belongs to the stop.
    let tsc_stopped = tsc(&bench);
    std::thread::sleep(Duration::from_millis(300));
    let (started, host_tsc) = (Instant::now(), sys::host_tsc());
    bench.resume();
    let went_on = bench.kvm().vm().fd().get_clock().unwrap().clock;
    let bound = u64::try_from(started.elapsed().as_nanos()).unwrap();
    // A host that is told the time lets the one of these clocks run up to half a thousandth faster than the other.
    let bound = bound + bound / 1_000;
    assert!(
        went_on.saturating_sub(stopped) <= bound,
        "{stopped} to {went_on}, {bound} allowed"
    );
    if tsc_moves {
        let (went_on, bound) = (tsc(&bench), sys::host_tsc() - host_tsc);
        let passed = went_on.saturating_sub(tsc_stopped);
        assert!(
            passed <= bound,
            "{tsc_stopped} to {went_on}, {bound} allowed"
        );
    } else {
        eprintln!("skipped: this KVM does not let a time-stamp counter be moved");
    }
}
