//! A file at the other end: output is written to it, and no input comes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use devices::OutputRing;
use event_manager::{EventOps, Events, MutEventSubscriber};
use log::{error, warn};
use rustix::fs::OFlags;
use vmm_sys_util::epoll::EventSet;

use super::flow::{Drain, Flow, discard};
use super::{Backend, Line};
use crate::doorbell::Doorbell;
use crate::watch::Watch;

/// A file that the guest's output goes to.
#[derive(Debug)]
pub(crate) struct FileBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
    drain: Drain,
    file: File,
    failed: bool,
    watch: Watch,
}

impl FileBackend {
    /// Opens `path`, empties it, and writes to it what comes over `line`.
    ///
    /// # Errors
    /// When the file cannot be opened; a FIFO that nobody reads is among these.
    pub(crate) fn open(path: &Path, line: &Line) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
            .open(path)?;
        Ok(Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
            drain: Drain::default(),
            file,
            failed: false,
            watch: Watch::default(),
        })
    }

    fn flush(&mut self) -> bool {
        if self.failed {
            discard(&self.output);
            return false;
        }
        match self.drain.flush(&self.output, &mut self.file) {
            Flow::Empty => false,
            Flow::Blocked => true,
            Flow::Failed(error) => {
                warn!("serial: cannot write the file, output is discarded from here on: {error}");
                self.failed = true;
                discard(&self.output);
                false
            }
        }
    }
}

impl MutEventSubscriber for FileBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
    }

    fn process(&mut self, _events: Events, ops: &mut EventOps) {
        self.bell.silence();
        let blocked = self.flush();
        // Only a FIFO or a device behind the path can block, and those can be waited for.
        let wanted = blocked.then_some(EventSet::OUT);
        // If it cannot, the next output is another try.
        drop(self.watch.set(&self.file, wanted, ops));
    }
}

impl Backend for FileBackend {
    fn finish(&mut self, patience: Duration) -> u64 {
        if self.failed {
            return self.output.dropped();
        }
        self.drain.finish(&self.output, &mut self.file, patience)
    }
}
