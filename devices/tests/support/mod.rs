//! What several of the test programs have in common.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use devices::BusDevice;

/// A hang fails the test instead of stopping the run.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// Runs `act`, which must come to an end.
pub(crate) fn within_reason(act: impl FnOnce() + Send + 'static) {
    let (done, waits) = channel();
    let worker = thread::spawn(move || {
        act();
        done.send(()).unwrap();
    });
    if waits.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
        panic!("still not done after {HANG:?}");
    }
    worker.join().unwrap();
}

/// One byte read at `offset`.
pub(crate) fn inb(device: &impl BusDevice, offset: u64) -> u8 {
    let mut data = [0xaa];
    device.read(offset, &mut data);
    data[0]
}

/// One byte written at `offset`.
pub(crate) fn outb(device: &impl BusDevice, offset: u64, value: u8) {
    device.write(offset, &[value]);
}
