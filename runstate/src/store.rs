//! A state's name in a fixed field, as migration streams carry it.
//!
//! QEMU sends the name in the `globalstate` section: 100 bytes, filled up with NUL. Two forms are
//! offered. [`store`] writes the name alone: no NUL, since a length goes with it, and a format
//! that has its own terminator or padding adds that itself. [`store_with_nul`] adds the one NUL
//! that a C reader needs. [`restore`] reads either, and treats what it reads as hostile.

use core::fmt;

use crate::state::{State, UnknownState};

/// The buffer cannot hold the name. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BufferTooSmall {
    /// How many bytes were needed.
    pub needed: usize,
    /// How many bytes there were.
    pub capacity: usize,
}

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the name of the state needs {} bytes, the buffer has {}",
            self.needed, self.capacity
        )
    }
}

impl core::error::Error for BufferTooSmall {}

/// Copies the name of `state` to the front of `buffer`, without a NUL, and returns its length.
///
/// The rest of the buffer is left as it was. No name is empty or holds a NUL, so a reader that
/// is given the length, or a buffer that was zero and is longer than the name, can tell the end.
///
/// # Errors
///
/// [`BufferTooSmall`]; the buffer is untouched then. A name is never cut.
pub fn store<S: State>(state: S, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
    let name = state.name().as_bytes();
    let capacity = buffer.len();
    let field = buffer.get_mut(..name.len()).ok_or(BufferTooSmall {
        needed: name.len(),
        capacity,
    })?;
    field.copy_from_slice(name);
    Ok(name.len())
}

/// As [`store`], and one NUL after the name, which counts for the fit but not for the length
/// returned. This is the form of QEMU's `runstate_store`.
///
/// # Errors
///
/// [`BufferTooSmall`]; the buffer is untouched then.
pub fn store_with_nul<S: State>(state: S, buffer: &mut [u8]) -> Result<usize, BufferTooSmall> {
    let length = state.name().len();
    let needed = length.saturating_add(1);
    if buffer.len() < needed {
        return Err(BufferTooSmall {
            needed,
            capacity: buffer.len(),
        });
    }
    let length = store(state, buffer)?;
    if let Some(end) = buffer.get_mut(length) {
        *end = 0;
    }
    Ok(length)
}

/// The state whose name is in `field`, up to its first NUL or its end.
///
/// # Errors
///
/// [`UnknownState`] when that is no state's name; also when it is not UTF-8. Whether the state
/// may be *entered* is a question for the table.
pub fn restore<S: State>(field: &[u8]) -> Result<S, UnknownState<S>> {
    let name = field.split(|byte| *byte == 0).next().unwrap_or_default();
    core::str::from_utf8(name)
        .map_err(|_| UnknownState::NEW)
        .and_then(S::from_name)
}
