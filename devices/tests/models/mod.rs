//! A whole PC's worth of devices on a bus, driven by bytes, and an independent model that says what
//! must come of it.
//!
//! The property test and the fuzz target share this: a sequence of bytes becomes accesses, time,
//! key strokes, resets, sleep and restores; after each, what the devices did is compared with the
//! [`oracle`].

mod firmware;
mod oracle;
mod rig;
mod watchdogs;

pub(crate) use rig::Rig;

/// Ports where something is, or where something nearly is.
const PORTS: [u16; 50] = [
    0x60, 0x61, 0x64, 0x65, 0x70, 0x71, 0x72, 0x91, 0x92, 0x3f7, 0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc,
    0x3fd, 0x3ff, 0x402, 0x501, 0x502, 0x504, 0x505, 0x5ff, 0x600, 0x601, 0x602, 0x604, 0x605,
    0x608, 0x60b, 0xcf8, 0xcf9, 0x440, 0x441, 0x442, 0x443, 0x444, 0x65f, 0x660, 0x661, 0x662,
    0x663, 0x664, 0x665, 0x666, 0x668, 0x669, 0x66a, 0x510, 0x511,
];

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Op {
    /// The guest writes the low `width` bytes.
    Out { port: u16, width: usize, value: u32 },
    /// The guest reads.
    In { port: u16, width: usize },
    /// Time passes.
    Advance { ns: u64 },
    /// The wall clock is set, forwards or backwards.
    SetWall { ns: u64 },
    /// The main loop ticks what is timed.
    Tick,
    /// The main loop sleeps until the next deadline, and ticks.
    Sleep,
    /// The power button.
    Press,
    /// Somebody types.
    Type { len: u8 },
    /// Everything is reset.
    Reset { kind: u8 },
    /// The VM is suspended, and woken up.
    Wake { reason: u8 },
    /// Everything is saved and restored.
    Restore,
}

impl Op {
    /// Takes one off the front of `bytes`; what is missing at the end reads as 0.
    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut next = || {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            Some(*first)
        };
        let kind = next()?;
        let mut byte = || next().unwrap_or(0);
        let width = [1, 1, 2, 4][usize::from(kind >> 6)];
        Some(match kind & 0x3f {
            0..24 => {
                let port = port(&mut byte);
                let value = u32::from_le_bytes([byte(), byte(), byte(), byte()]);
                Self::Out { port, width, value }
            }
            24..40 => Self::In {
                port: port(&mut byte),
                width,
            },
            40..44 => Self::Advance {
                ns: u64::from(byte()) << (byte() & 31),
            },
            44 => Self::SetWall {
                ns: u64::from(byte()) << (byte() % 57),
            },
            45..48 => Self::Tick,
            48..54 => Self::Sleep,
            54..56 => Self::Press,
            56..60 => Self::Type { len: byte() },
            60 => Self::Reset { kind: byte() },
            61 => Self::Wake { reason: byte() },
            _ => Self::Restore,
        })
    }
}

fn port(byte: &mut impl FnMut() -> u8) -> u16 {
    let first = byte();
    match PORTS.get(usize::from(first & 0x3f)) {
        Some(port) => *port,
        None => u16::from_le_bytes([first, byte()]),
    }
}

/// Runs all that `bytes` say. Panics where the devices and the model differ.
pub(crate) fn run(mut bytes: &[u8]) {
    let mut rig = Rig::new();
    while let Some(op) = Op::decode(&mut bytes) {
        rig.perform(op);
    }
}
