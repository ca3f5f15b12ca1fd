//! A request, done.
//!
//! The rule that must never be broken: every request has exactly one answer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devices::Clock as _;
use lifecycle::{Requests, ShutdownCause};
use runstate::RunState;

use super::request::{Request, Width};
use crate::platform::Machine;

/// The device whose input pins can be watched.
const IO_APIC: &str = "ioapic";
/// A device's pins that have no name of their own.
const UNNAMED: &str = "unnamed-gpio-in";

const OK: &str = "OK";
const UNKNOWN_DEVICE: &str = "FAIL Unknown device";

/// What is done, with the little that requests leave behind.
#[derive(Debug, Default)]
pub(super) struct Executor {
    /// The device that is watched.
    watched: Option<String>,
}

impl Executor {
    /// Does what is asked and says how it went.
    pub(super) fn execute(
        &mut self,
        request: Request,
        machine: &Machine,
        state: RunState,
        requests: &Requests,
    ) -> String {
        match request {
            Request::Endianness => "OK little".into(),
            Request::In { port, width } => {
                let value = load(width, |data| machine.read_port(port, data));
                format!("OK {value:#06x}")
            }
            Request::Out { port, width, value } => {
                store(width, value, |data| machine.write_port(port, data));
                OK.into()
            }
            Request::Load { address, width } => {
                let value = load(width, |data| machine.read_physical(address, data));
                format!("OK {value:#018x}")
            }
            Request::Store {
                address,
                width,
                value,
            } => {
                store(width, value, |data| machine.write_physical(address, data));
                OK.into()
            }
            Request::Read { address, len } => {
                let mut answer = String::with_capacity(len.saturating_mul(2).saturating_add(5));
                answer.push_str("OK 0x");
                for byte in block(machine, address, len) {
                    answer.extend([byte >> 4, byte & 0xf].map(digit));
                }
                answer
            }
            Request::ReadBase64 { address, len } => {
                format!("OK {}", STANDARD.encode(block(machine, address, len)))
            }
            Request::Write { address, bytes } => {
                machine.write_physical(address, &bytes);
                OK.into()
            }
            Request::Fill { address, len, byte } => {
                machine.fill_physical(address, len, byte);
                OK.into()
            }
            Request::Step(by) => {
                let now = machine.clock().now_ns();
                let to = match by {
                    Some(by) => now.saturating_add(by),
                    None if state == RunState::Running => machine.next_timer().unwrap_or(now),
                    None => now,
                };
                advance(machine, to, state, requests)
            }
            Request::SetClock(to) => advance(machine, to, state, requests),
            Request::InterceptIn(device) => self.watch(&device, true, machine),
            Request::InterceptOut(device) => self.watch(&device, false, machine),
            Request::SetIrqIn {
                device,
                list,
                pin,
                level,
            } => drive(machine, &device, &list, pin, level),
            Request::ModuleLoad => "FAIL there are no modules".into(),
        }
    }

    /// `irq_intercept_in` and `irq_intercept_out`.
    fn watch(&mut self, path: &str, inputs: bool, machine: &Machine) -> String {
        let device = name(path);
        if device != IO_APIC && !machine.has_device(device) {
            return UNKNOWN_DEVICE.into();
        }
        match (&self.watched, machine.pins()) {
            (Some(watched), _) if watched == device => OK.into(),
            (Some(_), _) => "FAIL IRQ intercept already enabled".into(),
            (None, Some(pins)) if inputs && device == IO_APIC => {
                pins.watch();
                self.watched = Some(device.to_owned());
                OK.into()
            }
            _ => "FAIL No intercepts installed".into(),
        }
    }
}

/// The last part of a device's path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `set_irq_in`.
fn drive(machine: &Machine, path: &str, list: &str, pin: u64, level: bool) -> String {
    if name(path) != IO_APIC {
        return UNKNOWN_DEVICE.into();
    }
    match u32::try_from(pin) {
        Ok(pin) if list == UNNAMED && machine.set_input(pin, level) => OK.into(),
        _ => "FAIL Unknown pin".into(),
    }
}

/// `clock_step` and `clock_set`.
fn advance(machine: &Machine, to: u64, state: RunState, requests: &Requests) -> String {
    let runs = state == RunState::Running;
    // A signal must not wait for a step of a thousand years.
    let given_up = || requests.shutdown_pending() == ShutdownCause::HostSignal;
    let now = machine.advance_to(to, runs, given_up);
    format!("OK {now}")
}

fn block(machine: &Machine, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    machine.read_physical(address, &mut bytes);
    bytes
}

/// A hexadecimal digit.
fn digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or_default()
}

/// A value of this width, the lowest address first.
fn load(width: Width, read: impl FnOnce(&mut [u8])) -> u64 {
    let mut bytes = [0; 8];
    if let Some(part) = bytes.get_mut(..width.bytes()) {
        read(part);
    }
    u64::from_le_bytes(bytes)
}

fn store(width: Width, value: u64, write: impl FnOnce(&[u8])) {
    if let Some(part) = value.to_le_bytes().get(..width.bytes()) {
        write(part);
    }
}
