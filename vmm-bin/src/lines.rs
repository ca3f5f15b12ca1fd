//! The guest's lines: each from its device to the far end that the user asked for.
//!
//! The rule that must never be broken: a line is connected before the guest runs, and flushed after
//! it has stopped.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use lifecycle::{Requests, ShutdownCause, WakeupReason};

use crate::cli::{Address, Config, Guest, SerialTarget};
use crate::console::{self, Commands, Console, StreamConsole};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::main_loop::{MainLoop, Subscriber};
use crate::platform;
use crate::qmp;
use crate::serial::{
    Backend, FileBackend, Keyboard, Line, NullBackend, Receiver, SocketBackend, StdioBackend,
};
use crate::terminal::{Interrupt, RawMode};

/// Makes the terminal raw, if the guest's serial line or a console is on one.
pub(crate) fn raw_mode(config: &Config) -> std::io::Result<Option<RawMode>> {
    RawMode::enter(match (&config.serial, &config.guest) {
        (SerialTarget::Stdio, Guest::Embedded) => Interrupt::Host,
        (SerialTarget::Stdio | SerialTarget::StdioWithMonitor, _) => Interrupt::Guest,
        _ if config.monitor.contains(&Address::Stdio) => Interrupt::Host,
        _ => return Ok(None),
    })
}

/// The UART's input.
struct Uart {
    machine: Rc<platform::Machine>,
    /// Where a byte asks to wake a guest that sleeps, if it may.
    wakes: Option<Arc<Requests>>,
}

impl Uart {
    fn wake(&self) {
        if let Some(requests) = &self.wakes {
            // A guest that is awake cannot be woken, and need not be.
            drop(requests.wakeup(WakeupReason::Other));
        }
    }
}

impl Receiver for Uart {
    fn room(&self) -> usize {
        self.machine.serial().input_room()
    }

    fn receive(&self, bytes: &[u8]) -> usize {
        if !bytes.is_empty() {
            self.wake();
        }
        self.machine.serial().input(bytes)
    }

    fn receive_break(&self) {
        self.wake();
        self.machine.serial().input_break();
    }
}

/// The far ends of the guest's lines, and the loop that serves them.
pub(crate) struct Lines {
    /// The loop.
    pub(crate) main_loop: MainLoop,
    backends: Vec<Rc<RefCell<dyn Backend>>>,
    /// The human monitor's commands.
    commands: Rc<Commands>,
    consoles: Vec<console::Shared>,
}

impl Lines {
    /// No lines yet.
    pub(crate) fn new(main_loop: MainLoop) -> Self {
        Self {
            main_loop,
            backends: Vec::new(),
            commands: Rc::new(qmp::commands()),
            consoles: Vec::new(),
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

    /// Connects COM1 to what the configuration says; `socket` is open if that is a socket.
    ///
    /// # Errors
    /// When it cannot be opened or served.
    pub(crate) fn connect_serial(
        &mut self,
        config: &Config,
        socket: Option<Endpoint>,
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
            SerialTarget::Stdio | SerialTarget::StdioWithMonitor => {
                let shared = config.serial == SerialTarget::StdioWithMonitor;
                let console = shared.then(|| Console::new(&self.commands, line.ringer()));
                self.consoles.extend(console.clone());
                let requests = Arc::clone(requests);
                let keyboard = (on_terminal || shared).then(|| Keyboard {
                    quit: Box::new(move || {
                        requests.post_poweroff(ShutdownCause::HostUi);
                    }),
                    console,
                });
                self.connect(StdioBackend::new(line, uart(), keyboard));
            }
            SerialTarget::Socket(_) => {
                let failed = |source| Error::Listener {
                    option: "--serial",
                    source,
                };
                if let Some(socket) = socket {
                    self.connect(SocketBackend::new(socket, line, uart()).map_err(failed)?);
                }
            }
            SerialTarget::File(path) => self.connect_file("--serial", path, line)?,
            SerialTarget::Null => self.connect(NullBackend::new(line)),
        }
        Ok(())
    }

    /// Lets people come to the human monitor through `endpoint`.
    ///
    /// # Errors
    /// When it cannot be served.
    pub(crate) fn connect_console(&mut self, endpoint: Endpoint) -> Result<(), Error> {
        let made = StreamConsole::new(endpoint, &self.commands);
        let (stream, console) = made.map_err(|source| Error::Listener {
            option: "--monitor",
            source,
        })?;
        self.connect(stream);
        self.consoles.push(console);
        Ok(())
    }

    /// The consoles, which get their turns from the main loop.
    pub(crate) fn consoles(&self) -> Vec<console::Shared> {
        self.consoles.clone()
    }

    /// What must be flushed at the end.
    pub(crate) fn into_backends(self) -> Vec<Rc<RefCell<dyn Backend>>> {
        self.backends
    }
}
