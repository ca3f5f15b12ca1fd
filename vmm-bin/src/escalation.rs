//! `--shutdown-timeout`: a SIGTERM asks the guest first, and the VM ends when it has not answered
//! in time.
//!
//! ```text
//!   SIGTERM ──▶ power button ──(the guest powers off)──▶ end
//!                    └─(timeout, or another signal)──▶ quit ──▶ end
//! ```
//!
//! What follows when, the lifecycle's [`Ladder`] says; here is the clock that it goes by.
//!
//! The rule that must never be broken: a signal is never forgotten: whatever the guest does, the VM
//! ends.

use std::time::{Duration, Instant};

use lifecycle::{Escalation, Ladder, Requests, Rung};
use log::info;
use runstate::RunState;

use crate::signals;

/// How a VM is led to its end.
#[derive(Debug)]
pub(crate) struct Ending {
    started: Instant,
    escalation: Escalation,
    ladder: Option<Ladder>,
}

impl Ending {
    /// A VM that nobody has asked to end. A guest that is asked to power off has this long.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            started: Instant::now(),
            escalation: Escalation {
                powerdown: timeout,
                // The tear-down has bounds of its own.
                quit: Duration::MAX,
            },
            ladder: None,
        }
    }

    /// How long the main loop may sleep for this.
    pub(crate) fn until_next(&self) -> Option<Duration> {
        let left = self.ladder?.next_in(self.started.elapsed())?;
        (left < Duration::MAX).then_some(left)
    }

    /// Does what is due by now, to a VM in this state.
    pub(crate) fn advance(&mut self, state: RunState, requests: &Requests) {
        let Some(signal) = signals::asked() else {
            return;
        };
        let now = self.started.elapsed();
        let escalation = self.escalation;
        let ladder = self.ladder.get_or_insert_with(|| {
            // A guest that does not run cannot heed its power button.
            let first = if state.is_running() {
                Rung::Powerdown
            } else {
                Rung::Quit
            };
            Ladder::new(escalation, first, now)
        });
        match ladder.due(now) {
            Some(Rung::Powerdown) => {
                let time = escalation.powerdown;
                info!(
                    "signal {signal}: the guest has {time:?} to power off",
                    signal = signal.number
                );
                requests.powerdown();
            }
            Some(Rung::Quit | Rung::Kill) => {
                requests.killed(signal.number, signal.pid);
            }
            None => {}
        }
    }
}
