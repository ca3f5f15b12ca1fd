//! What other clients do to the monitor meanwhile: one never reads, two have all their requests in flight, one comes
//! and goes in the middle of a command.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use crate::Outcome;

/// Requests that a client has in flight.
const IN_FLIGHT: usize = 64;
/// Clients that have so many.
const PIPELINERS: usize = 2;
const NEGOTIATE: &str = "{\"execute\": \"qmp_capabilities\"}";
const REQUEST: &str = "{\"execute\": \"query-status\"}";

/// The load; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// It is connected and never reads.
    _deaf: UnixStream,
}

impl Load {
    /// Loads the monitor at `path`.
    pub(crate) fn on(path: &Path) -> Outcome<Self> {
        let deaf = UnixStream::connect(path)?;
        deaf.set_nonblocking(true)?;
        // What does not fit would have to wait, and that is enough.
        (&deaf).write_all(NEGOTIATE.as_bytes())?;
        let _full = (&deaf).write_all(
            "{\"execute\": \"query-commands\"}"
                .repeat(10_000)
                .as_bytes(),
        );
        let ends = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..PIPELINERS {
            let (path, ends) = (path.to_owned(), Arc::clone(&ends));
            threads.push(spawn(move || ignore(pipeline(&path, &ends))));
        }
        let (path, ending) = (path.to_owned(), Arc::clone(&ends));
        threads.push(spawn(move || ignore(come_and_go(&path, &ending))));
        Ok(Self {
            ends,
            threads,
            _deaf: deaf,
        })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A thread that has panicked has said so.
            thread.join().ok();
        }
    }
}

/// A client that fails is no longer a load, and the figures say that.
fn ignore(ended: Outcome<()>) {
    if let Err(error) = ended {
        eprintln!("a client of the load has ended: {error}");
    }
}

fn pipeline(path: &Path, ends: &AtomicBool) -> Outcome<()> {
    let mut writer = UnixStream::connect(path)?;
    let mut reader = BufReader::new(writer.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    writer.write_all(NEGOTIATE.as_bytes())?;
    writer.write_all(REQUEST.repeat(IN_FLIGHT).as_bytes())?;
    while !ends.load(Ordering::Acquire) {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err("the server has closed the connection".into());
        }
        if line.contains("\"status\"") {
            writer.write_all(REQUEST.as_bytes())?;
        }
    }
    Ok(())
}

fn come_and_go(path: &Path, ends: &AtomicBool) -> Outcome<()> {
    while !ends.load(Ordering::Acquire) {
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(NEGOTIATE.as_bytes())?;
        stream.write_all(b"{\"execute\": \"query-st")?;
        drop(stream);
        sleep(Duration::from_millis(1));
    }
    Ok(())
}
