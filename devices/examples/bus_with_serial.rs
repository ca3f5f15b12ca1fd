//! A guest's first steps, without a guest: it prints a line, reads what is typed, and resets the
//! machine.
//!
//! Run it: `cargo run -p devices --example bus_with_serial --features serial,port92`

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use devices::port92::{self, Port92};
use devices::serial::{self, Serial};
use devices::{BusBuilder, IrqProbe, OutputRing, PowerProbe, PowerRequest, ResetTree, ResetType};

fn main() -> Result<(), Box<dyn Error>> {
    // What the VMM brings: an interrupt line, a place for output, and a latch for power requests.
    let irq4 = Arc::new(IrqProbe::new());
    let output = Arc::new(OutputRing::new(4096));
    let power = Arc::new(PowerProbe::new());

    let com1 = Arc::new(Serial::new(irq4.clone(), output.clone()));
    let port92 = Arc::new(Port92::new(power.clone()));

    let mut ports = BusBuilder::pio();
    ports.map("com1", &serial::COM1, com1.clone())?;
    ports.map("port92", &port92::PORTS, port92.clone())?;
    let ports = ports.build();

    let tree = ResetTree::new();
    tree.add(tree.root(), "com1", com1.clone())?;
    tree.add(tree.root(), "port92", port92)?;

    // The guest: enables the receive interrupt, and prints.
    ports.write(0x3f9, &[0x01]);
    for byte in b"Hello from the guest.\n" {
        ports.write(0x3f8, &[*byte]);
    }
    // The VMM's main loop: writes out what came.
    let mut text = [0; 4096];
    let len = output.read(&mut text);
    std::io::stdout().write_all(text.get(..len).unwrap_or_default())?;

    // Somebody types more than fits. The VMM keeps the rest.
    let typed = [b'.'; 100];
    let taken = com1.input(&typed);
    writeln!(
        std::io::stdout(),
        "{taken} of {} bytes fit; the line is {}",
        typed.len(),
        irq4.level()
    )?;

    // The guest resets, and the main loop serves it.
    ports.write(0x92, &[0x01]);
    if power.take() == [PowerRequest::Reset] {
        tree.reset(tree.root(), ResetType::Cold)?;
    }
    let room = com1.input_room();
    writeln!(
        std::io::stdout(),
        "after the reset {room} bytes fit; the line is {}",
        irq4.level()
    )?;

    // Nobody is at port 0x80.
    ports.write(0x80, &[0]);
    writeln!(std::io::stdout(), "unclaimed: {:?}", ports.unclaimed())?;
    Ok(())
}
