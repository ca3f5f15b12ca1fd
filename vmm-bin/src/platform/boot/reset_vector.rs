//! What is at the reset vector of a machine without firmware: code that resets the machine.
//!
//! A guest may jump there to reboot, as on a PC: Linux does, in real mode, with `reboot=b`, and when
//! it is told to reboot through EFI and there is none. With nothing there it would run through empty
//! memory for ever.

use crate::platform::error::Error;
use crate::platform::layout::{RESET_CONTROL, RESET_VECTOR};
use crate::platform::memory::Memory;

/// Real-mode code: bit 2 of the reset control register resets.
fn code() -> [u8; 9] {
    let [low, high] = RESET_CONTROL.to_le_bytes();
    [
        0xba, low, high, // mov $RESET_CONTROL, %dx
        0xb0, 0x06, // mov $6, %al
        0xee, // out %al, %dx
        0xf4, // 1: hlt
        0xeb, 0xfd, // jmp 1b
    ]
}

/// Puts it in memory.
///
/// # Errors
/// When the memory is not there.
pub(super) fn load(memory: &Memory) -> Result<(), Error> {
    memory.write(RESET_VECTOR, &code())
}
