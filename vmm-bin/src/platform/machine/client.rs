//! What a test client does in place of a guest: ports, physical memory, time.
//!
//! The rule that must never be broken: a client reaches what a guest would reach, and by the same
//! way: memory where there is memory, else the bus.

use std::ops::Range;
use std::sync::Arc;

use devices::Clock as _;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::Machine;
use crate::platform::accel::{Chips, Pins};

/// How many times one advance of the clock stops at a timer. That is two hours of the interval timer as
/// it is at power-on, and two minutes of 1000 Hz.
const MOST_STOPS: u32 = 1 << 18;

/// A stretch of physical addresses.
enum Stretch {
    /// Memory.
    Memory,
    /// None: devices' registers, or nothing.
    Bus,
}

impl Machine {
    /// Reads ports. A device that has one port has it for every byte of a wider access.
    pub(crate) fn read_port(&self, port: u16, data: &mut [u8]) {
        let pio = self.board.pio();
        if self.is_alone(port) {
            for byte in data.chunks_mut(1) {
                pio.read(port.into(), byte);
            }
        } else {
            pio.read(port.into(), data);
        }
    }

    /// Writes ports. A device that has one port takes every byte of a wider access there.
    pub(crate) fn write_port(&self, port: u16, data: &[u8]) {
        let pio = self.board.pio();
        if self.is_alone(port) {
            for byte in data.chunks(1) {
                pio.write(port.into(), byte);
            }
        } else {
            pio.write(port.into(), data);
        }
    }

    /// Whether a device has this port and not its neighbours.
    fn is_alone(&self, port: u16) -> bool {
        let mut mappings = self.board.pio().mappings();
        mappings.any(|(_, mapping)| mapping.base == u64::from(port) && mapping.len == 1)
    }

    /// Reads physical addresses; those that are nobody's read as 0.
    pub(crate) fn read_physical(&self, address: u64, data: &mut [u8]) {
        data.fill(0);
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.stretches(address, len, |stretch, at, range| {
            let part = indices(&range).and_then(|range| data.get_mut(range));
            let Some(part) = part else { return };
            match stretch {
                Stretch::Memory => {
                    let memory = self.memory.regions();
                    if let Err(error) = memory.read_slice(part, GuestAddress(at)) {
                        log::warn!("guest memory at {at:#x}: {error}");
                    }
                }
                Stretch::Bus => self.device_registers(at, part.len(), |register, range| {
                    if let Some(part) = part.get_mut(range) {
                        self.board.mmio().read(register, part);
                    }
                }),
            }
        });
    }

    /// Writes physical addresses; to those that are nobody's, without effect.
    pub(crate) fn write_physical(&self, address: u64, data: &[u8]) {
        let len = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.stretches(address, len, |stretch, at, range| {
            let part = indices(&range).and_then(|range| data.get(range));
            let Some(part) = part else { return };
            match stretch {
                Stretch::Memory => self.store(at, part),
                Stretch::Bus => self.device_registers(at, part.len(), |register, range| {
                    if let Some(part) = part.get(range) {
                        self.board.mmio().write(register, part);
                    }
                }),
            }
        });
    }

    /// Fills physical addresses that are memory.
    pub(crate) fn fill_physical(&self, address: u64, len: u64, byte: u8) {
        let filling = [byte; 4096];
        self.stretches(address, len, |stretch, at, range| {
            let mut at = at;
            let mut left = range.end.saturating_sub(range.start);
            while matches!(stretch, Stretch::Memory) && left > 0 {
                let count = usize::try_from(left).unwrap_or(usize::MAX);
                let part = filling.get(..count).unwrap_or(&filling);
                self.store(at, part);
                let stored = u64::try_from(part.len()).unwrap_or(left);
                at = at.saturating_add(stored);
                left = left.saturating_sub(stored);
            }
        });
    }

    /// Moves a clock that moves only when told to on to `to`, and never back. While the guest's time
    /// passes (`runs`), devices do what is due on the way, in the order of time; it ends early when
    /// `given_up` says so. Returns the time.
    ///
    /// A guest chooses how often its timers are due. After [`MOST_STOPS`] timers the rest of the way is
    /// one stretch, at whose end each device does what one does that is late.
    pub(crate) fn advance_to(&self, to: u64, runs: bool, given_up: impl Fn() -> bool) -> u64 {
        let mut stops: u32 = 0;
        loop {
            let now = self.clock.now_ns();
            if runs && self.next_timer().is_some_and(|due| due <= now) {
                self.board.tick();
            }
            if now >= to || given_up() {
                return now;
            }
            let next = self.next_timer();
            let next = next.filter(|due| runs && stops < MOST_STOPS && *due > now);
            stops = stops.saturating_add(1);
            self.clock.advance_to(next.map_or(to, |due| due.min(to)));
        }
    }

    /// When the next timer of the virtual clock is due.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        self.board.next_deadline()
    }

    /// The pins that a client can watch; `None` where they are the accelerator's.
    pub(crate) fn pins(&self) -> Option<&Pins> {
        self.accel.chips().map(|chips| chips.pins())
    }

    /// Drives an input of the I/O APIC. `false` if there is no such one.
    pub(crate) fn set_input(&self, number: u32, level: bool) -> bool {
        let drive = |chips: &Arc<Chips>| chips.set_input(number, level);
        self.accel.chips().is_some_and(drive)
    }

    /// Whether there is a device with this name.
    pub(crate) fn has_device(&self, name: &str) -> bool {
        let (pio, mmio) = (self.board.pio(), self.board.mmio());
        let mut names = pio.mappings().chain(mmio.mappings()).map(|(name, _)| name);
        names.any(|known| known == name)
    }

    fn store(&self, at: u64, bytes: &[u8]) {
        let memory = self.memory.regions();
        if let Err(error) = memory.write_slice(bytes, GuestAddress(at)) {
            log::warn!("guest memory at {at:#x}: {error}");
        }
    }

    /// Calls `each` for every stretch of one kind: what it is, where it begins, and which part of
    /// the whole it is. Ends where the addresses do.
    fn stretches(&self, address: u64, len: u64, mut each: impl FnMut(Stretch, u64, Range<u64>)) {
        let end = address.saturating_add(len);
        let mut at = address;
        while at < end {
            let memory = self.memory.regions();
            let (stretch, stop) = match memory.find_region(GuestAddress(at)) {
                Some(region) => (
                    Stretch::Memory,
                    region.start_addr().0.saturating_add(region.len()),
                ),
                None => {
                    let starts = memory.iter().map(|region| region.start_addr().0);
                    let next = starts.filter(|start| *start > at).min();
                    (Stretch::Bus, next.unwrap_or(end))
                }
            };
            let stop = stop.min(end);
            let part = at.saturating_sub(address)..stop.saturating_sub(address);
            each(stretch, at, part);
            at = stop;
        }
    }

    /// Calls `each` for the parts of `len` addresses from `at` on where devices are.
    fn device_registers(&self, at: u64, len: usize, mut each: impl FnMut(u64, Range<usize>)) {
        let end = at.saturating_add(u64::try_from(len).unwrap_or(u64::MAX));
        for (_, mapping) in self.board.mmio().mappings() {
            let first = mapping.base.max(at);
            let last = mapping.base.saturating_add(mapping.len).min(end);
            if first < last {
                let part = first.saturating_sub(at)..last.saturating_sub(at);
                if let Some(part) = indices(&part) {
                    each(first, part);
                }
            }
        }
    }
}

fn indices(range: &Range<u64>) -> Option<Range<usize>> {
    let index = |at: u64| usize::try_from(at).ok();
    Some(index(range.start)?..index(range.end)?)
}
