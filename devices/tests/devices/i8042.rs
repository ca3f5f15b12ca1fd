//! The keyboard controller.

use std::sync::Arc;

use devices::i8042::{I8042, PORTS};
use devices::{
    Bus, BusBuilder, BusDevice, IrqProbe, PowerProbe, PowerRequest, ResetType, Resettable,
};

use crate::{inb, outb};

const DATA: u64 = 0;
const COMMAND: u64 = 4;

struct Rig {
    keyboard: Arc<IrqProbe>,
    mouse: Arc<IrqProbe>,
    power: Arc<PowerProbe>,
    device: Arc<I8042>,
}

impl Rig {
    fn new() -> Self {
        let keyboard = Arc::new(IrqProbe::new());
        let mouse = Arc::new(IrqProbe::new());
        let power = Arc::new(PowerProbe::new());
        let device = Arc::new(I8042::new(keyboard.clone(), mouse.clone(), power.clone()));
        Self {
            keyboard,
            mouse,
            power,
            device,
        }
    }

    fn command(&self, command: u8) {
        outb(&*self.device, COMMAND, command);
    }

    fn data(&self, value: u8) {
        outb(&*self.device, DATA, value);
    }

    fn status(&self) -> u8 {
        inb(&*self.device, COMMAND)
    }

    fn ask(&self, command: u8) -> u8 {
        self.command(command);
        assert_eq!(self.status() & 1, 1, "command {command:#x} has no answer");
        let answer = inb(&*self.device, DATA);
        assert_eq!(self.status() & 1, 0);
        answer
    }

    fn bus(&self) -> Bus {
        let mut builder = BusBuilder::pio();
        builder.map("i8042", &PORTS, self.device.clone()).unwrap();
        builder.build()
    }
}

#[test]
fn every_pulse_with_bit_0_clear_resets() {
    let rig = Rig::new();
    for command in 0..=u8::MAX {
        rig.command(command);
        let resets = command >= 0xf0 && command & 1 == 0;
        assert_eq!(
            rig.power.take(),
            vec![PowerRequest::Reset; resets.into()],
            "{command:#x}"
        );
    }
}

#[test]
fn the_output_port_resets_when_bit_0_is_written_as_0() {
    let rig = Rig::new();
    for value in 0..=u8::MAX {
        rig.command(0xd1);
        assert_eq!(rig.power.take(), []);
        rig.data(value);
        assert_eq!(
            rig.power.take(),
            vec![PowerRequest::Reset; (value & 1 == 0).into()]
        );
        assert_eq!(rig.ask(0xd0), value);
    }
    // Without the command, data is for the keyboard.
    rig.data(0);
    assert_eq!(rig.power.take(), []);
}

#[test]
fn a_command_takes_the_place_of_one_that_waits_for_data() {
    let rig = Rig::new();
    rig.command(0xd1);
    assert_eq!(rig.ask(0xaa), 0x55);
    rig.data(0);
    assert_eq!(rig.power.take(), [], "the byte was for the keyboard");
    assert_eq!(rig.ask(0xd0), 0xcf);
}

#[test]
fn reset_values() {
    let rig = Rig::new();
    for _ in 0..2 {
        assert_eq!(rig.status(), 0x18);
        assert_eq!(rig.ask(0x20), 0x03);
        assert_eq!(rig.ask(0xd0), 0xcf);
        rig.ask(0xaa);
        rig.command(0xdd);
        rig.command(0x60);
        rig.data(0x47);
        rig.command(0xd3);
        rig.data(1);
        rig.device.reset(ResetType::Cold);
        assert!(!rig.mouse.level());
    }
}

#[test]
fn the_questions_of_a_driver() {
    let rig = Rig::new();
    assert_eq!(rig.status() & 4, 0);
    assert_eq!(rig.ask(0xaa), 0x55);
    assert_eq!(rig.status() & 4, 4);
    assert_eq!(rig.ask(0xab), 0);
    assert_eq!(rig.ask(0xa9), 0);
    assert_eq!(rig.ask(0xc0), 0x80);
    rig.command(0xdd);
    assert_eq!(rig.ask(0xd0), 0xcd);
    rig.command(0xdf);
    assert_eq!(rig.ask(0xd0), 0xcf);
    for (off, on, bit) in [(0xad, 0xae, 0x10), (0xa7, 0xa8, 0x20)] {
        rig.command(off);
        assert_eq!(rig.ask(0x20) & bit, bit);
        rig.command(on);
        assert_eq!(rig.ask(0x20) & bit, 0);
    }
    rig.command(0x60);
    rig.data(0x74);
    assert_eq!(rig.ask(0x20), 0x74);
    let ignored = rig.device.ignored();
    rig.command(0x01);
    assert_eq!(rig.device.ignored(), ignored + 1);
}

#[test]
fn loop_back_raises_the_line_that_the_mode_allows() {
    let rig = Rig::new();
    rig.command(0xd3);
    rig.data(0x5a);
    assert_eq!(rig.status() & 0x21, 0x21);
    assert_eq!((rig.keyboard.level(), rig.mouse.level()), (false, true));
    assert_eq!(inb(&*rig.device, DATA), 0x5a);
    assert_eq!((rig.keyboard.level(), rig.mouse.level()), (false, false));
    rig.command(0xd2);
    rig.data(0x1c);
    assert_eq!((rig.keyboard.level(), rig.mouse.level()), (true, false));
    // Masking and unmasking while the byte waits.
    rig.command(0x60);
    rig.data(0x02);
    assert!(!rig.keyboard.level());
    rig.command(0x60);
    rig.data(0x03);
    assert!(rig.keyboard.level());
    assert_eq!(inb(&*rig.device, DATA), 0x1c);
    assert_eq!((rig.keyboard.level(), rig.keyboard.edges()), (false, 2));
}

#[test]
fn nobody_answers_for_a_keyboard_or_a_mouse() {
    let rig = Rig::new();
    rig.data(0xf2);
    assert_eq!(rig.status() & 0x61, 0x41);
    assert_eq!(inb(&*rig.device, DATA), 0xfe);
    assert_eq!(rig.status() & 0x61, 0);
    rig.command(0xd4);
    rig.data(0xff);
    assert_eq!(rig.status() & 0x61, 0x61);
    assert!(rig.mouse.level());
    assert_eq!(inb(&*rig.device, DATA), 0xfe);
}

#[test]
fn the_ports_between_data_and_command_are_somebody_elses() {
    let rig = Rig::new();
    let bus = rig.bus();
    let mut data = [0];
    bus.read(0x61, &mut data);
    assert_eq!((data, bus.unclaimed().reads), ([0xff], 1));
    bus.write(0x64, &[0xfe]);
    assert_eq!(rig.power.take(), [PowerRequest::Reset]);
    // A word at the command port: the second byte is for 0x65.
    bus.write(0x64, &[0xfe, 0xfe]);
    assert_eq!(rig.power.take(), [PowerRequest::Reset]);
    rig.device.write(1, &[0xfe; 3]);
    assert_eq!(rig.power.take(), []);
}
