//! A gdb stub: gdb attaches over a socket, and stops, looks at and drives the guest.
//!
//! ```text
//!   gdb <--socket--> transport ──▶ frames ──▶ session (gdbstub) ──▶ target ──▶ debugger
//!                                                │ wishes       software, hardware, arch
//!        vCPU exits ──▶ hits ──▶ Gdb ◀───────────┘                     │ cpus
//!                                 │ stop, start                       kvm ──▶ vCPUs, memory
//!                                 ▼
//!                             lifecycle
//! ```
//!
//! Run states are QEMU's: attaching and interrupting stop the VM as `paused`, a breakpoint, a
//! watchpoint or the end of a step as `debug`. It starts and stops through the lifecycle, and so the
//! monitor's clients hear STOP and RESUME.
//!
//! * A vCPU that has hit something holds, and leaves word. Whether it was the debugger's, the main
//!   loop finds out: an INT3 of the guest's own is given back to it without a stop.
//! * vCPUs that gdb does not let run are kept out of the guest one by one, while the VM runs.
//! * What vCPUs watch for is told to KVM when the VM starts, whoever starts it.
//!
//! The rule that must never be broken: without a client no vCPU watches for anything, no instruction
//! is replaced, and no exit costs more than it did.

mod arch;
mod cpus;
mod debugger;
#[cfg(test)]
mod fake;
mod frames;
mod hardware;
mod hits;
mod kvm;
mod session;
mod software;
mod target;
mod transport;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gdbstub::common::Signal;
use lifecycle::{Lifecycle, ShutdownCause, StateHandler};
use log::{info, warn};
use runstate::RunState;
use vcpu::{VcpuId, VcpuPause};

use self::debugger::{Action, Cause, Debugger};
use self::frames::{Frame, Frames};
use self::hardware::Purpose;
use self::kvm::KvmCpus;
use self::session::{Error, Session, Stop, Wish};
use self::transport::Transport;
use crate::doorbell::Doorbell;
use crate::endpoint::Endpoint;
use crate::events::Announcer;
use crate::machine::Vm;
use crate::main_loop::Subscriber;
use crate::platform::{self, Vcpu};

pub(crate) use self::arch::Description;
pub(crate) use self::hits::Hits;

/// How long vCPUs may take to leave the guest.
const PATIENCE: Duration = Duration::from_secs(5);

/// The stub, with or without a client.
#[derive(Debug)]
pub(crate) struct Gdb {
    transport: Rc<RefCell<Transport>>,
    session: Option<Session<KvmCpus>>,
    frames: Frames,
    debugger: Rc<RefCell<Debugger<KvmCpus>>>,
    cpus: KvmCpus,
    hits: Arc<Hits>,
    /// What vCPUs have stopped for and the client has not been told.
    stops: VecDeque<(u32, Cause)>,
    /// vCPUs that stay where they are while others run.
    kept_out: Vec<VcpuPause<Vcpu>>,
    /// It was this that stopped the VM.
    stopped: bool,
    lifecycle: Rc<Lifecycle<Vm, Announcer>>,
    _arms: StateHandler,
}

impl Gdb {
    /// A stub for this machine. `hits` is where its vCPUs leave word.
    ///
    /// # Errors
    /// When the process has no file descriptor left, and when clients do not come to `endpoint`.
    pub(crate) fn new(
        endpoint: Endpoint,
        description: Description,
        machine: Rc<platform::Machine>,
        lifecycle: Rc<Lifecycle<Vm, Announcer>>,
        hits: Arc<Hits>,
    ) -> std::io::Result<Self> {
        let cpus = KvmCpus(machine);
        let debugger = Debugger::new(cpus.clone(), description);
        let debugger = Rc::new(RefCell::new(debugger));
        let arms = Rc::clone(&debugger);
        let arms = lifecycle.add_state_handler(0, move |notice| {
            let mut debugger = arms.borrow_mut();
            if !notice.running {
                // Steps are for one start.
                debugger.all_do(Action::Continue);
            } else if debugger.arm().is_err() {
                warn!("gdb: not every vCPU knows of the breakpoints");
            }
        });
        let resets = Rc::clone(&debugger);
        lifecycle
            .machine()
            .on_reset(move || resets.borrow_mut().after_reset());
        Ok(Self {
            transport: Transport::new(endpoint, Arc::new(Doorbell::new()?))?,
            session: None,
            frames: Frames::new(),
            debugger,
            cpus,
            hits,
            stops: VecDeque::new(),
            kept_out: Vec::new(),
            stopped: false,
            lifecycle,
            _arms: arms,
        })
    }

    /// The part that the event loop calls.
    pub(crate) fn subscriber(&self) -> Subscriber {
        Rc::<RefCell<Transport>>::clone(&self.transport)
    }

    /// Looks at what vCPUs have hit, and does what the client asks for: one packet of it. To be called
    /// before the lifecycle's turn, which serves the stop that a hit leads to.
    pub(crate) fn serve(&mut self) {
        if self.collect() && self.session.is_some() && self.is_live() {
            self.lifecycle.requests().debug();
            return;
        }
        if self.session.is_none() {
            self.attach();
        }
        if self.session.is_none() {
            return;
        }
        if let Err(error) = self.frame() {
            warn!("gdb: {error}; the client is disconnected");
            self.transport.borrow_mut().hang_up();
        }
        if self.session.is_some() && self.transport.borrow().is_over() {
            info!("gdb: the client has gone");
            self.leave(self.stopped);
        }
    }

    /// Tells a client that waits for it that the VM has stopped. To be called after the lifecycle's
    /// turn.
    pub(crate) fn report(&mut self) {
        let waits = self.session.as_ref().is_some_and(Session::is_running);
        if !waits || self.is_live() {
            return;
        }
        // A vCPU may have come to it while the others were stopped.
        self.collect();
        self.kept_out.clear();
        let state = self.lifecycle.state();
        self.stopped |= state == RunState::Debug;
        let stop = match self.stops.pop_front() {
            Some((cpu, cause)) => Stop::Cause(cpu, cause),
            None => Stop::Signal(signal(state)),
        };
        self.tell(stop);
    }

    /// Tells a client that waits for the guest how the VM has ended.
    pub(crate) fn exited(&mut self, code: u8) {
        if let Some(session) = &mut self.session
            && session.is_running()
            && let Err(error) = session.exited(&mut self.debugger.borrow_mut(), code)
        {
            warn!("gdb: {error}");
        }
        self.transport.borrow_mut().hang_up();
    }

    fn is_live(&self) -> bool {
        self.lifecycle.state().is_live()
    }

    fn deadline() -> Option<Instant> {
        Instant::now().checked_add(PATIENCE)
    }

    /// Finds out what vCPUs have hit, and whether it was for the debugger. The guest gets back what is
    /// its own.
    fn collect(&mut self) -> bool {
        let before = self.stops.len();
        for (cpu, hit) in self.hits.take() {
            let debugger = self.debugger.borrow();
            match debugger.cause(cpu, &hit) {
                Cause::Guest(exception) => {
                    // Its failure is in the log; without the exception it meets the instruction again.
                    drop(debugger.pass_on(cpu, exception));
                    if let Some(vcpu) = self.cpus.set().get(VcpuId(cpu)) {
                        vcpu.release_hold();
                    }
                }
                cause => self.stops.push_back((cpu, cause)),
            }
        }
        self.stops.len() > before
    }

    /// Takes a new client, if there is one.
    fn attach(&mut self) {
        let Some(output) = self.transport.borrow().output() else {
            return;
        };
        info!("gdb: a client");
        self.frames = Frames::new();
        self.stopped = false;
        let session = self
            .stop()
            .and_then(|()| Session::new(&mut self.debugger.borrow_mut(), output));
        match session {
            Ok(session) => self.session = Some(session),
            Err(error) => {
                warn!("gdb: {error}; the client is disconnected");
                self.transport.borrow_mut().hang_up();
            }
        }
    }

    /// Stops the VM, if it runs.
    fn stop(&mut self) -> Result<(), Error> {
        if self.is_live() {
            self.lifecycle.stop(RunState::Paused)?;
            self.stopped = true;
            self.kept_out.clear();
        }
        Ok(())
    }

    /// Takes one frame and serves it.
    fn frame(&mut self) -> Result<(), Error> {
        let mut frame = None;
        let mut taken = false;
        while frame.is_none() {
            let Some(byte) = self.transport.borrow_mut().next() else {
                break;
            };
            taken = true;
            frame = self.frames.push(byte)?;
        }
        match frame {
            None => {}
            Some(Frame::Damaged) => {
                if let Some(session) = &mut self.session {
                    session.ask_again()?;
                }
            }
            // `report` tells the client. A guest that stands has stopped just now for another reason,
            // which the client has been told.
            Some(Frame::Interrupt) => self.stop()?,
            Some(Frame::Packet(body)) => self.packet(&body)?,
        }
        if taken {
            self.transport.borrow_mut().flush();
        }
        Ok(())
    }

    fn packet(&mut self, body: &[u8]) -> Result<(), Error> {
        // The monitor may have started the guest, of which the client knows nothing: it finds it
        // stopped.
        self.stop()?;
        self.report();
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let wish = session.packet(&mut self.debugger.borrow_mut(), body)?;
        match wish {
            Wish::None => {}
            Wish::Resume => self.resume(),
            Wish::Kill => {
                info!("gdb: the client ends the VM");
                self.lifecycle
                    .requests()
                    .post_poweroff(ShutdownCause::HostUi);
                self.session = None;
                self.transport.borrow_mut().hang_up();
            }
            Wish::Detach => {
                info!("gdb: the client detaches");
                self.leave(true);
            }
        }
        Ok(())
    }

    /// Starts the VM, with the vCPUs that the client named.
    fn resume(&mut self) {
        // A breakpoint that another vCPU has come to is come to again; a watchpoint is not.
        let watched = self.stops.drain(..).find(|(_, cause)| {
            matches!(cause, Cause::Hardware(purpose @ Purpose::Watch { .. })
                if self.debugger.borrow().hardware.is_for(*purpose))
        });
        if let Some((cpu, cause)) = watched {
            return self.tell(Stop::Cause(cpu, cause));
        }
        let actions = self.debugger.borrow_mut().set_out();
        for (cpu, _) in (0..).zip(actions).filter(|(_, does)| *does == Action::Stay) {
            let vcpu = self.cpus.set().get(VcpuId(cpu));
            match vcpu.map(|vcpu| vcpu.pause(Self::deadline())) {
                Some(Ok(pause)) => self.kept_out.push(pause),
                Some(Err(error)) => warn!("gdb: {error}"),
                None => {}
            }
        }
        match self.lifecycle.start() {
            Ok(_) => self.stopped = false,
            Err(error) => {
                warn!("gdb: the VM does not start: {error}");
                self.kept_out.clear();
                self.tell(Stop::Signal(signal(self.lifecycle.state())));
            }
        }
    }

    fn tell(&mut self, stop: Stop) {
        let Some(session) = &mut self.session else {
            return;
        };
        let told = session.stopped(&mut self.debugger.borrow_mut(), stop);
        match told {
            Ok(()) => self.transport.borrow_mut().flush(),
            Err(error) => {
                warn!("gdb: {error}; the client is disconnected");
                self.transport.borrow_mut().hang_up();
            }
        }
    }

    /// Ends the session: no breakpoint is left, and the guest runs if `start` says so.
    fn leave(&mut self, start: bool) {
        let pause = self
            .is_live()
            .then(|| self.cpus.set().pause_all(Self::deadline()));
        if let Some(Err(error)) = &pause {
            warn!("gdb: {error}");
        }
        self.collect();
        self.stops.clear();
        {
            let mut debugger = self.debugger.borrow_mut();
            debugger.clear();
            drop(debugger.arm());
        }
        self.session = None;
        self.kept_out.clear();
        self.transport.borrow_mut().hang_up();
        // A vCPU that holds for the debugger is let go by the end of this pause.
        drop(pause);
        if start
            && !self.is_live()
            && let Err(error) = self.lifecycle.start()
        {
            warn!("gdb: the VM stays stopped: {error}");
        }
        self.stopped = false;
    }
}

/// The signal by which QEMU's stub tells why the VM has stopped.
fn signal(state: RunState) -> Signal {
    match state {
        RunState::Debug => Signal::SIGTRAP,
        RunState::Paused => Signal::SIGINT,
        RunState::Shutdown => Signal::SIGQUIT,
        RunState::InternalError => Signal::SIGABRT,
        RunState::Watchdog => Signal::SIGALRM,
        RunState::IoError => Signal::SIGIO,
        _ => Signal::UNKNOWN,
    }
}
