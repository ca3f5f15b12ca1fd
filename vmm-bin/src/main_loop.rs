//! The main loop: one thread that owns the VM's lifecycle and sleeps until somebody wants
//! something.
//!
//! ```text
//!   ┌─▶ event manager   serial line, monitor sockets, bells (device timers, posted requests)
//!   │   devices         what is due by now
//!   │   monitor, qtest  one command of each client
//!   │   gdb             one packet, and what vCPUs have stopped for
//!   │   lifecycle       what the commands, the guest and the signals have latched
//!   │   monitor, qtest  events, then replies
//!   └── unless the lifecycle says that the process ends
//! ```
//!
//! The rule that must never be broken: only this thread changes the run state, and nothing in a
//! turn waits for the outside world.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use lifecycle::{ExitStatus, Lifecycle, Turn};
use log::error;
use runstate::RunState;
use vmm_sys_util::epoll::EventSet;

use crate::doorbell::Doorbell;
use crate::escalation::Ending;
use crate::events::Announcer;
use crate::gdb::Gdb;
use crate::machine::{Time, Vm, heed_alarm};
use crate::platform;
use crate::qmp::Monitor;
use crate::qtest::Qtest;

/// What the event manager calls.
pub(crate) type Subscriber = Rc<RefCell<dyn MutEventSubscriber>>;

/// Why the main loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The event loop is broken.
    #[error("the event loop failed: {0}")]
    Events(#[from] event_manager::Error),
    /// The lifecycle found itself in a state that cannot be.
    #[error("the lifecycle failed: {0}")]
    Lifecycle(runstate::InvalidTransition<runstate::RunState>),
}

/// The main loop of one VM.
pub(crate) struct MainLoop {
    events: EventManager<Subscriber>,
    ending: Option<Ending>,
}

impl std::fmt::Debug for MainLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MainLoop").finish_non_exhaustive()
    }
}

impl MainLoop {
    /// A loop that wakes up when `bell` rings.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn new(bell: Arc<Doorbell>) -> Result<Self, Error> {
        let mut this = Self {
            events: EventManager::new_with_capacity(MOST_EVENTS)?,
            ending: None,
        };
        this.add(Rc::new(RefCell::new(Ear(bell))));
        Ok(this)
    }

    /// Lets `subscriber` take part.
    pub(crate) fn add(&mut self, subscriber: Subscriber) {
        self.events.add_subscriber(subscriber);
    }

    /// Lets a guest that is asked to end have this long for it.
    pub(crate) fn ask_first(&mut self, timeout: Duration) {
        self.ending = Some(Ending::new(timeout));
    }

    /// Runs until the lifecycle says how the process ends.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn run(
        &mut self,
        lifecycle: &Lifecycle<Vm, Announcer>,
        machine: &platform::Machine,
        mut monitor: Option<&mut Monitor>,
        mut qtest: Option<&mut Qtest>,
        mut gdb: Option<&mut Gdb>,
    ) -> Result<ExitStatus, Error> {
        loop {
            lifecycle.sink().flush_trace();
            let before = lifecycle.state();
            let time = Time::of(before, lifecycle.requests());
            let sleep = time.until_next_deadline(machine);
            let patience = self.ending.as_ref().and_then(Ending::until_next);
            let sleep = sleep.into_iter().chain(patience).min();
            self.events.run_with_timeout(milliseconds(sleep))?;
            time.tick(machine);
            if let Some(ending) = &mut self.ending {
                ending.advance(lifecycle.state(), lifecycle.requests());
            }
            if let Some(monitor) = &mut monitor {
                monitor.dispatch();
            }
            if let Some(qtest) = &mut qtest {
                qtest.dispatch(machine, lifecycle.state(), lifecycle.requests());
            }
            // A debugger waits while memory is written: it could change it, or start the VM.
            let dumping = monitor.as_ref().is_some_and(|monitor| monitor.is_dumping());
            let mut gdb = gdb.as_mut().filter(|_| !dumping);
            if let Some(gdb) = &mut gdb {
                gdb.serve();
            }
            let turn = lifecycle.dispatch();
            if let Some(gdb) = &mut gdb {
                gdb.report();
            }
            if lifecycle.state() == RunState::Suspended && before != RunState::Suspended {
                heed_alarm(machine, lifecycle.requests());
            }
            if let Some(monitor) = &mut monitor {
                monitor.finish_turn(&turn);
            }
            if let Some(qtest) = &mut qtest {
                let last = turn != Turn::Continue;
                qtest.finish_turn(machine, lifecycle.requests(), last);
            }
            match turn {
                Turn::Continue => {}
                Turn::Exit(status) => return Ok(status),
                Turn::Abort(transition) => return Err(Error::Lifecycle(transition)),
            }
        }
    }
}

/// How many events one look at the event loop may bring.
const MOST_EVENTS: usize = 32;

/// A timeout for `epoll_wait(2)`: rounded up, so that a deadline has passed when it returns; -1
/// waits for ever.
fn milliseconds(sleep: Option<Duration>) -> i32 {
    let Some(sleep) = sleep else { return -1 };
    let whole = sleep.as_nanos().div_ceil(1_000_000);
    i32::try_from(whole).unwrap_or(i32::MAX)
}

/// Hears a bell and does nothing else: that the loop turns is all that is wanted.
struct Ear(Arc<Doorbell>);

impl MutEventSubscriber for Ear {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&*self.0, EventSet::IN)) {
            error!("the main loop cannot hear: {error}");
        }
    }

    fn process(&mut self, events: Events, _ops: &mut EventOps) {
        debug_assert_eq!(events.fd(), self.0.as_raw_fd());
        self.0.silence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_slept_past_nor_spun_on() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::from_millis(2))), 2);
        assert_eq!(milliseconds(Some(Duration::MAX)), i32::MAX);
    }
}
