//! Sequences of operations, with callbacks that operate: under `qemu-7.2` the crate prints what the
//! reference prints, under `current` nothing aborts and STOP and RESUME alternate.
//!
//! The input is bytes; each takes a word from a list, so that every input is a scenario.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../examples/simulate/command.rs"]
mod command;
#[path = "../../tests/oracle/mod.rs"]
mod oracle;
#[path = "../../tests/reference/mod.rs"]
mod reference;
#[path = "../../examples/simulate/world.rs"]
mod world;

fuzz_target!(|data: &[u8]| {
    let scenario = oracle::scenario(data);
    assert_eq!(oracle::check(&scenario), Ok(()), "{scenario:#?}");
});
