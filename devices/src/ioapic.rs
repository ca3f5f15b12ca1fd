//! The I/O APIC: 24 pins, a redirection entry each, behind an index and a data window.
//!
//! | address | width | what |
//! |---|---|---|
//! | 0xfec0_0000 | any, its low byte counts | index |
//! | 0xfec0_0010 | 4 | the register of that index |
//! | 0xfec0_0040 | 4, write | end of interrupt: the vector |
//!
//! | index | register |
//! |---|---|
//! | 0x00, 0x02 | identification, bits 27 to 24 |
//! | 0x01 | version 0x20, 24 entries |
//! | 0x10 to 0x3f | redirection entries, the low half first |
//!
//! ```text
//!   edge:   rise ── unmasked ─▶ message
//!   level:  high ── unmasked, no remote IRR ─▶ message, remote IRR
//!                 end of interrupt ─▶ no remote IRR; and if the pin is still high, the next message
//! ```
//!
//! An edge at a masked entry is lost, as on the chip. Polarity is stored and has no effect: a pin is
//! driven by whether it is asserted.
//!
//! The rule that must never be broken: **a level that is served is not sent again before its end.**
//!
//! Source: Intel 82093AA data sheet (290566); for the end of interrupt, Intel I/O controller hubs,
//! whose version is 0x20, as QEMU's is.

use std::fmt;
use std::sync::Arc;

use crate::sync::Guarded;
use crate::{BusDevice, Error, Granularity, Mapping, Pausable, ResetType, Resettable, SaveRestore};

/// Where the registers are on a PC.
pub const REGISTERS: [Mapping; 1] = [Mapping::new(0xfec0_0000, 0x1000)];

/// How many pins there are.
pub const PINS: u32 = 24;

const COUNT: usize = 24;
/// The registers repeat.
const OFFSET_MASK: u64 = 0xff;
const INDEX_OFFSET: u64 = 0x00;
const DATA_OFFSET: u64 = 0x10;
const END_OFFSET: u64 = 0x40;

const VERSION: u32 = 0x0017_0020;
const ID_MASK: u32 = 0x0f00_0000;
const FIRST_ENTRY: u8 = 0x10;

/// A redirection entry.
const VECTOR: u64 = 0xff;
const LOGICAL: u64 = 1 << 11;
const DELIVERY_STATUS: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// What a guest cannot write.
const READ_ONLY: u64 = DELIVERY_STATUS | REMOTE_IRR;
/// What there is of an entry.
const DEFINED: u64 = 0xff00_0000_0001_ffff;

/// An interrupt on its way to a local APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// The vector.
    pub vector: u8,
    /// The delivery mode: 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT.
    pub delivery: u8,
    /// Which local APICs.
    pub destination: u8,
    /// The destination is a logical one.
    pub logical: bool,
    /// It is triggered by level.
    pub level: bool,
}

/// Where interrupts go.
///
/// Called with the lock of the device held, from any thread. Must not block and must not call back.
pub trait InterruptSink: Send + Sync {
    /// Takes an interrupt.
    fn interrupt(&self, interrupt: Interrupt);
}

/// There are no local APICs.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoInterrupts;

impl InterruptSink for NoInterrupts {
    fn interrupt(&self, _interrupt: Interrupt) {}
}

/// The state of an [`IoApic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Which register the data window shows.
    pub index: u8,
    /// The identification register.
    pub id: u32,
    /// The redirection entries.
    pub entries: [u64; COUNT],
    /// The levels of the pins, a bit each.
    pub pins: u32,
}

/// The I/O APIC.
pub struct IoApic {
    state: Guarded<State>,
    sink: Arc<dyn InterruptSink>,
}

impl State {
    const FRESH: Self = Self {
        index: 0,
        id: 0,
        entries: [MASKED; COUNT],
        pins: 0,
    };

    fn read(&self) -> u32 {
        match self.index {
            0 | 2 => self.id,
            1 => VERSION,
            index => match self.entry(index) {
                Some(entry) if index & 1 == 0 => low(*entry),
                Some(entry) => high(*entry),
                None => 0,
            },
        }
    }

    /// Writes the register. Returns the pin whose entry it was.
    fn write(&mut self, value: u32) -> Option<usize> {
        let index = self.index;
        if index == 0 {
            self.id = value & ID_MASK;
        }
        let pin = pin_of(index)?;
        let entry = self.entries.get_mut(pin)?;
        let value = u64::from(value);
        let written = if index & 1 == 0 {
            (*entry & !0xffff_ffff) | value
        } else {
            (*entry & 0xffff_ffff) | value << 32
        };
        *entry = (written & DEFINED & !READ_ONLY) | (*entry & READ_ONLY);
        if *entry & LEVEL == 0 {
            // What is triggered by edges has nothing to end.
            *entry &= !REMOTE_IRR;
        }
        Some(pin)
    }

    fn entry(&self, index: u8) -> Option<&u64> {
        self.entries.get(pin_of(index)?)
    }

    /// The message that a pin by level has to send, if it has.
    fn serve(&mut self, pin: usize) -> Option<Interrupt> {
        let is_high = self.is_high(pin);
        let entry = self.entries.get_mut(pin)?;
        let waits = is_high && *entry & (LEVEL | MASKED | REMOTE_IRR) == LEVEL;
        waits.then(|| {
            *entry |= REMOTE_IRR;
            message(*entry)
        })
    }

    /// Drives a pin. Returns the message that it sends.
    fn set(&mut self, pin: usize, level: bool) -> Option<Interrupt> {
        let entry = *self.entries.get(pin)?;
        let rises = level && !self.is_high(pin);
        let bit = bit(pin);
        self.pins = if level {
            self.pins | bit
        } else {
            self.pins & !bit
        };
        if entry & LEVEL != 0 {
            return self.serve(pin);
        }
        (rises && entry & MASKED == 0).then(|| message(entry))
    }

    /// Ends the interrupts of a vector at a pin. Returns the next message.
    fn end(&mut self, pin: usize, vector: u8) -> Option<Interrupt> {
        let entry = self.entries.get_mut(pin)?;
        if *entry & VECTOR != u64::from(vector) || *entry & REMOTE_IRR == 0 {
            return None;
        }
        *entry &= !REMOTE_IRR;
        self.serve(pin)
    }

    fn is_high(&self, pin: usize) -> bool {
        self.pins & bit(pin) != 0
    }
}

/// The pin whose entry has this index.
fn pin_of(index: u8) -> Option<usize> {
    index
        .checked_sub(FIRST_ENTRY)
        .map(|at| usize::from(at >> 1))
}

fn bit(pin: usize) -> u32 {
    let pin = u32::try_from(pin).unwrap_or(u32::MAX);
    1_u32.checked_shl(pin).unwrap_or(0)
}

fn message(entry: u64) -> Interrupt {
    let [vector, modes, ..] = entry.to_le_bytes();
    let [.., destination] = entry.to_le_bytes();
    Interrupt {
        vector,
        delivery: modes & 7,
        destination,
        logical: entry & LOGICAL != 0,
        level: entry & LEVEL != 0,
    }
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn high(value: u64) -> u32 {
    low(value >> 32)
}

impl IoApic {
    /// An I/O APIC as after a reset, whose interrupts go to `sink`.
    pub fn new(sink: Arc<dyn InterruptSink>) -> Self {
        Self {
            state: Guarded::new(State::FRESH),
            sink,
        }
    }

    /// Drives a pin: asserted or not. One that is not there has no effect.
    ///
    /// Thread safety: may be called from the [`IrqLine`](crate::IrqLine) of any device.
    pub fn set(&self, pin: u32, level: bool) {
        if let Ok(pin) = usize::try_from(pin) {
            let mut state = self.state.lock();
            self.send(state.set(pin, level));
        }
    }

    /// A local APIC has ended an interrupt of this vector that was triggered by level.
    pub fn end(&self, vector: u8) {
        let mut state = self.state.lock();
        for pin in 0..COUNT {
            self.send(state.end(pin, vector));
        }
    }

    fn send(&self, interrupt: Option<Interrupt>) {
        if let Some(interrupt) = interrupt {
            self.sink.interrupt(interrupt);
        }
    }

    fn write_register(&self, value: u32) {
        let mut state = self.state.lock();
        if let Some(pin) = state.write(value) {
            self.send(state.serve(pin));
        }
    }
}

/// The registers' parts of an access: the offset of each four bytes, and the bytes.
fn aligned(offset: u64) -> impl Fn(u64) -> u64 {
    move |part| offset.wrapping_add(part.wrapping_mul(4)) & OFFSET_MASK
}

impl BusDevice for IoApic {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let at = aligned(offset);
        for (part, data) in (0..).zip(data.chunks_mut(4)) {
            let value = match at(part) {
                INDEX_OFFSET => u32::from(self.state.lock().index),
                DATA_OFFSET if data.len() == 4 => self.state.lock().read(),
                _ => 0,
            };
            for (slot, byte) in data.iter_mut().zip(value.to_le_bytes()) {
                *slot = byte;
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let at = aligned(offset);
        for (part, data) in (0..).zip(data.chunks(4)) {
            match (at(part), data) {
                (INDEX_OFFSET, [index, ..]) => self.state.lock().index = *index,
                (DATA_OFFSET, [a, b, c, d]) => {
                    self.write_register(u32::from_le_bytes([*a, *b, *c, *d]))
                }
                (END_OFFSET, [vector, _, _, _]) => self.end(*vector),
                _ => {}
            }
        }
    }

    fn granularity(&self) -> Granularity {
        Granularity::Whole
    }
}

impl Resettable for IoApic {
    fn enter(&self, _kind: ResetType) {
        let mut state = self.state.lock();
        *state = State {
            pins: state.pins,
            ..State::FRESH
        };
    }
}

impl SaveRestore for IoApic {
    type State = State;

    fn save(&self) -> State {
        *self.state.lock()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        let has = |mask: u64| state.entries.iter().any(|entry| *entry & mask != 0);
        let served = |entry: &u64| *entry & (LEVEL | REMOTE_IRR) == REMOTE_IRR;
        let bad = |field, found, expected| {
            Err(Error::BadState {
                device: "ioapic",
                field,
                found,
                expected,
            })
        };
        if state.id & !ID_MASK != 0 {
            return bad("id", u64::from(state.id), "0 but for bits 27 to 24");
        }
        if state.pins >> PINS != 0 {
            return bad("pins", u64::from(state.pins), "a mask of 24 bits");
        }
        if let Some(entry) = state.entries.iter().find(|entry| served(entry)) {
            return bad(
                "entries",
                *entry,
                "without remote IRR if triggered by edges",
            );
        }
        if has(!DEFINED | DELIVERY_STATUS) {
            return bad(
                "entries",
                0,
                "0 in reserved bits and in the delivery status",
            );
        }
        *self.state.lock() = *state;
        Ok(())
    }
}

impl Pausable for IoApic {}

impl fmt::Debug for IoApic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoApic")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
