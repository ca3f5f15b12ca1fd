//! A flat firmware image: it ends at 4 GiB, where the reset vector is, and its last 256 KiB also
//! end at 1 MiB. Real-mode code expects the last 64 KiB there (segment F); SeaBIOS is linked to run
//! from all of its 128 or 256 KiB (segments C to F) and cannot move them down itself without a PCI
//! host bridge.
//!
//! The high copy is read-only to the guest where KVM can do that. The low one is RAM, as on a PC
//! with its BIOS shadowed: firmware keeps variables there.

use super::Entry;
use super::file::ImageFile;
use crate::platform::error::Error;
use crate::platform::layout::{HIGH_RAM, HOLE_END, KVM_IDENTITY_MAP, KVM_RESERVED_SIZE};
use crate::platform::memory::Memory;

/// What of it is copied below 1 MiB.
const LOW_COPY: u64 = 0x4_0000;
/// The reset vector's distance from the end.
const LEAST: u64 = 16;
/// What lies between KVM's own pages and 4 GiB: 16 MiB.
const MOST: u64 = HOLE_END - KVM_IDENTITY_MAP - KVM_RESERVED_SIZE;

/// Whether a file can be firmware.
///
/// # Errors
/// When it is too small or too large.
pub(super) fn check(image: &ImageFile) -> Result<(), Error> {
    let size = image.size();
    if (LEAST..=MOST).contains(&size) {
        return Ok(());
    }
    Err(Error::Firmware {
        path: image.path().to_path_buf(),
        reason: format!("{size} bytes; a firmware image has {LEAST} to {MOST}"),
    })
}

/// Where the low copy begins.
pub(super) fn low_copy(image: &ImageFile) -> u64 {
    HIGH_RAM.saturating_sub(image.size().min(LOW_COPY))
}

/// Puts both copies in memory.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn load(image: &mut ImageFile, memory: &Memory) -> Result<Entry, Error> {
    let size = image.size();
    image.load(0, size, memory, HOLE_END.saturating_sub(size))?;
    let low = size.min(LOW_COPY);
    let address = low_copy(image);
    image.load(size.saturating_sub(low), low, memory, address)?;
    Ok(Entry::ResetVector)
}
