//! The I/O APIC; step by step it is held to a model in the property tests.

use std::sync::{Arc, Mutex};

use devices::ioapic::{Interrupt, InterruptSink, IoApic};
use devices::{BusDevice, ResetType, Resettable};

#[derive(Default)]
struct Inbox(Mutex<Vec<Interrupt>>);

impl InterruptSink for Inbox {
    fn interrupt(&self, interrupt: Interrupt) {
        self.0.lock().unwrap().push(interrupt);
    }
}

fn rig() -> (Arc<Inbox>, IoApic) {
    let inbox = Arc::new(Inbox::default());
    (inbox.clone(), IoApic::new(inbox))
}

fn vectors(inbox: &Inbox) -> Vec<u8> {
    let sent = std::mem::take(&mut *inbox.0.lock().unwrap());
    sent.iter().map(|interrupt| interrupt.vector).collect()
}

fn get(device: &IoApic, index: u8) -> u32 {
    let mut data = [0; 4];
    device.write(0, &[index]);
    device.read(0x10, &mut data);
    u32::from_le_bytes(data)
}

fn set(device: &IoApic, index: u8, value: u32) {
    device.write(0, &[index]);
    device.write(0x10, &value.to_le_bytes());
}

#[test]
fn an_entry_says_what_is_sent_and_where() {
    let (inbox, device) = rig();
    set(&device, 0x17, 0x5a00_0000);
    set(&device, 0x16, 0x0000_0931);
    device.set(3, true);
    let sent = inbox.0.lock().unwrap().clone();
    let expected = Interrupt {
        vector: 0x31,
        delivery: 1,
        destination: 0x5a,
        logical: true,
        level: false,
    };
    assert_eq!(sent, [expected]);
}

#[test]
fn a_masked_edge_is_lost_and_a_masked_level_waits() {
    for (modes, late) in [(0x0001_0042, vec![]), (0x0001_8042, vec![0x42])] {
        let (inbox, device) = rig();
        set(&device, 0x10, modes);
        device.set(0, true);
        assert_eq!(vectors(&inbox), []);
        set(&device, 0x10, modes & !0x0001_0000);
        assert_eq!(vectors(&inbox), late);
    }
}

#[test]
fn a_level_is_sent_again_only_after_its_end() {
    let (inbox, device) = rig();
    set(&device, 0x10, 0x8042);
    device.set(0, true);
    device.set(0, false);
    device.set(0, true);
    set(&device, 0x10, 0x8042);
    assert_eq!(vectors(&inbox), [0x42]);
    device.end(0x43);
    assert_eq!(vectors(&inbox), []);
    device.end(0x42);
    assert_eq!(vectors(&inbox), [0x42]);
    device.set(0, false);
    device.write(0x40, &[0x42, 0, 0, 0]);
    assert_eq!(vectors(&inbox), []);
    assert_eq!(get(&device, 0x10), 0x8042);
}

#[test]
fn what_a_guest_cannot_write_stays() {
    let (_, device) = rig();
    set(&device, 0, u32::MAX);
    set(&device, 1, u32::MAX);
    set(&device, 0x10, u32::MAX);
    set(&device, 0x11, u32::MAX);
    set(&device, 0x40, u32::MAX);
    let read = [0, 1, 2, 3, 0x10, 0x11, 0x40, 0xff].map(|index| get(&device, index));
    let expected = [
        0x0f00_0000,
        0x0017_0020,
        0x0f00_0000,
        0,
        0x1_afff,
        0xff00_0000,
        0,
        0,
    ];
    assert_eq!(read, expected);
}

#[test]
fn only_whole_accesses_reach_the_data_window() {
    let (_, device) = rig();
    device.write(0, &[0x10]);
    for width in [1, 2, 3] {
        device.write(0x10, &[0; 8][..width]);
        let mut data = [0xaa; 8];
        device.read(0x10, &mut data[..width]);
        assert_eq!(data[..width], [0; 8][..width]);
    }
    assert_eq!(get(&device, 0x10), 0x0001_0000);
    // A wide one is two of four bytes, and nothing is behind the window.
    let mut data = [0xaa; 8];
    device.read(0x10, &mut data);
    assert_eq!(data, [0, 0, 1, 0, 0, 0, 0, 0]);
}

#[test]
fn a_reset_masks_all_and_keeps_the_levels_of_the_pins() {
    let (inbox, device) = rig();
    set(&device, 0x10, 0x8042);
    device.set(0, true);
    device.reset(ResetType::Cold);
    assert_eq!(get(&device, 0x10), 0x0001_0000);
    vectors(&inbox);
    set(&device, 0x10, 0x8042);
    assert_eq!(vectors(&inbox), [0x42]);
}
