//! `fw_cfg`: how the VMM tells its firmware what machine this is, and hands it what to boot.
//!
//! ```text
//!   0x510, 16-bit write: select an item ──▶ 0x511, 8-bit reads: its bytes, one after the other
//! ```
//!
//! | access | what it does |
//! |---|---|
//! | 16-bit write to 0x510 | selects an item (little-endian), from its first byte on |
//! | read of 0x511 | the item's next byte; past its end, or without an item, 0 |
//! | 32-bit write to 0x514 | the upper half of a request's address (big-endian) |
//! | 32-bit write to 0x518 | its lower half, which starts it; a 64-bit write to 0x514 is both |
//! | 32- or 64-bit read of 0x514 | "QEMU CFG" |
//! | anything else | a write does nothing, a read gives all ones |
//!
//! An item has a number. Some numbers are fixed ([`item`]); what has a name, a file, gets one from
//! [`item::FILE_FIRST`] on and stands in the directory, [`item::FILE_DIR`].
//!
//! A request for DMA is 16 bytes in the guest's memory, big-endian: control, length, address. It selects an
//! item (bit 3, the number in bits 16 to 31), reads (bit 1) or skips (bit 2) bytes of it. Then control is 0,
//! or 1 if it could not be done: to write an item, to touch what is no memory, or more than
//! [`MOST_AT_ONCE`] bytes. Without access to memory ([`FwCfg::with_memory`]) there is no DMA, and
//! [`item::ID`] says so: firmware then reads bytes, with REP INS.
//!
//! The rule that must never be broken: **the guest changes nothing but which byte comes next, and its own
//! memory.**
//!
//! Behaviour: QEMU, docs/specs/fw_cfg.

mod items;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::sync::Guarded;
use crate::{BusDevice, Error, Granularity, Mapping, Pausable, ResetType, Resettable, SaveRestore};

pub use items::{Blob, Items, LONGEST_NAME, MOST_FILES, item};

/// Where firmware looks for it.
pub const PORTS: [Mapping; 2] = [
    Mapping::new(0x510, 2),
    Mapping::new(0x514, 8).at_offset(DMA),
];
/// The most bytes that one request of DMA moves: a request holds its vCPU up until it is done.
pub const MOST_AT_ONCE: u32 = 1 << 30;

/// The bit of the selector that asks to write the item, which no item can be.
const WRITE: u16 = 1 << 14;
/// The DMA register's offset from the first port, and its lower half's.
const DMA: u64 = 4;
const DMA_LOW: u64 = 8;
/// What the DMA register reads as.
const DMA_SIGNATURE: &[u8; 8] = b"QEMU CFG";
/// Bits of a request's control.
const DMA_ERROR: u32 = 1;
const DMA_READ: u32 = 1 << 1;
const DMA_SKIP: u32 = 1 << 2;
const DMA_SELECT: u32 = 1 << 3;
const DMA_WRITE: u32 = 1 << 4;
/// How many bytes are fetched at a time.
const WINDOW: usize = 4096;

/// The guest's memory, for DMA.
///
/// Thread safety: called on vCPU threads, without a lock. Nothing of it may panic, whatever the address.
pub trait GuestMemory: Send + Sync {
    /// Fills `data` from `address` on; `false` if any of it is no memory.
    fn read(&self, address: u64, data: &mut [u8]) -> bool;

    /// Puts `data` at `address`; `false` if any of it is no memory that can be written.
    fn write(&self, address: u64, data: &[u8]) -> bool;
}

/// The state of a [`FwCfg`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The item that is selected; there need not be one of this number.
    pub selected: u16,
    /// Which of its bytes comes next.
    pub offset: u32,
    /// The upper half of the address of the next request of DMA.
    pub address_high: u32,
}

/// Where the guest is, and a piece of the item around it.
#[derive(Default)]
struct Reader {
    state: State,
    /// What of the selected item has been fetched, and where it begins.
    window: Vec<u8>,
    window_start: u32,
}

/// The device.
pub struct FwCfg {
    items: BTreeMap<u16, Arc<dyn Blob>>,
    memory: Option<Arc<dyn GuestMemory>>,
    reader: Guarded<Reader>,
}

impl FwCfg {
    /// A device with these items, without DMA.
    pub fn new(items: Items) -> Self {
        Self {
            items: items.finished(),
            memory: None,
            reader: Guarded::default(),
        }
    }

    /// A device with these items, and DMA.
    pub fn with_memory(mut items: Items, memory: Arc<dyn GuestMemory>) -> Self {
        items.set(item::ID, 3_u32.to_le_bytes().to_vec());
        let mut device = Self::new(items);
        device.memory = Some(memory);
        device
    }

    fn select(&self, selector: u16) {
        let mut reader = self.reader.lock();
        reader.state.selected = selector & !WRITE;
        reader.state.offset = 0;
        reader.window.clear();
    }

    /// Does what the request at `address` says, and says there how it went.
    fn request(&self, memory: &dyn GuestMemory, address: u64) {
        let mut request = [0; 16];
        if !memory.read(address, &mut request) {
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, target @ ..] = request;
        let control = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let [high, low, ..] = control.to_be_bytes();
        if control & DMA_SELECT != 0 {
            self.select(u16::from_be_bytes([high, low]));
        }
        let done = if control & DMA_READ != 0 {
            self.transfer(memory, u64::from_be_bytes(target), length)
        } else if control & DMA_SKIP != 0 {
            let mut reader = self.reader.lock();
            reader.state.offset = reader.state.offset.saturating_add(length);
            true
        } else {
            control & DMA_WRITE == 0
        };
        let result = if done { 0 } else { DMA_ERROR };
        // Where the request was read, there is memory; if it cannot be written, nobody waits for it.
        let _told = memory.write(address, &result.to_be_bytes());
    }

    /// Copies the selected item's next `length` bytes to `address`, and zeroes behind its end.
    fn transfer(&self, memory: &dyn GuestMemory, address: u64, length: u32) -> bool {
        if length > MOST_AT_ONCE {
            return false;
        }
        let mut at = address;
        let mut left = length;
        let mut piece = [0; WINDOW];
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
            let Some(piece) = piece.get_mut(..size) else {
                return false;
            };
            self.fetch(piece);
            if !memory.write(at, piece) {
                return false;
            }
            let size = u32::try_from(size).unwrap_or(left);
            left = left.saturating_sub(size);
            at = at.wrapping_add(u64::from(size));
        }
        true
    }

    /// Fills `piece` with the selected item's next bytes, and zeroes behind its end.
    fn fetch(&self, piece: &mut [u8]) {
        piece.fill(0);
        let mut reader = self.reader.lock();
        let State {
            selected, offset, ..
        } = reader.state;
        let Some(blob) = self.items.get(&selected) else {
            return;
        };
        let left = blob.size().saturating_sub(offset);
        let there = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        if let Some(piece) = piece.get_mut(..there) {
            blob.read(offset, piece);
        }
        reader.state.offset = offset.saturating_add(u32::try_from(there).unwrap_or(left));
    }

    /// The selected item's next byte.
    fn next(&self) -> u8 {
        let mut reader = self.reader.lock();
        let State {
            selected, offset, ..
        } = reader.state;
        let Some(blob) = self.items.get(&selected) else {
            return 0;
        };
        let left = blob.size().saturating_sub(offset);
        if left == 0 {
            return 0;
        }
        reader.state.offset = offset.saturating_add(1);
        if let Some(byte) = reader.fetched(offset) {
            return byte;
        }
        let length = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
        reader.window.clear();
        reader.window.resize(length, 0);
        reader.window_start = offset;
        blob.read(offset, &mut reader.window);
        reader.fetched(offset).unwrap_or(0)
    }
}

impl Reader {
    /// The byte at `offset`, if it has been fetched.
    fn fetched(&self, offset: u32) -> Option<u8> {
        let at = offset.checked_sub(self.window_start)?;
        self.window.get(usize::try_from(at).ok()?).copied()
    }
}

impl BusDevice for FwCfg {
    fn read(&self, offset: u64, data: &mut [u8]) {
        if let (DMA, Some(_), 4 | 8) = (offset, &self.memory, data.len()) {
            data.copy_from_slice(DMA_SIGNATURE.get(..data.len()).unwrap_or_default());
            return;
        }
        for (at, byte) in (offset..=u64::MAX).zip(data) {
            *byte = if at == 1 { self.next() } else { 0xff };
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (0, Ok(selector)) = (offset, data.try_into()) {
            return self.select(u16::from_le_bytes(selector));
        }
        let Some(memory) = &self.memory else {
            return;
        };
        let half = || data.try_into().map(u32::from_be_bytes);
        let address = match (offset, half(), data.try_into().map(u64::from_be_bytes)) {
            (DMA, Ok(high), _) => {
                self.reader.lock().state.address_high = high;
                return;
            }
            (DMA_LOW, Ok(low), _) => {
                let high = std::mem::take(&mut self.reader.lock().state.address_high);
                u64::from(high) << 32 | u64::from(low)
            }
            (DMA, _, Ok(address)) => address,
            _ => return,
        };
        self.request(&**memory, address);
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for FwCfg {
    fn enter(&self, _kind: ResetType) {
        *self.reader.lock() = Reader::default();
    }
}

impl SaveRestore for FwCfg {
    type State = State;

    fn save(&self) -> State {
        self.reader.lock().state
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        let mut reader = self.reader.lock();
        reader.state = *state;
        reader.window.clear();
        Ok(())
    }
}

impl Pausable for FwCfg {}

impl fmt::Debug for FwCfg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FwCfg")
            .field("items", &self.items.len())
            .field("state", &self.save())
            .finish_non_exhaustive()
    }
}
