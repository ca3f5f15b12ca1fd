use super::*;
use crate::Error;
use crate::sync::Guarded;

/// Notes what it is asked and reads as its offsets.
#[derive(Debug)]
struct Probe {
    granularity: Granularity,
    seen: Guarded<Vec<(u64, Vec<u8>)>>,
}

impl Probe {
    fn new(granularity: Granularity) -> Arc<Self> {
        Arc::new(Self {
            granularity,
            seen: Guarded::default(),
        })
    }

    fn take(&self) -> Vec<(u64, Vec<u8>)> {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl BusDevice for Probe {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| at.to_le_bytes()[0]);
        self.seen.lock().push((offset, vec![0; data.len()]));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.seen.lock().push((offset, data.to_vec()));
    }

    fn granularity(&self) -> Granularity {
        self.granularity
    }
}

fn read(bus: &Bus, address: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0xaa; len];
    bus.read(address, &mut data);
    data
}

#[test]
fn a_byte_device_gets_bytes_in_ascending_order() {
    let device = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map("probe", &[Mapping::new(0x70, 4)], device.clone())
        .unwrap();
    let bus = builder.build();
    bus.write(0x70, &[1, 2, 3, 4]);
    assert_eq!(
        device.take(),
        [(0, vec![1]), (1, vec![2]), (2, vec![3]), (3, vec![4])]
    );
    assert_eq!(read(&bus, 0x71, 2), [1, 2]);
    assert_eq!(device.take().len(), 2);
}

#[test]
fn a_whole_device_gets_the_access_as_made_even_past_its_end() {
    let device = Probe::new(Granularity::Whole);
    let after = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map("whole", &[Mapping::new(0x501, 2)], device.clone())
        .unwrap();
    builder
        .map("after", &[Mapping::new(0x503, 2)], after.clone())
        .unwrap();
    let bus = builder.build();
    bus.write(0x501, &[1, 2, 3, 4]);
    assert_eq!(device.take(), [(0, vec![1, 2, 3, 4])]);
    assert_eq!(after.take(), []);
}

#[test]
fn bytes_past_a_byte_device_are_decoded_anew() {
    let (first, second) = (Probe::new(Granularity::Byte), Probe::new(Granularity::Byte));
    let mut builder = BusBuilder::pio();
    builder
        .map("first", &[Mapping::new(0x10, 1)], first.clone())
        .unwrap();
    builder
        .map(
            "second",
            &[Mapping::new(0x11, 1).at_offset(7)],
            second.clone(),
        )
        .unwrap();
    let bus = builder.build();
    bus.write(0x10, &[1, 2, 3, 4]);
    assert_eq!(first.take(), [(0, vec![1])]);
    assert_eq!(second.take(), [(7, vec![2])]);
    assert_eq!(
        bus.unclaimed(),
        Unclaimed {
            reads: 0,
            writes: 1
        }
    );
    assert_eq!(read(&bus, 0x10, 4), [0, 7, 0xff, 0xff]);
}

#[test]
fn an_unclaimed_start_makes_the_whole_access_unclaimed() {
    let device = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map("cf9", &[Mapping::new(0xcf9, 1)], device.clone())
        .unwrap();
    let bus = builder.build();
    // What a guest does that looks for PCI.
    bus.write(0xcf8, &[0xff; 4]);
    assert_eq!(read(&bus, 0xcf8, 4), [0xff; 4]);
    assert_eq!(device.take(), []);
    assert_eq!(
        bus.unclaimed(),
        Unclaimed {
            reads: 1,
            writes: 1
        }
    );
}

#[test]
fn an_overlay_wins_for_accesses_that_start_in_it() {
    let (pci, cf9) = (
        Probe::new(Granularity::Whole),
        Probe::new(Granularity::Byte),
    );
    let mut builder = BusBuilder::pio();
    builder
        .map("pci", &[Mapping::new(0xcf8, 8)], pci.clone())
        .unwrap();
    builder
        .overlay("cf9", &[Mapping::new(0xcf9, 1)], cf9.clone())
        .unwrap();
    let bus = builder.build();
    bus.write(0xcf8, &[1, 2, 3, 4]);
    bus.write(0xcf9, &[6]);
    bus.write(0xcfa, &[7]);
    assert_eq!(pci.take(), [(0, vec![1, 2, 3, 4]), (2, vec![7])]);
    assert_eq!(cf9.take(), [(0, vec![6])]);
}

#[test]
fn the_edges_of_the_address_space() {
    let device = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map("last", &[Mapping::new(0xffff, 1)], device.clone())
        .unwrap();
    builder
        .map("first", &[Mapping::new(0, 1)], device.clone())
        .unwrap();
    let bus = builder.build();
    bus.write(0xffff, &[1, 2]);
    assert_eq!(device.take(), [(0, vec![1]), (0, vec![2])]);

    let mut builder = BusBuilder::mmio();
    builder
        .map("all", &[Mapping::new(0, u64::MAX)], device.clone())
        .unwrap();
    builder
        .map("last", &[Mapping::new(u64::MAX, 1)], device.clone())
        .unwrap();
    let bus = builder.build();
    bus.write(u64::MAX, &[1, 2]);
    assert_eq!(device.take(), [(0, vec![1]), (0, vec![2])]);
    bus.write(u64::MAX - 1, &[1]);
    assert_eq!(device.take(), [(u64::MAX - 1, vec![1])]);
}

#[test]
fn overlap_is_refused_and_leaves_the_builder_as_it_was() {
    let device = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map("serial", &[Mapping::new(0x3f8, 8)], device.clone())
        .unwrap();
    for base in [0x3f1, 0x3f8, 0x3ff] {
        let wanted = [Mapping::new(0x100, 1), Mapping::new(base, 8)];
        let error = builder.map("other", &wanted, device.clone()).unwrap_err();
        assert!(
            matches!(&error, Error::Overlap { other, .. } if other == "serial"),
            "{error}"
        );
    }
    let twice = [Mapping::new(0x100, 2), Mapping::new(0x101, 1)];
    builder.map("twice", &twice, device.clone()).unwrap_err();
    builder
        .map("before", &[Mapping::new(0x3f0, 8)], device.clone())
        .unwrap();
    builder
        .map("after", &[Mapping::new(0x400, 8)], device)
        .unwrap();
    let names: Vec<_> = builder
        .build()
        .mappings()
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(names, ["before", "serial", "after"]);
}

#[test]
fn a_bus_is_changed_by_building_another() {
    let device = Probe::new(Granularity::Byte);
    let mut builder = BusBuilder::pio();
    builder
        .map(
            "a",
            &[Mapping::new(1, 1), Mapping::new(5, 1)],
            device.clone(),
        )
        .unwrap();
    builder
        .map("b", &[Mapping::new(3, 1)], device.clone())
        .unwrap();
    let old = builder.build();
    let mut builder = old.to_builder();
    assert_eq!(builder.unmap("a"), 2);
    assert_eq!(builder.unmap("a"), 0);
    let new = builder.build();
    new.write(1, &[0]);
    assert_eq!((device.take().len(), new.unclaimed().writes), (0, 1));
    old.write(1, &[0]);
    assert_eq!((device.take().len(), old.unclaimed().writes), (1, 0));
}

#[test]
fn an_empty_access_is_nothing() {
    let bus = BusBuilder::mmio().build();
    bus.write(0, &[]);
    bus.read(0, &mut []);
    assert_eq!(bus.unclaimed(), Unclaimed::default());
}

#[test]
fn a_device_may_use_the_bus_from_inside_an_access() {
    struct Chained(Guarded<Option<Arc<Bus>>>);
    impl BusDevice for Chained {
        fn read(&self, _offset: u64, data: &mut [u8]) {
            let bus = self.0.lock().clone();
            bus.unwrap().read(0x20, data);
        }
        fn write(&self, _offset: u64, _data: &[u8]) {}
    }
    let chained = Arc::new(Chained(Guarded::default()));
    let mut builder = BusBuilder::pio();
    builder
        .map("chained", &[Mapping::new(0x10, 1)], chained.clone())
        .unwrap();
    builder
        .map(
            "leaf",
            &[Mapping::new(0x20, 1)],
            Probe::new(Granularity::Byte),
        )
        .unwrap();
    let bus = Arc::new(builder.build());
    *chained.0.lock() = Some(Arc::clone(&bus));
    assert_eq!(read(&bus, 0x10, 1), [0]);
}
