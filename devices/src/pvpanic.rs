//! `pvpanic` on the ISA bus: a guest kernel says that it has panicked, or wants to be shut down.
//!
//! | bit | written | read |
//! |---|---|---|
//! | 0 | the guest has panicked | the VMM handles that |
//! | 1 | the guest has panicked and starts its crash kernel | the VMM handles that |
//! | 2 | the guest asks to be shut down | the VMM handles that |
//!
//! With several bits written, the lowest counts alone. What is read is a hint for the guest and
//! filters nothing: a guest that is told less is believed anyway. The guest finds the device by ACPI
//! (`_HID` `QEMU0001`). There is no state.
//!
//! Behaviour: QEMU's `pvpanic` and its `docs/specs/pvpanic`; bit 2 since QEMU 9.1.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::counter::Counter;
use crate::{
    BusDevice, Error, Mapping, Pausable, PowerRequest, PowerSink, Resettable, SaveRestore,
};

/// Where QEMU has the device unless told otherwise.
pub const PORTS: [Mapping; 1] = [Mapping::new(0x505, 1)];

/// The guest has panicked.
pub const PANICKED: u8 = 0x01;
/// The guest has panicked and its crash kernel takes over.
pub const CRASHLOADED: u8 = 0x02;

/// The guest asks to be shut down.
pub const SHUTDOWN: u8 = 0x04;

/// What guests of QEMU have always been told that is handled: both kinds of panic.
pub const DEFAULT_EVENTS: u8 = PANICKED | CRASHLOADED;

/// The events that this device knows.
const KNOWN: u8 = PANICKED | CRASHLOADED | SHUTDOWN;

/// The device.
pub struct PvPanic {
    events: u8,
    power: Arc<dyn PowerSink>,
    ignored: Counter,
}

/// The state of a [`PvPanic`]: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State;

impl PvPanic {
    /// A device that posts to `power` and tells the guest that [`DEFAULT_EVENTS`] are handled.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self {
            events: DEFAULT_EVENTS,
            power,
            ignored: Counter::new(),
        }
    }

    /// A device that tells the guest that `events` are handled. A guest that looks asks for a
    /// shutdown only if [`SHUTDOWN`] is among them.
    ///
    /// # Errors
    ///
    /// [`Error::BadConfig`] if `events` has a bit besides [`PANICKED`], [`CRASHLOADED`] and
    /// [`SHUTDOWN`]: the guest would be promised what nobody does.
    pub fn with_events(events: u8, power: Arc<dyn PowerSink>) -> Result<Self, Error> {
        if events & !KNOWN != 0 {
            return Err(Error::BadConfig {
                device: "pvpanic",
                field: "events",
                found: u64::from(events),
                expected: "0 to 7 (bit 0: panicked, bit 1: crash loaded, bit 2: shutdown)",
            });
        }
        Ok(Self {
            events,
            power,
            ignored: Counter::new(),
        })
    }

    /// How many writes had a bit that means nothing.
    pub fn ignored(&self) -> u64 {
        self.ignored.get()
    }

    fn write_byte(&self, offset: u64, value: u8) {
        if offset != 0 {
            return;
        }
        if value & !KNOWN != 0 {
            self.ignored.count();
        }
        if value & PANICKED != 0 {
            self.power.power(PowerRequest::GuestPanicked);
        } else if value & CRASHLOADED != 0 {
            self.power.power(PowerRequest::GuestCrashloaded);
        } else if value & SHUTDOWN != 0 {
            self.power.power(PowerRequest::PvShutdown);
        }
    }
}

impl BusDevice for PvPanic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| if at == 0 { self.events } else { 0xff });
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for PvPanic {}

impl SaveRestore for PvPanic {
    type State = State;

    fn save(&self) -> State {
        State
    }

    fn restore(&self, _state: &State) -> Result<(), Error> {
        Ok(())
    }
}

impl Pausable for PvPanic {}

impl fmt::Debug for PvPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PvPanic")
            .field("events", &self.events)
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}
