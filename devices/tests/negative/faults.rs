//! A fault of the VMM's own, in a line or a sink.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::{BusDevice, IrqLine, NoIrq, Output, OutputRing, PowerRequest, PowerSink};

/// Breaks, once.
#[derive(Default)]
struct Broken(AtomicBool);

impl Broken {
    fn trip(&self) {
        let first = !self.0.swap(true, Ordering::SeqCst);
        assert!(!first, "the VMM's fault");
    }
}

impl IrqLine for Broken {
    fn set(&self, _level: bool) {
        self.trip();
    }
}

impl PowerSink for Broken {
    fn power(&self, _request: PowerRequest) {
        self.trip();
    }
}

impl Output for Broken {
    fn write(&self, bytes: &[u8]) -> usize {
        self.trip();
        bytes.len()
    }
}

fn panics(act: impl FnOnce()) {
    catch_unwind(AssertUnwindSafe(act)).unwrap_err();
}

/// A panic in the VMM's own line or sink poisons no lock for the other vCPUs.
#[cfg(all(feature = "serial", feature = "i8042", feature = "port92"))]
#[test]
fn a_panic_in_the_vmm_leaves_the_device_usable() {
    let broken = || Arc::new(Broken::default());
    let read = |device: &dyn BusDevice, offset| {
        let mut data = [0];
        device.read(offset, &mut data);
        data[0]
    };

    let output = Arc::new(OutputRing::new(8));
    let port = devices::serial::Serial::new(broken(), output.clone());
    panics(|| port.write(1, &[2]));
    port.write(0, b"x");
    assert_eq!((output.len(), read(&port, 1)), (1, 2));

    let port = devices::serial::Serial::new(Arc::new(NoIrq), broken());
    panics(|| port.write(0, b"x"));
    port.write(0, b"y");
    assert_eq!(read(&port, 5), 0x60);

    let keyboard = devices::i8042::I8042::new(broken(), Arc::new(NoIrq), broken());
    panics(|| keyboard.write(4, &[0xaa]));
    assert_eq!((read(&keyboard, 4), read(&keyboard, 0)), (0x1d, 0x55));
    panics(|| keyboard.write(4, &[0xfe]));
    keyboard.write(4, &[0xfe]);

    let port = devices::port92::Port92::new(broken());
    panics(|| port.write(0, &[1]));
    assert_eq!(read(&port, 0), 1);
}
