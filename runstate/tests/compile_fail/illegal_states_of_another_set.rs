use runstate::{QEMU_10_2, transition};

runstate::states! {
    /// A lamp.
    enum Lamp { Off = "off", On = "on" }
}

fn main() {
    let _ = transition!(QEMU_10_2, Lamp::Off => Lamp::On);
}
