//! What is at the other end of the guest's serial line.
//!
//! ```text
//!   vCPU thread                      main loop
//!   UART --bytes--> [OutputRing] --> Drain --> stdout | client | file | nowhere
//!   UART <-bytes--- Feed <---------- stdin | client
//!     '--- "room" --> [Doorbell]
//! ```
//!
//! A back-end is a subscriber of the main loop. The guest's output waits in a bounded ring until
//! the other end takes it; what does not fit is dropped and counted, so a reader that never reads
//! costs memory for one ring and no vCPU waits. Input is taken from the other end only as fast as
//! the UART's FIFO has room for it.
//!
//! The rule that must never be broken: nothing here blocks.

mod feed;
mod file;
mod flow;
mod null;
mod socket;
mod stdio;

use std::sync::Arc;
use std::time::Duration;

use devices::{Notify, OutputRing};
use event_manager::MutEventSubscriber;

use crate::doorbell::Doorbell;

pub(crate) use feed::Receiver;
pub(crate) use file::FileBackend;
pub(crate) use flow::{Flow, wait_writable};
pub(crate) use null::NullBackend;
pub(crate) use socket::SocketBackend;
pub(crate) use stdio::{Keyboard, StdioBackend};

/// How many bytes of output may wait for the other end.
const OUTPUT_ROOM: usize = 64 * 1024;

/// How long the last words of a guest may take on their way out.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

/// The near end of the line: what the UART writes into, and the bell that it rings.
#[derive(Debug)]
pub(crate) struct Line {
    /// The guest's output.
    output: Arc<OutputRing>,
    /// Rung when output waits, and when the UART has room for input again.
    bell: Arc<Doorbell>,
}

impl Line {
    /// A line that is silent.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn new() -> std::io::Result<Self> {
        let bell = Arc::new(Doorbell::new()?);
        let output = Arc::new(OutputRing::with_notify(OUTPUT_ROOM, ringer(&bell)));
        Ok(Self { output, bell })
    }

    /// The end that a device writes into.
    pub(crate) fn output(&self) -> Arc<OutputRing> {
        Arc::clone(&self.output)
    }

    /// Something that rings the bell.
    pub(crate) fn ringer(&self) -> Arc<dyn Notify> {
        ringer(&self.bell)
    }
}

fn ringer(bell: &Arc<Doorbell>) -> Arc<dyn Notify> {
    let bell = Arc::clone(bell);
    Arc::new(move || bell.ring())
}

/// The far end of the line.
pub(crate) trait Backend: MutEventSubscriber {
    /// Writes out what the guest has said so far, for at most `patience`. Returns how many bytes nobody took, since
    /// the start: those that found no room, and those that are left.
    fn finish(&mut self, patience: Duration) -> u64;
}
