//! Who has sent a signal that ends the program: what a log line says of a process besides its number.
//!
//! ```text
//!   main loop ── number ─▶ thread "sender": reads the link /proc/PID/exe ── name ─▶ main loop
//! ```
//!
//! Landlock keeps other processes' links from whoever it restricts, and it restricts the main loop.
//! So a thread that was started before, and that is not restricted but has the shortest filter of
//! system calls of all, looks them up. It sleeps until it is asked, and is asked once in a VM's life.
//!
//! The rule that must never be broken: the name is for people. Nothing is decided by it, and nobody
//! waits for it for long.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// How long the end of the VM is held up for a name.
const PATIENCE: Duration = Duration::from_secs(2);

/// A question: the process, and where the answer goes.
type Question = (u32, SyncSender<Option<String>>);

/// Looks up processes.
#[derive(Debug)]
pub(crate) struct Senders {
    questions: Sender<Question>,
}

impl Senders {
    /// Starts the thread. To be called before the calling thread is restricted. `confine` is called
    /// first thing on it; if that fails, nobody is known.
    pub(crate) fn start(
        confine: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> (Self, Starting) {
        let (questions, asked) = channel();
        let (tell, told) = sync_channel(1);
        let thread = std::thread::Builder::new().name("sender".into());
        let started = thread.spawn(move || {
            let confined = confine();
            let go_on = confined.is_ok();
            drop(tell.send(confined));
            if go_on {
                answer(&asked);
            }
        });
        let starting = Starting(started.map(|_| told));
        (Self { questions }, starting)
    }

    /// What there is to say of a process. `None` if it has gone, or nobody can say.
    pub(crate) fn describe(&self, pid: u32) -> Option<String> {
        let (answer, answered) = sync_channel(1);
        self.questions.send((pid, answer)).ok()?;
        answered.recv_timeout(PATIENCE).ok()?
    }
}

/// A thread that gets ready while its starter does other things.
#[derive(Debug)]
pub(crate) struct Starting(io::Result<Receiver<io::Result<()>>>);

impl Starting {
    /// Waits until the thread is confined.
    pub(crate) fn wait(self) {
        let confined = self.0.and_then(|told| told.recv().unwrap_or(Ok(())));
        if let Err(error) = confined {
            log::warn!("who sends signals will not be known: {error}");
        }
    }
}

fn answer(asked: &Receiver<Question>) {
    while let Ok((pid, answer)) = asked.recv() {
        // Who asked may have lost patience.
        drop(answer.send(look(pid)));
    }
}

/// The name of the program's file. Of another user's process, or one that has ended and was not waited
/// for, whose it is.
fn look(pid: u32) -> Option<String> {
    let process = Path::new("/proc").join(pid.to_string());
    if let Ok(program) = rustix::fs::readlink(process.join("exe"), Vec::new()) {
        let program = program.to_string_lossy();
        return program.rsplit('/').next().map(str::to_owned);
    }
    let owner = process.metadata().ok()?.uid();
    Some(format!("of user {owner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_called_what_its_program_is() {
        let (senders, starting) = Senders::start(|| Ok(()));
        starting.wait();
        let own = senders.describe(std::process::id()).unwrap();
        assert!(own.starts_with("vmm_bin"), "{own}");
        assert_eq!(senders.describe(u32::MAX), None);
    }

    #[test]
    fn without_the_thread_nobody_is_known_and_nobody_waits() {
        let (senders, starting) = Senders::start(|| Err(io::Error::other("no filter")));
        starting.wait();
        assert_eq!(senders.describe(std::process::id()), None);
    }
}
