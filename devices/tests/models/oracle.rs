//! What the devices must do, written from the specifications a second time and in another way.

use std::collections::VecDeque;

use devices::PowerRequest;

use super::firmware::Firmware;
use super::watchdogs::{Ib700, Wdat};

/// A decoded byte of an address space: who, at which offset, and whether it wants whole accesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    Byte(Device, u16),
    Whole(Device, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Keyboard,
    Clock,
    Port92,
    Serial,
    DebugCon,
    DebugExit,
    FwCfg,
    PvPanic,
    Pm,
    ResetControl,
    Ib700,
    Wdat,
}

fn owner(port: u16) -> Owner {
    match port {
        0x60 => Owner::Byte(Device::Keyboard, 0),
        0x64 => Owner::Byte(Device::Keyboard, 4),
        0x70 | 0x71 => Owner::Byte(Device::Clock, port - 0x70),
        0x92 => Owner::Byte(Device::Port92, 0),
        0x3f8..=0x3ff => Owner::Byte(Device::Serial, port - 0x3f8),
        0x402 => Owner::Byte(Device::DebugCon, 0),
        0x441..=0x444 => Owner::Byte(Device::Ib700, port - 0x441),
        0x501 | 0x502 => Owner::Whole(Device::DebugExit, port - 0x501),
        0x505 => Owner::Byte(Device::PvPanic, 0),
        0x510 | 0x511 | 0x514..=0x51b => Owner::Whole(Device::FwCfg, port - 0x510),
        0x600..=0x60b => Owner::Whole(Device::Pm, port - 0x600),
        0x660..=0x669 => Owner::Whole(Device::Wdat, port - 0x660),
        0xcf9 => Owner::Byte(Device::ResetControl, 0),
        _ => Owner::Nobody,
    }
}

/// The model.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) virtual_ns: u64,
    port92: u8,
    reset_control: u8,
    keyboard_command: u8,
    pub(crate) pm: Pm,
    pub(crate) ib700: Ib700,
    firmware: Firmware,
    pub(crate) wdat: Wdat,
    pub(crate) serial: Serial,
    pub(crate) unclaimed: (u64, u64),
    /// What the devices but the clock and the watchdogs must have asked for, since it was last taken.
    pub(crate) power: Vec<PowerRequest>,
    /// What the console must have got.
    pub(crate) console: Vec<u8>,
}

impl Oracle {
    pub(crate) fn write(&mut self, port: u16, data: &[u8]) {
        let mut at = port;
        for (index, byte) in data.iter().enumerate() {
            match owner(at) {
                Owner::Byte(device, offset) => self.write_byte(device, offset, *byte),
                Owner::Whole(device, offset) => {
                    return self.write_whole(device, offset, &data[index..]);
                }
                Owner::Nobody => return self.unclaimed.1 += 1,
            }
            at = at.wrapping_add(1);
        }
    }

    /// What a read gives; `None` for bytes that the model leaves open.
    pub(crate) fn read(&mut self, port: u16, len: usize) -> Vec<Option<u8>> {
        let mut data = Vec::new();
        while data.len() < len {
            let at = port.wrapping_add(u16::try_from(data.len()).unwrap());
            match owner(at) {
                Owner::Byte(device, offset) => data.push(self.read_byte(device, offset)),
                Owner::Whole(device, offset) => {
                    let ns = self.virtual_ns;
                    let rest = offset..offset + u16::try_from(len - data.len()).unwrap();
                    data.extend(rest.map(|at| match device {
                        Device::Pm => Some(self.pm.read_byte(at, ns)),
                        Device::Wdat => Some(self.wdat.read_byte(at, ns)),
                        Device::FwCfg => Some(self.firmware.read_byte(at)),
                        _ => Some(0),
                    }));
                }
                Owner::Nobody => {
                    self.unclaimed.0 += 1;
                    data.resize(len, Some(0xff));
                }
            }
        }
        data
    }

    pub(crate) fn reset(&mut self) {
        self.port92 &= !1;
        self.reset_control = 0;
        self.keyboard_command = 0;
        self.pm = Pm::default();
        self.ib700.reset();
        self.wdat.reset();
        self.firmware.reset();
        self.serial = Serial::default();
    }

    fn write_byte(&mut self, device: Device, offset: u16, value: u8) {
        match (device, offset) {
            (Device::Port92, _) => {
                if self.port92 & 1 == 0 && value & 1 == 1 {
                    self.power.push(PowerRequest::Reset);
                }
                self.port92 = value;
            }
            (Device::ResetControl, _) if value & 4 != 0 => self.power.push(PowerRequest::Reset),
            (Device::ResetControl, _) => self.reset_control = value & 0b1010,
            (Device::PvPanic, _) => self.power.extend(match value & 7 {
                0 => None,
                2 | 6 => Some(PowerRequest::GuestCrashloaded),
                4 => Some(PowerRequest::PvShutdown),
                _ => Some(PowerRequest::GuestPanicked),
            }),
            (Device::Ib700, offset) => self.ib700.write(offset, value, self.virtual_ns),
            (Device::DebugCon, _) => self.console.push(value),
            (Device::Serial, register) => self.serial.write(register, value),
            (Device::Keyboard, 4) => {
                if value >= 0xf0 && value & 1 == 0 {
                    self.power.push(PowerRequest::Reset);
                }
                self.keyboard_command = value;
            }
            (Device::Keyboard, _) => {
                if self.keyboard_command == 0xd1 && value & 1 == 0 {
                    self.power.push(PowerRequest::Reset);
                }
                self.keyboard_command = 0;
            }
            _ => {}
        }
    }

    fn read_byte(&mut self, device: Device, offset: u16) -> Option<u8> {
        match device {
            Device::Port92 => Some(self.port92),
            Device::ResetControl => Some(self.reset_control),
            Device::PvPanic => Some(7),
            Device::Ib700 => Some(0xff),
            Device::DebugCon => Some(0xe9),
            Device::Serial => self.serial.read(offset),
            Device::Clock if offset == 0 => Some(0xff),
            _ => None,
        }
    }

    fn write_whole(&mut self, device: Device, offset: u16, data: &[u8]) {
        if device == Device::Pm {
            for (at, byte) in (offset..).zip(data) {
                if let Some(request) = self.pm.write_byte(at, *byte, self.virtual_ns) {
                    self.power.push(request);
                }
            }
        } else if device == Device::Wdat {
            self.wdat.write(offset, data, self.virtual_ns);
        } else if device == Device::FwCfg {
            self.firmware.write(offset, data);
        } else if data.len() != 3 {
            let value = data
                .iter()
                .rev()
                .fold(0, |value: u32, byte| value << 8 | u32::from(*byte));
            let exit_code = Some(value.wrapping_mul(2) + 1);
            self.power.push(PowerRequest::Shutdown { exit_code });
        }
    }
}

/// The power-management block, a byte at a time.
#[derive(Debug)]
pub(crate) struct Pm {
    registers: [u8; 6],
    /// In which half turn of the timer its status was last cleared.
    cleared_in: Option<u128>,
    pub(crate) told: bool,
}

impl Default for Pm {
    fn default() -> Self {
        Self {
            registers: [0, 0, 0, 0, 1, 0],
            cleared_in: None,
            told: false,
        }
    }
}

impl Pm {
    fn ticks(ns: u64) -> u128 {
        u128::from(ns) * 3_579_545 / 1_000_000_000
    }

    pub(crate) fn timer_due(&self, ns: u64) -> bool {
        let half_turn = Self::ticks(ns) / (1 << 23);
        self.cleared_in.is_none_or(|cleared| half_turn > cleared)
    }

    pub(crate) fn timer_enabled(&self) -> bool {
        self.registers[2] & 1 == 1
    }

    pub(crate) fn sci(&self, ns: u64) -> bool {
        let low = self.registers[0] | u8::from(self.timer_due(ns));
        low & self.registers[2] & 0x21 != 0 || self.registers[1] & self.registers[3] & 0x05 != 0
    }

    pub(crate) fn set_status(&mut self, bits: u16) {
        self.registers[0] |= (bits % 256) as u8;
        self.registers[1] |= (bits / 256) as u8;
    }

    pub(crate) fn press(&mut self) -> bool {
        let heeded = self.registers[3] & 1 == 1;
        self.registers[1] |= u8::from(heeded);
        heeded
    }

    fn read_byte(&self, offset: u16, ns: u64) -> u8 {
        match offset {
            0 => self.registers[0] | u8::from(self.timer_due(ns)),
            1..=5 => self.registers[usize::from(offset)],
            8..=10 => (Self::ticks(ns) >> (8 * (offset - 8))) as u8,
            _ => 0,
        }
    }

    fn write_byte(&mut self, offset: u16, value: u8, ns: u64) -> Option<PowerRequest> {
        let register = self.registers.get_mut(usize::from(offset))?;
        match offset {
            0 | 1 => *register &= !value,
            2 | 3 => *register = value,
            4 => *register = value | 1,
            _ => *register = value & !0x20,
        }
        if offset == 0 && value & 1 == 1 && self.timer_due(ns) {
            self.cleared_in = Some(Self::ticks(ns) / (1 << 23));
            self.told = false;
        }
        if offset != 5 || value & 0x20 == 0 {
            return None;
        }
        match value >> 2 & 7 {
            0 => Some(PowerRequest::Shutdown { exit_code: None }),
            1 => Some(PowerRequest::Suspend),
            2 => Some(PowerRequest::SuspendToDisk),
            _ => None,
        }
    }
}

/// The serial port.
#[derive(Debug)]
pub(crate) struct Serial {
    received: VecDeque<u8>,
    enable: u8,
    line_control: u8,
    modem_control: u8,
    /// The transmitter has become empty, and the guest was not told.
    emptied: bool,
    /// What must have been sent, since it was last taken.
    pub(crate) sent: Vec<u8>,
}

impl Default for Serial {
    fn default() -> Self {
        Self {
            received: VecDeque::new(),
            enable: 0,
            line_control: 3,
            modem_control: 8,
            emptied: false,
            sent: Vec::new(),
        }
    }
}

impl Serial {
    pub(crate) fn room(&self) -> usize {
        if self.modem_control & 0x10 != 0 {
            0
        } else {
            64 - self.received.len()
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        let room = self.room();
        self.received.extend(bytes.iter().take(room));
    }

    pub(crate) fn level(&self) -> bool {
        self.has_data_interrupt() || self.emptied
    }

    fn has_data_interrupt(&self) -> bool {
        self.enable & 1 == 1 && !self.received.is_empty()
    }

    fn latched(&self) -> bool {
        self.line_control & 0x80 != 0
    }

    fn write(&mut self, register: u16, value: u8) {
        match register {
            0 if self.latched() => {}
            0 if self.modem_control & 0x10 != 0 => {
                let room = self.received.len() < 64;
                self.received.extend(room.then_some(value));
            }
            0 => {
                self.sent.push(value);
                self.emptied |= self.enable & 2 != 0;
            }
            1 if self.latched() => {}
            1 => {
                self.enable = value & 0x0f;
                self.emptied = self.enable & 2 != 0;
            }
            2 if value & 2 != 0 => self.received.clear(),
            3 => self.line_control = value,
            4 => self.modem_control = value,
            _ => {}
        }
    }

    fn read(&mut self, register: u16) -> Option<u8> {
        match register {
            0 | 1 if self.latched() => None,
            0 => Some(self.received.pop_front().unwrap_or(0)),
            1 => Some(self.enable),
            2 if self.has_data_interrupt() => Some(0xc4),
            2 => Some(if std::mem::take(&mut self.emptied) {
                0xc2
            } else {
                0xc1
            }),
            3 => Some(self.line_control),
            4 => Some(self.modem_control),
            5 => Some(0x60 | u8::from(!self.received.is_empty())),
            _ => None,
        }
    }
}
