//! The guest's lines: each from its device to the far end that the user asked for.
//!
//! The rule that must never be broken: a line is connected before the guest runs, and flushed after
//! it has stopped.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle::{Requests, ShutdownCause, WakeupReason};
use monitor::MonitorSocket;

use crate::cli::{Config, Guest, SerialTarget};
use crate::error::Error;
use crate::main_loop::{MainLoop, Subscriber};
use crate::platform;
use crate::serial::{
    Backend, FileBackend, KeyAction, Line, NullBackend, Receiver, SocketBackend, StdioBackend,
};
use crate::terminal::{Interrupt, RawMode};

/// Makes the terminal raw, if the guest's serial line is on one.
pub(crate) fn raw_mode(config: &Config) -> std::io::Result<Option<RawMode>> {
    if config.serial != SerialTarget::Stdio {
        return Ok(None);
    }
    RawMode::enter(match config.guest {
        Guest::Embedded => Interrupt::Host,
        _ => Interrupt::Guest,
    })
}

/// The UART's input.
struct Uart {
    machine: Rc<platform::Machine>,
    /// Where a byte asks to wake a guest that sleeps, if it may.
    wakes: Option<Arc<Requests>>,
}

impl Receiver for Uart {
    fn room(&self) -> usize {
        self.machine.serial().input_room()
    }

    fn receive(&self, bytes: &[u8]) -> usize {
        if let Some(requests) = self.wakes.as_ref().filter(|_| !bytes.is_empty()) {
            // A guest that is awake cannot be woken, and need not be.
            drop(requests.wakeup(WakeupReason::Other));
        }
        self.machine.serial().input(bytes)
    }
}

/// The far ends of the guest's lines, and the loop that serves them.
pub(crate) struct Lines {
    /// The loop.
    pub(crate) main_loop: MainLoop,
    backends: Vec<Rc<RefCell<dyn Backend>>>,
}

impl Lines {
    /// No lines yet.
    pub(crate) fn new(main_loop: MainLoop) -> Self {
        Self {
            main_loop,
            backends: Vec::new(),
        }
    }

    fn connect(&mut self, backend: impl Backend + 'static) {
        let backend: Rc<RefCell<_>> = Rc::new(RefCell::new(backend));
        let subscriber: Subscriber = backend.clone();
        self.main_loop.add(subscriber);
        self.backends.push(backend);
    }

    /// Has what comes over `line` written to the file that `option` names.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub(crate) fn connect_file(
        &mut self,
        option: &'static str,
        path: &Path,
        line: &Line,
    ) -> Result<(), Error> {
        let opened = FileBackend::open(path, line);
        let path = path.to_owned();
        self.connect(opened.map_err(|source| Error::OutputFile {
            option,
            path,
            source,
        })?);
        Ok(())
    }

    /// Connects COM1 to what the configuration says; `socket` is bound if that is a socket.
    ///
    /// # Errors
    /// When it cannot be opened or served.
    pub(crate) fn connect_serial(
        &mut self,
        config: &Config,
        socket: Option<&MonitorSocket>,
        line: &Line,
        machine: &Rc<platform::Machine>,
        requests: &Arc<Requests>,
        on_terminal: bool,
    ) -> Result<(), Error> {
        let uart = || {
            Rc::new(Uart {
                machine: Rc::clone(machine),
                wakes: config.serial_wakes.then(|| Arc::clone(requests)),
            })
        };
        match &config.serial {
            SerialTarget::Stdio => {
                let requests = Arc::clone(requests);
                let quit: KeyAction = Box::new(move || {
                    requests.post_poweroff(ShutdownCause::HostUi);
                });
                self.connect(StdioBackend::new(line, uart(), on_terminal.then_some(quit)));
            }
            SerialTarget::Unix(_) => {
                let failed = |source| Error::Listener {
                    option: "--serial",
                    source,
                };
                if let Some(socket) = socket {
                    let listener = socket.listener().try_clone().map_err(failed)?;
                    self.connect(SocketBackend::new(listener, line, uart()).map_err(failed)?);
                }
            }
            SerialTarget::File(path) => self.connect_file("--serial", path, line)?,
            SerialTarget::Null => self.connect(NullBackend::new(line)),
        }
        Ok(())
    }

    /// What must be flushed at the end.
    pub(crate) fn into_backends(self) -> Vec<Rc<RefCell<dyn Backend>>> {
        self.backends
    }
}
