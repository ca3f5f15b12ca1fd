//! A device of one's own, held to its contract: a counter that a guest can start, and that counts
//! what it is told.
//!
//! `cargo run -p devices --example own_device` runs the checks by hand; `cargo test -p devices
//! --example own_device` runs the tests that the macro makes.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use devices::bus::{read_bytes, write_bytes};
use devices::conformance::{self, Failure, Fixture};
use devices::{BusDevice, Error, Pausable, ResetType, Resettable, SaveRestore};

/// Register 0 starts and stops it; register 1 reads the count.
#[derive(Debug, Default)]
struct Counter {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct State {
    running: bool,
    count: u8,
    /// Events that came while the device was paused.
    kept: u8,
    paused: bool,
}

impl Counter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something from outside happened.
    fn event(&self) {
        let mut state = self.state();
        if state.paused {
            state.kept = state.kept.saturating_add(1);
        } else if state.running {
            state.count = state.count.wrapping_add(1);
        }
    }
}

impl BusDevice for Counter {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = *self.state();
        read_bytes(offset, data, |at| match at {
            0 => u8::from(state.running),
            1 => state.count,
            _ => 0xff,
        });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| {
            if at == 0 {
                self.state().running = value & 1 != 0;
            }
        });
    }
}

impl Resettable for Counter {
    fn enter(&self, _kind: ResetType) {
        let mut state = self.state();
        *state = State {
            paused: state.paused,
            ..State::default()
        };
    }
}

impl SaveRestore for Counter {
    type State = State;

    fn save(&self) -> State {
        *self.state()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        *self.state() = *state;
        Ok(())
    }
}

impl Pausable for Counter {
    fn pause(&self) {
        self.state().paused = true;
    }

    fn resume(&self) {
        let kept = {
            let mut state = self.state();
            state.paused = false;
            std::mem::take(&mut state.kept)
        };
        for _ in 0..kept {
            self.event();
        }
    }
}

struct Bench(Counter);

impl Fixture for Bench {
    type Device = Counter;

    fn fresh() -> Self {
        Self(Counter::default())
    }

    fn device(&self) -> &Counter {
        &self.0
    }

    fn window(&self) -> u64 {
        2
    }

    fn disturb(&self) {
        self.0.write(0, &[1]);
        self.0.event();
    }

    fn begin_work(&self) {
        self.0.write(0, &[1]);
        self.0.event();
    }

    fn finish_work(&self) -> Vec<u64> {
        let mut count = [0];
        self.0.read(1, &mut count);
        vec![u64::from(count[0])]
    }
}

devices::conformance!(counter, Bench);

type Check = fn() -> Result<(), Failure>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let checks: [(&str, Check); 5] = [
        (
            "reset equals fresh",
            conformance::reset_equals_fresh::<Bench>,
        ),
        (
            "reset while paused",
            conformance::reset_while_paused::<Bench>,
        ),
        (
            "save and restore round-trip",
            conformance::save_restore_round_trips::<Bench>,
        ),
        (
            "pause and resume keep work",
            conformance::pause_keeps_work::<Bench>,
        ),
        (
            "hostile accesses are harmless",
            conformance::hostile_access_is_harmless::<Bench>,
        ),
    ];
    let mut out = std::io::stdout();
    for (name, check) in checks {
        check()?;
        writeln!(out, "ok: {name}")?;
    }
    Ok(())
}
