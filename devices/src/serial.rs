//! A 16550A serial port.
//!
//! ```text
//!   guest ──THR──▶ Output (never blocks; what it does not take is lost and counted)
//!   guest ◀──RBR── receive FIFO, 64 bytes ◀── input(): takes what fits, the caller keeps the rest
//! ```
//!
//! The registers are `vm-superio`'s. This module adds what a VMM needs around them: a line that is
//! a level, no blocking, no growth, reset, and three repairs that guests other than Linux depend
//! on: the receive interrupt stays until the FIFO is empty; of two causes, the
//! interrupt-identification register shows the more urgent and keeps the other; and the
//! FIFO-control register clears the FIFO.
//!
//! Source: National Semiconductor PC16550D datasheet, section 8.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial as Registers, SerialState};

use crate::bus::{read_bytes, write_bytes};
use crate::counter::Counter;
use crate::sync::Guarded;
use crate::{
    BusDevice, Error, IrqLine, Mapping, NoNotify, Notify, Output, Pausable, ResetType, Resettable,
    SaveRestore,
};

/// Where the first serial port is on a PC; its interrupt line is 4.
pub const COM1: [Mapping; 1] = [Mapping::new(0x3f8, 8)];

/// How many bytes the receive FIFO holds.
pub const FIFO_SIZE: usize = 64;

const DATA: u8 = 0;
const INTERRUPT_ID: u8 = 2;
const FIFO_CONTROL: u8 = 2;
const LINE_STATUS: u8 = 5;

/// Interrupt enable: received data; transmitter empty.
const ENABLE_RECEIVED: u8 = 0x01;
const ENABLE_SENT: u8 = 0x02;
/// Interrupt identification: nothing; transmitter empty; received data.
const CAUSE_NONE: u8 = 0x01;
const CAUSE_SENT: u8 = 0x02;
const CAUSE_RECEIVED: u8 = 0x04;
/// FIFO control: clear the receive FIFO.
const CLEAR_RECEIVED: u8 = 0x02;
/// Line status: a byte waits.
const DATA_READY: u8 = 0x01;
/// Line status: a break was received. Reading it ends that.
const BREAK: u8 = 0x10;
/// Modem control: what is sent is received.
const LOOPBACK: u8 = 0x10;

/// The state of a [`Serial`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The divisor latch: baud rate = 115,200 / divisor.
    pub divisor: u16,
    /// Interrupt enable, 4 bits.
    pub interrupt_enable: u8,
    /// Interrupt causes, as `vm-superio` keeps them: bit 0 none, bit 1 sent, bit 2 received.
    pub interrupt_causes: u8,
    /// Line control.
    pub line_control: u8,
    /// Line status.
    pub line_status: u8,
    /// Modem control.
    pub modem_control: u8,
    /// Modem status.
    pub modem_status: u8,
    /// The scratch register.
    pub scratch: u8,
    /// Received and not yet read, the oldest first; at most [`FIFO_SIZE`].
    pub received: Vec<u8>,
}

/// `vm-superio` says when an interrupt begins. The line is worked out from the registers instead.
#[derive(Debug, Clone, Copy)]
struct NoTrigger;

impl Trigger for NoTrigger {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Hands bytes to the [`Output`] and counts what it does not take. It never fails, so the registers
/// never see an error.
#[derive(Clone)]
struct Sink {
    output: Arc<dyn Output>,
    lost: Arc<Counter>,
}

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = self.output.write(bytes);
        let lost = bytes.len().saturating_sub(taken);
        self.lost.add(u64::try_from(lost).unwrap_or(u64::MAX));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

type Uart = Registers<NoTrigger, NoEvents, Sink>;

struct Inner {
    uart: Uart,
    level: bool,
}

/// The port.
pub struct Serial {
    inner: Guarded<Inner>,
    irq: Arc<dyn IrqLine>,
    input_ready: Arc<dyn Notify>,
    /// `input` left bytes with its caller, who wants to know when there is room.
    starved: AtomicBool,
    sink: Sink,
}

impl Serial {
    /// A port that drives `irq` and sends to `output`. Whoever feeds its input polls
    /// [`input_room`](Self::input_room).
    pub fn new(irq: Arc<dyn IrqLine>, output: Arc<dyn Output>) -> Self {
        Self::with_input_notify(irq, output, Arc::new(NoNotify))
    }

    /// A port that, after [`input`](Self::input) did not take everything or
    /// [`input_room`](Self::input_room) was 0, calls `input_ready` when its FIFO has been
    /// emptied.
    pub fn with_input_notify(
        irq: Arc<dyn IrqLine>,
        output: Arc<dyn Output>,
        input_ready: Arc<dyn Notify>,
    ) -> Self {
        let sink = Sink {
            output,
            lost: Arc::new(Counter::new()),
        };
        let uart = Registers::new(NoTrigger, sink.clone());
        Self {
            inner: Guarded::new(Inner { uart, level: false }),
            irq,
            input_ready,
            starved: AtomicBool::new(false),
            sink,
        }
    }

    /// Receives bytes, as many as fit, and returns how many. Nothing is dropped: the caller keeps
    /// the rest, and stops reading from wherever they come. In loopback mode a port receives
    /// nothing.
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut inner = self.inner.lock();
        let taken = bytes.get(..room(&inner.uart)).unwrap_or(bytes);
        if taken.len() < bytes.len() {
            self.starved.store(true, Ordering::Release);
        }
        let taken = inner.uart.enqueue_raw_bytes(taken).unwrap_or(0);
        self.settle(&mut inner);
        taken
    }

    /// Receives a break: a zero byte, if there is room, and the break bit of the line status until that is
    /// read. The byte raises the interrupt; there is none of the line status's own. In loopback mode a port
    /// receives nothing.
    pub fn input_break(&self) {
        let mut inner = self.inner.lock();
        if inner.uart.state().modem_control & LOOPBACK != 0 {
            return;
        }
        // If it does not fit, the line status tells of the break all the same.
        inner.uart.enqueue_raw_bytes(&[0]).unwrap_or_default();
        self.replace(&mut inner, |state| state.line_status |= BREAK);
        self.settle(&mut inner);
    }

    /// How many bytes [`input`](Self::input) would take now.
    pub fn input_room(&self) -> usize {
        let inner = self.inner.lock();
        let room = room(&inner.uart);
        if room == 0 {
            self.starved.store(true, Ordering::Release);
        }
        room
    }

    /// How many bytes the output did not take.
    pub fn lost(&self) -> u64 {
        self.sink.lost.get()
    }

    fn read_byte(&self, offset: u64) -> u8 {
        let Some(register) = register(offset) else {
            return 0xff;
        };
        let mut inner = self.inner.lock();
        let before = inner.uart.state();
        let mut value = inner.uart.read(register);
        if register == INTERRUPT_ID && before.interrupt_identification & CAUSE_RECEIVED != 0 {
            // Received data hides a transmitter that is empty, and reading does not end it.
            value &= !CAUSE_SENT;
            self.replace(&mut inner, |state| {
                state.interrupt_identification = before.interrupt_identification;
            });
        }
        if register == LINE_STATUS && value & BREAK != 0 {
            self.replace(&mut inner, |state| state.line_status &= !BREAK);
        }
        self.settle(&mut inner);
        let emptied = register == DATA && inner.uart.fifo_capacity() == FIFO_SIZE;
        drop(inner);
        if emptied {
            self.tell_feeder();
        }
        value
    }

    fn write_byte(&self, offset: u64, value: u8) {
        let Some(register) = register(offset) else {
            return;
        };
        let mut inner = self.inner.lock();
        if register == FIFO_CONTROL && value & CLEAR_RECEIVED != 0 {
            self.replace(&mut inner, |state| {
                state.in_buffer.clear();
                state.line_status &= !DATA_READY;
            });
        }
        // Neither the trigger nor the sink can fail.
        inner.uart.write(register, value).unwrap_or_default();
        self.settle(&mut inner);
        drop(inner);
        if register == FIFO_CONTROL || register == 4 {
            self.tell_feeder();
        }
    }

    /// Makes the causes what the FIFO says, and the line what the causes say.
    fn settle(&self, inner: &mut Inner) {
        let state = inner.uart.state();
        let causes = causes(&state);
        if causes != state.interrupt_identification {
            self.replace(inner, |state| state.interrupt_identification = causes);
        }
        let level = causes & CAUSE_NONE == 0;
        if level != inner.level {
            inner.level = level;
            self.irq.set(level);
        }
    }

    fn replace(&self, inner: &mut Inner, change: impl FnOnce(&mut SerialState)) {
        let mut state = inner.uart.state();
        change(&mut state);
        if let Ok(uart) = Registers::from_state(&state, NoTrigger, NoEvents, self.sink.clone()) {
            inner.uart = uart;
        }
    }

    fn tell_feeder(&self) {
        if self.starved.swap(false, Ordering::AcqRel) {
            self.input_ready.notify();
        }
    }
}

/// How much a port can receive: nothing in loopback mode.
fn room(uart: &Uart) -> usize {
    if uart.state().modem_control & LOOPBACK != 0 {
        0
    } else {
        uart.fifo_capacity()
    }
}

fn register(offset: u64) -> Option<u8> {
    u8::try_from(offset).ok().filter(|register| *register < 8)
}

/// The interrupt causes that are enabled and true.
fn causes(state: &SerialState) -> u8 {
    let mut causes = 0;
    if state.interrupt_enable & ENABLE_RECEIVED != 0 && !state.in_buffer.is_empty() {
        causes |= CAUSE_RECEIVED;
    }
    if state.interrupt_enable & ENABLE_SENT != 0 {
        causes |= state.interrupt_identification & CAUSE_SENT;
    }
    if causes == 0 { CAUSE_NONE } else { causes }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| self.read_byte(at));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for Serial {
    fn enter(&self, _kind: ResetType) {
        let mut inner = self.inner.lock();
        self.replace(&mut inner, |state| *state = SerialState::default());
    }

    fn hold(&self, _kind: ResetType) {
        self.settle(&mut self.inner.lock());
    }

    fn exit(&self, _kind: ResetType) {
        self.tell_feeder();
    }
}

impl SaveRestore for Serial {
    type State = State;

    fn save(&self) -> State {
        let state = self.inner.lock().uart.state();
        State {
            divisor: u16::from_le_bytes([state.baud_divisor_low, state.baud_divisor_high]),
            interrupt_enable: state.interrupt_enable,
            interrupt_causes: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            received: state.in_buffer,
        }
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        let bad = |field, found, expected| Error::BadState {
            device: "serial",
            field,
            found,
            expected,
        };
        if state.received.len() > FIFO_SIZE {
            let found = u64::try_from(state.received.len()).unwrap_or(u64::MAX);
            return Err(bad("the length of received", found, "at most 64"));
        }
        if state.interrupt_enable > 0x0f {
            let found = u64::from(state.interrupt_enable);
            return Err(bad("interrupt_enable", found, "0 to 15"));
        }
        let ready = state.line_status & DATA_READY != 0;
        if ready == state.received.is_empty() {
            let found = u64::from(state.line_status);
            return Err(bad(
                "line_status",
                found,
                "bit 0 set if, and only if, bytes wait",
            ));
        }
        let [low, high] = state.divisor.to_le_bytes();
        let registers = SerialState {
            baud_divisor_low: low,
            baud_divisor_high: high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_causes,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: state.received.clone(),
        };
        if causes(&registers) != state.interrupt_causes {
            let found = u64::from(state.interrupt_causes);
            return Err(bad(
                "interrupt_causes",
                found,
                "what enable and received imply",
            ));
        }
        let mut inner = self.inner.lock();
        self.replace(&mut inner, |state| *state = registers);
        inner.level = causes(&inner.uart.state()) & CAUSE_NONE == 0;
        self.irq.set(inner.level);
        drop(inner);
        self.tell_feeder();
        Ok(())
    }
}

impl Pausable for Serial {}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial")
            .field("state", &self.save())
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
