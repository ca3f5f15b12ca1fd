//! A monitor with states and a table of its own.
//!
//! `cargo run -p runstate --example foreign_states`

use std::error::Error;

use runstate::{Change, StateCell, TransitionTable, transition};

runstate::states! {
    /// What a microVM is doing.
    pub enum MicroVm {
        /// Configured, not started yet.
        NotStarted = "not-started",
        /// vCPUs may execute.
        Running = "running",
        /// vCPUs are parked.
        Paused = "paused",
        /// The guest is gone for good.
        Stopped = "stopped",
    }
}

/// The one table of this monitor.
const TABLE: TransitionTable<MicroVm> = runstate::transitions! { MicroVm {
    NotStarted => Running, Stopped;
    Running => Paused, Stopped;
    Paused => Running, Stopped;
} };

// What must be true of the table is checked when it is compiled.
const _: () = assert!(TABLE.reaches_all(MicroVm::NotStarted as usize));
const _: () = assert!(TABLE.is_reached_by_all(MicroVm::Stopped as usize));

fn main() -> Result<(), Box<dyn Error>> {
    let cell = StateCell::new(MicroVm::NotStarted);

    // A transition that the source spells out is checked at compile time.
    cell.apply(transition!(TABLE, MicroVm::NotStarted => MicroVm::Running))?;

    // One that a client asks for is checked when it is asked for.
    for request in [
        "paused",
        "paused",
        "not-started",
        "running",
        "stopped",
        "running",
    ] {
        let to = request.parse()?;
        match cell.set(to, &TABLE) {
            Ok(Change::Moved) => println!("{request}: done"),
            Ok(Change::Unchanged) => println!("{request}: it is so already"),
            Err(error) => {
                let legal: Vec<_> = TABLE.successors(error.from).map(MicroVm::as_str).collect();
                println!("{request}: {error}; from here: [{}]", legal.join(", "));
            }
        }
    }
    Ok(())
}
