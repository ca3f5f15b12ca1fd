//! The interval timer and the interrupt controllers, driven by bytes, each beside a plain model that
//! says what must come of it. The property test and the fuzz target share this.

mod ioapic;
mod pic;
mod pit;

/// Bytes as a source of decisions. What is missing at the end reads as 0.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    /// The next decision; `None` at the end.
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }
}

/// Runs all that `bytes` say. Panics where a device and its model differ.
pub(crate) fn run(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let mut source = Source(bytes);
    match which % 3 {
        0 => pit::run(&mut source),
        1 => pic::run(&mut source),
        _ => ioapic::run(&mut source),
    }
}
