//! Nothing at the other end: output is discarded, and no input comes.

use std::sync::Arc;
use std::time::Duration;

use devices::OutputRing;
use event_manager::{EventOps, Events, MutEventSubscriber};
use log::error;
use vmm_sys_util::epoll::EventSet;

use super::flow::discard;
use super::{Backend, Line};
use crate::doorbell::Doorbell;

/// The other end of a line that goes nowhere.
#[derive(Debug)]
pub(crate) struct NullBackend {
    output: Arc<OutputRing>,
    bell: Arc<Doorbell>,
}

impl NullBackend {
    /// Discards what comes over `line`.
    pub(crate) fn new(line: &Line) -> Self {
        Self {
            output: Arc::clone(&line.output),
            bell: Arc::clone(&line.bell),
        }
    }
}

impl MutEventSubscriber for NullBackend {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.bell, EventSet::IN)) {
            error!("serial: cannot watch the line: {error}");
        }
    }

    fn process(&mut self, _events: Events, _ops: &mut EventOps) {
        self.bell.silence();
        discard(&self.output);
    }
}

impl Backend for NullBackend {
    fn finish(&mut self, _patience: Duration) -> u64 {
        0
    }
}
