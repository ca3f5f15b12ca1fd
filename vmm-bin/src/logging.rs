//! The log: lines on standard error, and nobody waits for a reader of it.
//!
//! The main loop logs, and vCPU threads do when they fail. A reader that does not read (a pager, a
//! stopped pipeline) costs lines, which are counted, and no more.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crate::stream::Stream;

/// Whether standard error is shared: the log belongs to the whole process.
static SHARED: AtomicBool = AtomicBool::new(false);

/// Whether each line is preceded by a look at whether it would have to wait.
pub(crate) fn is_shared() -> bool {
    SHARED.load(Ordering::Relaxed)
}

/// Starts logging. RUST_LOG says what.
pub(crate) fn start() {
    let filter = env_logger::Env::default().default_filter_or("info");
    let mut logger = env_logger::Builder::new();
    // A line for each packet that it does not know: its client decides how many that are.
    logger.filter_module("gdbstub", log::LevelFilter::Off);
    logger.parse_env(filter);
    // Without standard error there is nobody to tell anything.
    if let Ok(stream) = Stream::stderr() {
        SHARED.store(stream.is_shared(), Ordering::Relaxed);
        logger.target(env_logger::Target::Pipe(Box::new(Lossy::new(stream))));
    }
    logger
        .format(|line, record| {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            let (level, text) = (record.level(), record.args());
            writeln!(line, "{time} {level:<5} {text}")
        })
        .init();
}

/// A writer that drops what would have to wait, and says later how much that was.
#[derive(Debug)]
struct Lossy<W> {
    out: W,
    lost: u64,
}

impl<W: Write> Lossy<W> {
    fn new(out: W) -> Self {
        Self { out, lost: 0 }
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl<W: Write> Write for Lossy<W> {
    /// One call is one line of the log.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let note = format!("({} log lines were lost, nobody read)\n", self.lost);
        let told = self.lost == 0 || self.put(note.as_bytes()).is_ok();
        if told {
            self.lost = 0;
        }
        if !told || self.put(line).is_err() {
            self.lost = self.lost.saturating_add(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes and then blocks.
    #[derive(Default)]
    struct Pipe {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room = self.room.saturating_sub(count);
            self.got.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_loses_lines_and_says_so() {
        let mut log = Lossy::new(Pipe {
            room: 4,
            ..Pipe::default()
        });
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        log.write_all(b"three\n").unwrap();
        log.out.room = 1000;
        log.write_all(b"four\n").unwrap();
        log.write_all(b"five\n").unwrap();
        let got = String::from_utf8(log.out.got).unwrap();
        assert_eq!(
            got,
            "one\n(2 log lines were lost, nobody read)\nfour\nfive\n"
        );
    }
}
