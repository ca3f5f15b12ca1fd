runstate::states! {
    /// A lamp.
    enum Lamp { Off = "off", On = "on" }
}

const LAMP: runstate::TransitionTable<Lamp> = runstate::transitions! { Lamp { Off => Off, On } };

fn main() {
    let _ = LAMP.allows(Lamp::Off, Lamp::On);
}
