//! One client's session: gdbstub's state machine, told when the guest stops.
//!
//! ```text
//!             packet that resumes
//!   stopped ------------------------> running
//!      ^  <------------------------------|
//!      |      stopped()                  | exited()
//!      '-- any other packet: an answer   v
//!          kill, detach ------------> ended
//! ```
//!
//! The rule that must never be broken: a session does nothing to the machine. It says what the client
//! wants ([`Wish`]), and is told what came of it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::rc::Rc;

use gdbstub::common::Signal;
use gdbstub::conn::Connection;
use gdbstub::stub::state_machine::GdbStubStateMachine;
use gdbstub::stub::{DisconnectReason, GdbStub, GdbStubError, MultiThreadStopReason};

use super::cpus::Cpus;
use super::debugger::{Cause, Debugger};
use super::frames::{self, framed};
use super::hardware::Purpose;
use super::target::tid;

/// The most bytes that wait for a client. An answer is a few kilobytes; none is begun before the
/// last one has gone.
const MOST_OUTPUT: usize = 64 * 1024;

/// What is on its way to the client.
#[derive(Debug, Clone, Default)]
pub(super) struct Output(Rc<RefCell<VecDeque<u8>>>);

/// There is more for the client than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer has more than {MOST_OUTPUT} bytes")]
pub(super) struct Overflow;

impl Output {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// What waits, as far as it lies in one piece.
    pub(super) fn front(&self) -> Vec<u8> {
        self.0.borrow().as_slices().0.to_vec()
    }

    /// So many bytes have gone.
    pub(super) fn sent(&self, count: usize) {
        let mut waiting = self.0.borrow_mut();
        let count = count.min(waiting.len());
        drop(waiting.drain(..count));
    }
}

impl Connection for Output {
    type Error = Overflow;

    fn write(&mut self, byte: u8) -> Result<(), Overflow> {
        let mut waiting = self.0.borrow_mut();
        if waiting.len() >= MOST_OUTPUT {
            return Err(Overflow);
        }
        waiting.push_back(byte);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Overflow> {
        Ok(())
    }
}

/// What a client wants done to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// The vCPUs are to do what the debugger's actions say.
    Resume,
    /// The VM is to end.
    Kill,
    /// The client leaves, and the guest is to run.
    Detach,
}

/// Why the guest stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// A vCPU stopped for the debugger.
    Cause(u32, Cause),
    /// The machine was stopped by somebody.
    Signal(Signal),
}

/// Why a session cannot go on; for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// What the client sends is not understood.
    #[error(transparent)]
    Frame(#[from] frames::Error),
    /// The machine does not stop for the client.
    #[error("the VM does not stop: {0}")]
    Machine(#[from] lifecycle::Error),
    /// gdbstub gives up.
    #[error("{0}")]
    Stub(String),
}

impl From<GdbStubError<Infallible, Overflow>> for Error {
    fn from(error: GdbStubError<Infallible, Overflow>) -> Self {
        Self::Stub(error.to_string())
    }
}

type Stub<C> = GdbStubStateMachine<'static, Debugger<C>, Output>;

/// One client's session.
pub(super) struct Session<C: Cpus> {
    /// `None` when it has ended.
    stub: Option<Stub<C>>,
    output: Output,
}

impl<C: Cpus> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl<C: Cpus> Session<C> {
    /// A session that begins with a guest that is stopped. Answers go to `output`.
    ///
    /// # Errors
    /// What gdbstub says.
    pub(super) fn new(debugger: &mut Debugger<C>, output: Output) -> Result<Self, Error> {
        let built = GdbStub::builder(output.clone())
            .packet_buffer_size(frames::LONGEST)
            .build();
        let built = built.map_err(|error| Error::Stub(error.to_string()))?;
        Ok(Self {
            stub: Some(built.run_state_machine(debugger)?),
            output,
        })
    }

    /// Whether the client believes that the guest runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.stub, Some(GdbStubStateMachine::Running(_)))
    }

    /// Asks for the last packet again.
    ///
    /// # Errors
    /// [`Overflow`].
    pub(super) fn ask_again(&mut self) -> Result<(), Error> {
        let asked = self.output.write(b'-');
        asked.map_err(|error| Error::Stub(error.to_string()))
    }

    /// Answers a packet.
    ///
    /// # Errors
    /// See [`Error`]: the session has ended.
    pub(super) fn packet(
        &mut self,
        debugger: &mut Debugger<C>,
        body: &[u8],
    ) -> Result<Wish, Error> {
        let was_running = self.is_running();
        for byte in framed(body) {
            self.stub = match self.stub.take() {
                Some(GdbStubStateMachine::Idle(stub)) => Some(stub.incoming_data(debugger, byte)?),
                Some(GdbStubStateMachine::Running(stub)) => {
                    Some(stub.incoming_data(debugger, byte)?)
                }
                // Interrupts do not come this way, and after the end there is no answer.
                Some(GdbStubStateMachine::CtrlCInterrupt(_)) | None => None,
                ended => ended,
            };
        }
        match &self.stub {
            Some(GdbStubStateMachine::Running(_)) if !was_running => Ok(Wish::Resume),
            Some(GdbStubStateMachine::Disconnected(stub)) => {
                let wish = match stub.get_reason() {
                    DisconnectReason::Kill => Wish::Kill,
                    _ => Wish::Detach,
                };
                self.stub = None;
                if body.starts_with(b"vKill") {
                    // gdbstub leaves this answer to those that go on after a kill.
                    for byte in framed(b"OK") {
                        self.output
                            .write(byte)
                            .map_err(|error| Error::Stub(error.to_string()))?;
                    }
                }
                Ok(wish)
            }
            _ => Ok(Wish::None),
        }
    }

    /// Tells a client that believes the guest to run that it does not.
    ///
    /// # Errors
    /// See [`Error`]: the session has ended.
    pub(super) fn stopped(&mut self, debugger: &mut Debugger<C>, stop: Stop) -> Result<(), Error> {
        if let Stop::Cause(cpu, _) = stop {
            debugger.focus = cpu;
        }
        let reason = match stop {
            Stop::Cause(cpu, cause) => reason(cpu, cause),
            Stop::Signal(signal) => MultiThreadStopReason::SignalWithThread {
                tid: tid(debugger.focus),
                signal,
            },
        };
        self.report(debugger, reason)
    }

    /// Tells a client that waits for the guest that the VM has ended.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn exited(&mut self, debugger: &mut Debugger<C>, code: u8) -> Result<(), Error> {
        self.report(debugger, MultiThreadStopReason::Exited(code))
    }

    fn report(
        &mut self,
        debugger: &mut Debugger<C>,
        reason: MultiThreadStopReason<u64>,
    ) -> Result<(), Error> {
        self.stub = match self.stub.take() {
            Some(GdbStubStateMachine::Running(stub)) => Some(stub.report_stop(debugger, reason)?),
            other => other,
        };
        Ok(())
    }
}

/// A cause in gdbstub's words.
fn reason(cpu: u32, cause: Cause) -> MultiThreadStopReason<u64> {
    let tid = tid(cpu);
    match cause {
        Cause::Software => MultiThreadStopReason::SwBreak(tid),
        Cause::Hardware(Purpose::Execute(_)) => MultiThreadStopReason::HwBreak(tid),
        Cause::Hardware(Purpose::Watch { address, kind, .. }) => MultiThreadStopReason::Watch {
            tid,
            kind,
            addr: address,
        },
        Cause::Step | Cause::Guest(_) => MultiThreadStopReason::SignalWithThread {
            tid,
            signal: Signal::SIGTRAP,
        },
    }
}

#[cfg(test)]
mod tests;
