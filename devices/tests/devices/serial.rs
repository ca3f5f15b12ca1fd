//! The serial port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::serial::{COM1, FIFO_SIZE, Serial};
use devices::{BusBuilder, IrqProbe, NoIrq, OutputRing, ResetType, Resettable, SaveRestore};

use crate::{inb, outb};

const DATA: u64 = 0;
const ENABLE: u64 = 1;
const IDENTIFY: u64 = 2;
const FIFO_CONTROL: u64 = 2;
const LINE_CONTROL: u64 = 3;
const MODEM_CONTROL: u64 = 4;
const LINE_STATUS: u64 = 5;
const MODEM_STATUS: u64 = 6;
const SCRATCH: u64 = 7;

struct Rig {
    irq: Arc<IrqProbe>,
    output: Arc<OutputRing>,
    hungry: Arc<AtomicU64>,
    port: Serial,
}

impl Rig {
    fn new() -> Self {
        let irq = Arc::new(IrqProbe::new());
        let output = Arc::new(OutputRing::new(1024));
        let hungry = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&hungry);
        let notify = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let port = Serial::with_input_notify(irq.clone(), output.clone(), notify);
        Self {
            irq,
            output,
            hungry,
            port,
        }
    }

    fn sent(&self) -> Vec<u8> {
        let mut data = vec![0; 4096];
        let len = self.output.read(&mut data);
        data.truncate(len);
        data
    }
}

#[test]
fn bytes_go_out_and_the_transmitter_is_always_ready() {
    let rig = Rig::new();
    for byte in *b"boot" {
        assert_eq!(inb(&rig.port, LINE_STATUS), 0x60);
        outb(&rig.port, DATA, byte);
    }
    assert_eq!(rig.sent(), b"boot");
}

#[test]
fn a_break_is_a_zero_byte_and_a_bit_that_is_read_once() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 1);
    rig.port.input_break();
    assert!(rig.irq.level());
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x71);
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x61);
    assert_eq!(inb(&rig.port, DATA), 0);
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x60);
    assert!(!rig.irq.level());

    // A full FIFO loses nothing of what was there.
    let typed = [7; FIFO_SIZE];
    assert_eq!(rig.port.input(&typed), FIFO_SIZE);
    rig.port.input_break();
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x71);
    assert_eq!(rig.port.save().received, typed);

    // It outlives a save, and neither a reset nor a loopback.
    rig.port.input_break();
    let saved = rig.port.save();
    rig.port.reset(ResetType::Cold);
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x60);
    rig.port.restore(&saved).unwrap();
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x71);
    rig.port.reset(ResetType::Cold);
    outb(&rig.port, MODEM_CONTROL, 0x10);
    rig.port.input_break();
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x60);
}

#[test]
fn what_does_not_fit_waits_with_the_caller_who_is_told_when_there_is_room() {
    let rig = Rig::new();
    let typed: Vec<u8> = (0..100).collect();
    assert_eq!(rig.port.input(&typed), FIFO_SIZE);
    assert_eq!(rig.port.input(&typed), 0);
    assert_eq!(rig.port.input_room(), 0);
    for expected in 0..FIFO_SIZE {
        assert_eq!(rig.hungry.load(Ordering::SeqCst), 0);
        assert_eq!(inb(&rig.port, LINE_STATUS) & 1, 1);
        assert_eq!(inb(&rig.port, DATA), expected as u8);
    }
    assert_eq!(inb(&rig.port, LINE_STATUS) & 1, 0);
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1);
    // Nothing more was refused, so nobody is told again.
    assert_eq!(rig.port.input(b"x"), 1);
    assert_eq!(inb(&rig.port, DATA), b'x');
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1);
}

#[test]
fn who_found_no_room_is_told_too() {
    let rig = Rig::new();
    assert_eq!(rig.port.input(&[0; FIFO_SIZE]), FIFO_SIZE);
    assert_eq!(rig.port.input_room(), 0);
    for _ in 0..FIFO_SIZE {
        inb(&rig.port, DATA);
    }
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1);
}

#[test]
fn the_receive_interrupt_stays_until_the_fifo_is_empty() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 0x01);
    rig.port.input(b"abc");
    for expected in *b"abc" {
        assert!(rig.irq.level());
        assert_eq!(inb(&rig.port, IDENTIFY), 0xc4);
        assert!(rig.irq.level(), "reading the cause does not end it");
        assert_eq!(inb(&rig.port, DATA), expected);
    }
    assert!(!rig.irq.level());
    assert_eq!(inb(&rig.port, IDENTIFY), 0xc1);
    assert_eq!(rig.irq.edges(), 1);
}

#[test]
fn of_two_causes_the_received_byte_comes_first() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 0x03);
    rig.port.input(b"a");
    assert_eq!(inb(&rig.port, IDENTIFY), 0xc4);
    assert_eq!(inb(&rig.port, DATA), b'a');
    assert!(rig.irq.level());
    assert_eq!(inb(&rig.port, IDENTIFY), 0xc2);
    assert!(!rig.irq.level());
    assert_eq!(inb(&rig.port, IDENTIFY), 0xc1);
}

#[test]
fn the_transmitter_interrupt_comes_back_with_every_byte() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 0x02);
    for _ in 0..3 {
        assert!(rig.irq.level());
        assert_eq!(inb(&rig.port, IDENTIFY), 0xc2);
        assert!(!rig.irq.level());
        outb(&rig.port, DATA, b'x');
    }
    outb(&rig.port, ENABLE, 0);
    assert!(!rig.irq.level(), "what is not enabled does not interrupt");
}

#[test]
fn enabling_the_receive_interrupt_late_finds_the_byte() {
    let rig = Rig::new();
    rig.port.input(b"a");
    assert!(!rig.irq.level());
    outb(&rig.port, ENABLE, 0x01);
    assert!(rig.irq.level());
    outb(&rig.port, ENABLE, 0x00);
    assert!(!rig.irq.level());
}

#[test]
fn the_fifo_control_register_clears_what_was_received() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 0x01);
    rig.port.input(&[7; 100]);
    outb(&rig.port, FIFO_CONTROL, 0x03);
    assert_eq!(inb(&rig.port, LINE_STATUS), 0x60);
    assert!(!rig.irq.level());
    assert_eq!(rig.port.input_room(), FIFO_SIZE);
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1);
}

#[test]
fn registers_and_divisor() {
    let rig = Rig::new();
    outb(&rig.port, LINE_CONTROL, 0x83);
    outb(&rig.port, DATA, 0x34);
    outb(&rig.port, ENABLE, 0x12);
    assert_eq!((inb(&rig.port, DATA), inb(&rig.port, ENABLE)), (0x34, 0x12));
    assert_eq!(rig.sent(), [], "the divisor is not sent");
    outb(&rig.port, LINE_CONTROL, 0x03);
    outb(&rig.port, ENABLE, 0xff);
    assert_eq!(inb(&rig.port, ENABLE), 0x0f);
    outb(&rig.port, SCRATCH, 0x5a);
    assert_eq!(inb(&rig.port, SCRATCH), 0x5a);
    assert_eq!(rig.port.save().divisor, 0x1234);
}

#[test]
fn loopback_hears_itself_and_nobody_else() {
    let rig = Rig::new();
    assert_eq!(inb(&rig.port, MODEM_STATUS), 0xb0);
    outb(&rig.port, MODEM_CONTROL, 0x1a);
    assert_eq!(inb(&rig.port, MODEM_STATUS), 0x90);
    assert_eq!((rig.port.input(b"typed"), rig.port.input_room()), (0, 0));
    outb(&rig.port, DATA, b'x');
    assert_eq!(rig.sent(), []);
    assert_eq!(inb(&rig.port, DATA), b'x');
    let told = rig.hungry.load(Ordering::SeqCst);
    outb(&rig.port, MODEM_CONTROL, 0x08);
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1.max(told));
    assert_eq!(rig.port.input(b"typed"), 5);
}

#[test]
fn reset_lowers_the_line_and_makes_room() {
    let rig = Rig::new();
    outb(&rig.port, ENABLE, 0x03);
    rig.port.input(&[1; 100]);
    assert!(rig.irq.level());
    rig.port.reset(ResetType::Cold);
    assert!(!rig.irq.level());
    assert_eq!(inb(&rig.port, ENABLE), 0);
    assert_eq!(rig.port.input_room(), FIFO_SIZE);
    assert_eq!(rig.hungry.load(Ordering::SeqCst), 1);
}

#[test]
fn a_restored_port_interrupts_where_the_saved_one_did() {
    let saved = Rig::new();
    outb(&saved.port, ENABLE, 0x01);
    saved.port.input(b"abc");
    let rig = Rig::new();
    rig.port.restore(&saved.port.save()).unwrap();
    assert!(rig.irq.level());
    assert_eq!(inb(&rig.port, DATA), b'a');
}

#[test]
fn behind_a_bus_a_word_is_two_registers() {
    let output = Arc::new(OutputRing::new(16));
    let port = Arc::new(Serial::new(Arc::new(NoIrq), output.clone()));
    let mut builder = BusBuilder::pio();
    builder.map("com1", &COM1, port.clone()).unwrap();
    let bus = builder.build();
    bus.write(0x3f8, &[b'x', 0x0f]);
    let mut data = [0; 2];
    assert_eq!(output.read(&mut data), 1);
    bus.read(0x3f8, &mut data);
    assert_eq!(data, [0, 0x0f]);
    // Past the last register there is nothing.
    bus.read(0x3ff, &mut data);
    assert_eq!(data, [0, 0xff]);
}
