//! What firmware reads from fw_cfg.

use devices::fw_cfg::{Blob, FwCfg, Items, LONGEST_NAME, MOST_FILES, PORTS, item};
use devices::{BusBuilder, BusDevice, Error, ResetType, Resettable, SaveRestore};
use proptest::prelude::*;
use std::sync::Arc;

fn select(device: &FwCfg, number: u16) {
    device.write(0, &number.to_le_bytes());
}

fn bytes(device: &FwCfg, count: usize) -> Vec<u8> {
    let mut data = [0];
    let mut all = Vec::new();
    for _ in 0..count {
        device.read(1, &mut data);
        all.push(data[0]);
    }
    all
}

#[test]
fn it_says_who_it_is_from_the_start() {
    let device = FwCfg::new(Items::new());
    assert_eq!(bytes(&device, 6), b"QEMU\0\0");
    select(&device, item::ID);
    assert_eq!(bytes(&device, 5), [1, 0, 0, 0, 0]);
}

#[test]
fn a_selection_begins_at_the_first_byte() {
    let mut items = Items::new();
    items.set(item::NB_CPUS, vec![2, 0]);
    let device = FwCfg::new(items);
    select(&device, item::NB_CPUS);
    assert_eq!(bytes(&device, 1), [2]);
    // The guest asks to write: it may read.
    select(&device, item::NB_CPUS | 0x4000);
    assert_eq!(bytes(&device, 4), [2, 0, 0, 0]);
    select(&device, 0x1234);
    assert_eq!(bytes(&device, 2), [0, 0]);
}

#[test]
fn files_stand_in_the_directory() {
    let mut items = Items::new();
    items.add_file("etc/z", vec![7; 300]).unwrap();
    items.add_file("etc/a", b"first".to_vec()).unwrap();
    let device = FwCfg::new(items);
    select(&device, item::FILE_DIR);
    let directory = bytes(&device, 4 + 2 * 64);
    assert_eq!(directory[..4], [0, 0, 0, 2]);
    let (first, second) = directory[4..].split_at(64);
    assert_eq!(first[..8], [0, 0, 0, 5, 0, 0x21, 0, 0]);
    assert_eq!(first[8..14], *b"etc/a\0");
    assert_eq!(second[..8], [0, 0, 1, 44, 0, 0x20, 0, 0]);
    assert!(second[13..].iter().all(|byte| *byte == 0));
    select(&device, 0x21);
    assert_eq!(bytes(&device, 6), b"first\0");
}

#[test]
fn files_that_cannot_be_are_refused() {
    let mut items = Items::new();
    let refused = |items: &mut Items, name: &str| {
        let error = items.add_file(name, vec![]).unwrap_err();
        assert!(matches!(error, Error::BadConfig { .. }));
        error.to_string()
    };
    assert!(refused(&mut items, "").contains("1 to 55"));
    assert!(refused(&mut items, &"x".repeat(LONGEST_NAME + 1)).contains("0x38"));
    assert!(refused(&mut items, "a\0b").contains("NUL"));
    items.add_file(&"x".repeat(LONGEST_NAME), vec![]).unwrap();
    assert!(refused(&mut items, &"x".repeat(LONGEST_NAME)).contains("of this name"));
    for number in 1..MOST_FILES {
        items.add_file(&number.to_string(), vec![]).unwrap();
    }
    assert!(refused(&mut items, "one more").contains("number of files"));
}

/// A blob too large to be kept, whose bytes say where they are.
struct Large;

impl Blob for Large {
    fn size(&self) -> u32 {
        10_000
    }

    fn read(&self, offset: u32, data: &mut [u8]) {
        assert!(offset as usize + data.len() <= 10_000);
        for (at, byte) in (offset..).zip(data) {
            *byte = (at % 251) as u8;
        }
    }
}

#[test]
fn a_large_item_is_read_to_its_end() {
    let mut items = Items::new();
    items.set(item::KERNEL_DATA, Large);
    let device = FwCfg::new(items);
    select(&device, item::KERNEL_DATA);
    let read = bytes(&device, 10_002);
    assert!((0..10_000).all(|at| read[at] == (at % 251) as u8));
    assert_eq!(read[10_000..], [0, 0]);
    // In the middle of it, saved and restored elsewhere.
    select(&device, item::KERNEL_DATA);
    bytes(&device, 5000);
    let mut items = Items::new();
    items.set(item::KERNEL_DATA, Large);
    let other = FwCfg::new(items);
    other.restore(&device.save()).unwrap();
    assert_eq!(bytes(&other, 2), [(5000 % 251) as u8, (5001 % 251) as u8]);
    device.enter(ResetType::Cold);
    assert_eq!(bytes(&device, 4), b"QEMU");
}

#[test]
fn on_a_bus_the_selector_arrives_whole() {
    let mut items = Items::new();
    items.set(item::RAM_SIZE, vec![1, 2, 3, 4]);
    let mut bus = BusBuilder::pio();
    bus.map("fw_cfg", &PORTS, Arc::new(FwCfg::new(items)))
        .unwrap();
    let bus = bus.build();
    bus.write(0x510, &item::RAM_SIZE.to_le_bytes());
    let mut data = [0; 2];
    bus.read(0x511, &mut data);
    assert_eq!(data, [1, 0xff]);
    bus.read(0x510, &mut data);
    assert_eq!(data, [0xff, 2]);
    // Neither of these selects.
    bus.write(0x510, &[0]);
    bus.write(0x511, &[0, 0]);
    bus.read(0x511, &mut data[..1]);
    assert_eq!(data[0], 3);
}

proptest! {
    /// Whatever the guest does, it reads what a slice would have given it.
    #[test]
    fn it_reads_as_a_slice_does(
        content in prop::collection::vec(any::<u8>(), 0..64),
        steps in prop::collection::vec((any::<bool>(), 0_u16..0x40, 0_usize..80), 0..20),
    ) {
        let mut items = Items::new();
        items.add_file("file", content.clone()).unwrap();
        let device = FwCfg::new(items);
        for (file, other, count) in steps {
            let number = if file { item::FILE_FIRST } else { other };
            select(&device, number);
            let read = bytes(&device, count);
            if number == item::FILE_FIRST {
                let padded = content.iter().copied().chain(std::iter::repeat(0));
                prop_assert_eq!(read, padded.take(count).collect::<Vec<_>>());
            }
        }
    }
}
