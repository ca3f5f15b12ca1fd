//! The i8042 keyboard controller, with nothing plugged in: what a guest needs to reset itself and
//! to probe cleanly.
//!
//! | command (0x64) | effect |
//! |---|---|
//! | 0x20, 0x60 + data | read, write the mode byte |
//! | 0xA7, 0xA8; 0xAD, 0xAE | mouse, keyboard interface off, on (mode bits 5 and 4) |
//! | 0xA9, 0xAB | test the mouse, keyboard interface: 0, no error |
//! | 0xAA | self-test: answers 0x55, sets status bit 2 |
//! | 0xC0 | read the input port: 0x80, not locked |
//! | 0xD0, 0xD1 + data | read, write the output port; bit 1 is A20, **bit 0 written as 0 resets** |
//! | 0xD2, 0xD3 + data | put data into the output buffer as if from the keyboard, the mouse |
//! | 0xD4 + data | send to the mouse |
//! | 0xDD, 0xDF | A20 off, on (stored) |
//! | 0xF0 to 0xFF | pulse output bits: **resets if bit 0 is clear** |
//!
//! What is sent to a keyboard or mouse is answered as a controller does when nobody takes the byte:
//! 0xFE with the time-out bit in the status. A driver then knows at once, instead of waiting. The
//! output buffer holds one byte; a newer one replaces it.
//!
//! `vm-superio` has an i8042 too, of which a guest can use the reset command and nothing else.
//!
//! Behaviour: QEMU's `pckbd`; IBM PS/2 Hardware Interface Technical Reference, keyboard and
//! auxiliary device controller.

use std::fmt;
use std::sync::Arc;

use crate::bus::{read_bytes, write_bytes};
use crate::counter::Counter;
use crate::sync::Guarded;
use crate::{
    BusDevice, Error, IrqLine, Mapping, Pausable, PowerRequest, PowerSink, ResetType, Resettable,
    SaveRestore,
};

/// Where the controller is on a PC: the data port and the command port.
pub const PORTS: [Mapping; 2] = [
    Mapping::new(0x60, 1),
    Mapping::new(0x64, 1).at_offset(COMMAND_OFFSET),
];

const DATA_OFFSET: u64 = 0;
const COMMAND_OFFSET: u64 = 4;

/// Status: the output buffer holds a byte.
const STATUS_FULL: u8 = 0x01;
/// Status: the self-test has passed.
const STATUS_SELF_TEST: u8 = 0x04;
/// Status after a reset: not locked, last write was a command.
const STATUS_RESET: u8 = 0x18;
/// Status: the byte comes from the mouse.
const STATUS_MOUSE: u8 = 0x20;
/// Status: nobody answered.
const STATUS_TIMEOUT: u8 = 0x40;

const MODE_KEYBOARD_IRQ: u8 = 0x01;
const MODE_MOUSE_IRQ: u8 = 0x02;
const MODE_KEYBOARD_OFF: u8 = 0x10;
const MODE_MOUSE_OFF: u8 = 0x20;
const MODE_RESET: u8 = 0x03;

/// Output port: 0 holds the machine in reset.
const OUTPUT_NOT_RESET: u8 = 0x01;
const OUTPUT_A20: u8 = 0x02;
const OUTPUT_RESET: u8 = 0xcf;

/// What the controller puts in the buffer for a byte that nobody took.
const RESEND: u8 = 0xfe;

/// Who a byte in the output buffer seems to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Keyboard,
    Mouse,
}

/// The state of an [`I8042`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The mode byte.
    pub mode: u8,
    /// The status register.
    pub status: u8,
    /// The output port.
    pub output_port: u8,
    /// The byte in the output buffer.
    pub data: u8,
    /// The command that waits for its data byte (0x60, or 0xD1 to 0xD4); 0 if none does.
    pub pending: u8,
}

impl State {
    const FRESH: Self = Self {
        mode: MODE_RESET,
        status: STATUS_RESET,
        output_port: OUTPUT_RESET,
        data: 0,
        pending: 0,
    };

    fn answer(&mut self, source: Source, data: u8) {
        self.data = data;
        self.status &= !(STATUS_MOUSE | STATUS_TIMEOUT);
        self.status |= match source {
            Source::Keyboard => STATUS_FULL,
            Source::Mouse => STATUS_FULL | STATUS_MOUSE,
        };
    }

    fn answer_nobody(&mut self, source: Source) {
        self.answer(source, RESEND);
        self.status |= STATUS_TIMEOUT;
    }

    /// The levels of the keyboard's and the mouse's interrupt line.
    fn levels(&self) -> (bool, bool) {
        if self.status & STATUS_FULL == 0 {
            (false, false)
        } else if self.status & STATUS_MOUSE != 0 {
            (false, self.mode & MODE_MOUSE_IRQ != 0)
        } else {
            (
                self.mode & MODE_KEYBOARD_IRQ != 0 && self.mode & MODE_KEYBOARD_OFF == 0,
                false,
            )
        }
    }
}

/// Whether a write asks for a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Nothing,
    Reset,
}

impl Asks {
    /// Bit 0 of the output port, pulsed or written: low means reset.
    fn from_line(bits: u8) -> Self {
        if bits & OUTPUT_NOT_RESET == 0 {
            Self::Reset
        } else {
            Self::Nothing
        }
    }
}

/// The controller.
pub struct I8042 {
    state: Guarded<State>,
    keyboard_irq: Arc<dyn IrqLine>,
    mouse_irq: Arc<dyn IrqLine>,
    power: Arc<dyn PowerSink>,
    ignored: Counter,
}

impl I8042 {
    /// A controller that posts its resets to `power` and drives two interrupt lines, 1 and 12 on a
    /// PC.
    pub fn new(
        keyboard_irq: Arc<dyn IrqLine>,
        mouse_irq: Arc<dyn IrqLine>,
        power: Arc<dyn PowerSink>,
    ) -> Self {
        let ignored = Counter::new();
        Self {
            state: Guarded::new(State::FRESH),
            keyboard_irq,
            mouse_irq,
            power,
            ignored,
        }
    }

    /// How many commands the controller did not know.
    pub fn ignored(&self) -> u64 {
        self.ignored.get()
    }

    /// Changes the state and sets the lines, as one.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.levels();
        let result = change(&mut state);
        let after = state.levels();
        if before.0 != after.0 {
            self.keyboard_irq.set(after.0);
        }
        if before.1 != after.1 {
            self.mouse_irq.set(after.1);
        }
        result
    }

    fn read_byte(&self, offset: u64) -> u8 {
        match offset {
            DATA_OFFSET => self.update(|state| {
                state.status &= !(STATUS_FULL | STATUS_MOUSE | STATUS_TIMEOUT);
                state.data
            }),
            COMMAND_OFFSET => self.state.lock().status,
            _ => 0xff,
        }
    }

    fn write_byte(&self, offset: u64, value: u8) {
        let asks = match offset {
            DATA_OFFSET => self.update(|state| take_data(state, value)),
            COMMAND_OFFSET => self.update(|state| take_command(state, value, &self.ignored)),
            _ => Asks::Nothing,
        };
        if asks == Asks::Reset {
            self.power.power(PowerRequest::Reset);
        }
    }
}

fn take_command(state: &mut State, command: u8, ignored: &Counter) -> Asks {
    state.pending = 0;
    match command {
        0x20 => state.answer(Source::Keyboard, state.mode),
        0x60 | 0xd1..=0xd4 => state.pending = command,
        0xa7 => state.mode |= MODE_MOUSE_OFF,
        0xa8 => state.mode &= !MODE_MOUSE_OFF,
        0xa9 | 0xab => state.answer(Source::Keyboard, 0),
        0xaa => {
            state.status |= STATUS_SELF_TEST;
            state.answer(Source::Keyboard, 0x55);
        }
        0xad => state.mode |= MODE_KEYBOARD_OFF,
        0xae => state.mode &= !MODE_KEYBOARD_OFF,
        0xc0 => state.answer(Source::Keyboard, 0x80),
        0xd0 => state.answer(Source::Keyboard, state.output_port),
        0xdd => state.output_port &= !OUTPUT_A20,
        0xdf => state.output_port |= OUTPUT_A20,
        0xf0..=0xff => return Asks::from_line(command),
        _ => ignored.count(),
    }
    Asks::Nothing
}

fn take_data(state: &mut State, value: u8) -> Asks {
    match std::mem::take(&mut state.pending) {
        0x60 => state.mode = value,
        0xd1 => {
            state.output_port = value;
            return Asks::from_line(value);
        }
        0xd2 => state.answer(Source::Keyboard, value),
        0xd3 => state.answer(Source::Mouse, value),
        0xd4 => state.answer_nobody(Source::Mouse),
        _ => {
            // A byte for the keyboard also switches its interface on.
            state.mode &= !MODE_KEYBOARD_OFF;
            state.answer_nobody(Source::Keyboard);
        }
    }
    Asks::Nothing
}

impl BusDevice for I8042 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |at| self.read_byte(at));
    }

    fn write(&self, offset: u64, data: &[u8]) {
        write_bytes(offset, data, |at, value| self.write_byte(at, value));
    }
}

impl Resettable for I8042 {
    fn enter(&self, _kind: ResetType) {
        *self.state.lock() = State::FRESH;
    }

    fn hold(&self, _kind: ResetType) {
        self.keyboard_irq.set(false);
        self.mouse_irq.set(false);
    }
}

impl SaveRestore for I8042 {
    type State = State;

    fn save(&self) -> State {
        *self.state.lock()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if !matches!(state.pending, 0 | 0x60 | 0xd1..=0xd4) {
            return Err(Error::BadState {
                device: "i8042",
                field: "pending",
                found: u64::from(state.pending),
                expected: "0, 0x60, or 0xD1 to 0xD4",
            });
        }
        let mut current = self.state.lock();
        *current = *state;
        let (keyboard, mouse) = current.levels();
        self.keyboard_irq.set(keyboard);
        self.mouse_irq.set(mouse);
        Ok(())
    }
}

impl Pausable for I8042 {}

impl fmt::Debug for I8042 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("I8042")
            .field("state", &self.state)
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}
