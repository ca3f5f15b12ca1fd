//! What every device can do besides its registers: be saved, restored, paused and resumed.

use std::fmt;

use crate::Error;

/// State that can be taken out of a device and put into another.
pub trait SaveRestore {
    /// The guest-visible state, as plain data.
    type State: Clone + PartialEq + fmt::Debug;

    /// The state as it is now.
    fn save(&self) -> Self::State;

    /// Takes over a state, and drives the interrupt lines as it says.
    ///
    /// # Errors
    ///
    /// [`Error::BadState`] if the state could not have come from `save`. The device is then
    /// unchanged.
    fn restore(&self, state: &Self::State) -> Result<(), Error>;
}

/// A device that can stop working and go on.
///
/// A device that acts only in register accesses, ticks and input has nothing to stop: no vCPU runs
/// and the clock stands still while a VM is paused. The defaults are for it. A device with a worker
/// of its own implements both.
pub trait Pausable {
    /// Stops. When it returns, the device touches neither guest memory nor an interrupt line until
    /// `resume`. Work that was accepted is kept, not dropped. Pausing twice is the same as
    /// once.
    fn pause(&self) {}

    /// Goes on, with the work that was kept. Without a pause before it, nothing happens.
    fn resume(&self) {}
}
