//! A change that can be refused: everybody prepares, and one who cannot undoes it for all.
//!
//! `cargo run -p notifiers --example two_phase`

use std::cell::Cell;
use std::rc::Rc;

use notifiers::{Participant, TwoPhaseList};

/// Stopping the machine.
struct Stop;

struct Disk {
    name: &'static str,
    busy: Rc<Cell<bool>>,
}

impl Participant<Stop, String> for Disk {
    fn prepare(&self, _: &Stop) -> Result<(), String> {
        if self.busy.get() {
            return Err("a request is in flight".to_owned());
        }
        println!("  {}: no new requests", self.name);
        Ok(())
    }

    fn commit(&self, _: &Stop) {
        println!("  {}: stopped", self.name);
    }

    fn roll_back(&self, _: &Stop) {
        println!("  {}: takes requests again", self.name);
    }
}

fn main() {
    let disks = TwoPhaseList::new();
    let busy = Rc::new(Cell::new(true));
    let idle = Rc::new(Cell::new(false));
    disks
        .add(
            "vda",
            0,
            Disk {
                name: "vda",
                busy: Rc::clone(&idle),
            },
        )
        .detach();
    disks
        .add(
            "vdb",
            0,
            Disk {
                name: "vdb",
                busy: Rc::clone(&busy),
            },
        )
        .detach();

    for attempt in 1..=2 {
        println!("attempt {attempt}");
        match disks.run_up(&Stop) {
            Ok(()) => println!("  the machine is stopped"),
            Err(error) => println!("  not stopped: {error}"),
        }
        busy.set(false);
    }
}
