//! What firmware reads from fw_cfg.

use devices::fw_cfg::{
    Blob, FwCfg, GuestMemory, Items, LONGEST_NAME, MOST_AT_ONCE, MOST_FILES, PORTS, item,
};
use devices::{BusBuilder, BusDevice, Error, ResetType, Resettable, SaveRestore};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

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

#[test]
fn on_a_bus_dma_has_its_ports() {
    let ram = Ram::new();
    let mut bus = BusBuilder::pio();
    let device = FwCfg::with_memory(Items::new(), ram.clone());
    bus.map("fw_cfg", &PORTS, Arc::new(device)).unwrap();
    let bus = bus.build();
    let mut signature = [0; 4];
    bus.read(0x514, &mut signature);
    assert_eq!(&signature, b"QEMU");
    assert!(ram.write(0x100, &[0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0x20, 0]));
    bus.write(0x518, &0x100_u32.to_be_bytes());
    assert!(ram.read(0x2000, &mut signature));
    assert_eq!(&signature, b"QEMU");
}

/// 64 KiB of memory from address 0 on.
struct Ram(Mutex<Vec<u8>>);

impl Ram {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(vec![0xaa; 0x1_0000])))
    }

    /// Makes a request, and says how it went.
    fn request(&self, device: &FwCfg, control: u32, length: u32, address: u64) -> u32 {
        let mut bytes = control.to_be_bytes().to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend(address.to_be_bytes());
        assert!(self.write(0x100, &bytes));
        device.write(4, &0_u32.to_be_bytes());
        device.write(8, &0x100_u32.to_be_bytes());
        let mut result = [0; 4];
        assert!(self.read(0x100, &mut result));
        u32::from_be_bytes(result)
    }
}

impl GuestMemory for Ram {
    fn read(&self, address: u64, data: &mut [u8]) -> bool {
        let memory = self.0.lock().unwrap();
        let from = usize::try_from(address).unwrap();
        let range = memory.get(from..from.saturating_add(data.len()));
        range.map(|range| data.copy_from_slice(range)).is_some()
    }

    fn write(&self, address: u64, data: &[u8]) -> bool {
        let mut memory = self.0.lock().unwrap();
        let from = usize::try_from(address).unwrap();
        let range = memory.get_mut(from..from.saturating_add(data.len()));
        range.map(|range| range.copy_from_slice(data)).is_some()
    }
}

#[test]
fn dma_moves_an_item_and_says_how_it_went() {
    let ram = Ram::new();
    let mut items = Items::new();
    items.set(item::KERNEL_DATA, Large);
    let device = FwCfg::with_memory(items, ram.clone());
    select(&device, item::ID);
    assert_eq!(bytes(&device, 1), [3]);
    let mut signature = [0; 8];
    device.read(4, &mut signature);
    assert_eq!(&signature, b"QEMU CFG");

    // Select, skip 10, read 5,000 in two steps; bytes go on behind them.
    let select_kernel = u32::from(item::KERNEL_DATA) << 16 | 8;
    assert_eq!(ram.request(&device, select_kernel | 4, 10, 0), 0);
    assert_eq!(ram.request(&device, 2, 4999, 0x1000), 0);
    assert_eq!(ram.request(&device, 2, 1, 0x1000 + 4999), 0);
    let mut read = vec![0; 5001];
    assert!(ram.read(0x1000, &mut read));
    assert!((0..5000).all(|at| read[at] == ((at + 10) % 251) as u8));
    assert_eq!(read[5000], 0xaa);
    assert_eq!(bytes(&device, 1), [(5010 % 251) as u8]);
    // Behind the end: zeroes.
    assert_eq!(ram.request(&device, select_kernel | 2, 10_002, 0x2000), 0);
    assert!(ram.read(0x2000 + 9999, &mut read[..3]));
    assert_eq!(read[..3], [(9999 % 251) as u8, 0, 0]);
    // In one write of 64 bits.
    let nothing = [0_u8; 16];
    assert!(ram.write(0x200, &nothing));
    device.write(4, &0x200_u64.to_be_bytes());
}

#[test]
fn dma_that_cannot_be_done_is_an_error() {
    let ram = Ram::new();
    let device = FwCfg::with_memory(Items::new(), ram.clone());
    assert_eq!(
        ram.request(&device, 16, 4, 0x1000),
        1,
        "no item can be written"
    );
    assert_eq!(
        ram.request(&device, 2, 4, 0xfffe),
        1,
        "half of it is no memory"
    );
    assert_eq!(ram.request(&device, 2, 4, u64::MAX), 1);
    assert_eq!(ram.request(&device, 2, MOST_AT_ONCE + 1, 0), 1);
    // A request that is nowhere.
    device.write(8, &0x2_0000_u32.to_be_bytes());
    // Without memory there is no such register.
    let device = FwCfg::new(Items::new());
    let mut data = [0; 4];
    device.read(4, &mut data);
    assert_eq!(data, [0xff; 4]);
    device.write(4, &[0; 8]);
    assert_eq!(bytes(&device, 1), *b"Q");
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
