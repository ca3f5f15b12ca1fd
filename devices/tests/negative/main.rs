//! What must be refused, and how it is said; and what must survive somebody else's fault.

#![allow(
    clippy::allow_attributes,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    unused_imports,
    unused_macros,
    reason = "a test fails by panicking; and which of these fire depends on the features, so none can be expected"
)]

mod chips;
mod faults;
mod states;

use std::sync::Arc;

use devices::{BusBuilder, BusDevice, Mapping, ResetTree, ResetType};

struct Nothing;

impl BusDevice for Nothing {
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }
    fn write(&self, _offset: u64, _data: &[u8]) {}
}

#[test]
fn a_bus_says_what_is_wrong_with_a_mapping() {
    let mut bus = BusBuilder::pio();
    bus.map("com1", &[Mapping::new(0x3f8, 8)], Arc::new(Nothing))
        .unwrap();
    for (mapping, message) in [
        (
            Mapping::new(0x60, 0),
            "new: the range at 0x60 is empty; it must cover at least 1 byte",
        ),
        (
            Mapping::new(0xffff, 2),
            "new: 2 bytes at 0xffff pass the bus's last address, 0xffff",
        ),
        (
            Mapping::new(u64::MAX, 2),
            "new: 2 bytes at 0xffffffffffffffff pass the bus's last address, 0xffff",
        ),
        (
            Mapping::new(0x3ff, 2),
            "new: 0x3ff-0x400 overlaps 0x3f8-0x3ff, which belongs to com1",
        ),
    ] {
        let error = bus.map("new", &[mapping], Arc::new(Nothing)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let mut bus = BusBuilder::mmio();
    bus.map("top", &[Mapping::new(u64::MAX, 1)], Arc::new(Nothing))
        .unwrap();
    bus.map("over", &[Mapping::new(u64::MAX - 1, 3)], Arc::new(Nothing))
        .unwrap_err();
}

#[test]
fn a_reset_tree_says_what_is_wrong() {
    let tree = ResetTree::new();
    let bus = tree.add_group(tree.root(), "bus").unwrap();
    let leaf = tree.add_group(bus, "leaf").unwrap();
    let messages = [
        tree.release(bus, ResetType::Cold),
        tree.change_parent(bus, leaf, ResetType::Cold),
        tree.remove(tree.root()),
    ]
    .map(|result| result.unwrap_err().to_string());
    assert!(
        messages[0].contains("bus: is not held in reset"),
        "{}",
        messages[0]
    );
    assert!(
        messages[1].contains("bus: cannot be moved below leaf"),
        "{}",
        messages[1]
    );
    assert!(messages[2].contains("no node"), "{}", messages[2]);
}
