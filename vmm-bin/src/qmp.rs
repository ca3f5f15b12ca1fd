//! The monitor: QMP on any streams, with the run-state commands bound to this VM's lifecycle.
//!
//! The rule that must never be broken: no command decides anything; the lifecycle does.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lifecycle::{EventSink, Lifecycle, Turn};
use log::warn;
use monitor::dump::{self, DumpContext, DumpQueryResult, DumpRequest};
use monitor::jobs::Jobs;
use monitor::run_state::{CpuInfo, Identity, RunStateContext, register};
use monitor::{CommandError, EventSender, Registry, Server, Version};

use crate::console::{self, Commands};
use crate::dump::{Desk, Dumps};
use crate::endpoint::Endpoint;
use crate::events::{Announcer, Emit};
use crate::inventory::Facts;
use crate::machine::{Vm, threads};
use crate::main_loop::Subscriber;
use crate::{platform, sandbox};

/// How long a vCPU may take to show its registers; the main loop waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the commands work on.
pub(crate) struct Context {
    lifecycle: Rc<Lifecycle<Vm, Announcer>>,
    machine: Rc<platform::Machine>,
    identity: Identity,
    facts: Facts,
    sandbox: Option<sandbox::Status>,
    threads: OnceCell<Vec<(u32, u32)>>,
    jobs: Jobs<Context>,
    dumps: Dumps,
}

impl Context {
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }
}

impl sandbox::Sandboxed for Context {
    fn sandbox(&self) -> Option<&sandbox::Status> {
        self.sandbox.as_ref()
    }
}

impl RunStateContext for Context {
    type Machine = Vm;
    type Sink = Announcer;

    fn lifecycle(&self) -> &Lifecycle<Vm, Announcer> {
        &self.lifecycle
    }

    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn registers(&mut self, cpu: u32) -> Result<String, CommandError> {
        let deadline = Instant::now().checked_add(PATIENCE);
        match self.machine.registers(cpu, deadline) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Ok("a CPU that executes nothing has no registers\n".to_owned()),
            Err(error) => Err(CommandError::generic(error.to_string())),
        }
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        // A vCPU keeps its thread: they are asked once.
        let threads = self.threads.get_or_init(|| threads(&self.machine));
        threads
            .iter()
            .map(|&(index, thread_id)| CpuInfo { index, thread_id })
            .collect()
    }

    fn dump_in_progress(&self) -> bool {
        self.dumps.is_active()
    }
}

impl DumpContext for Context {
    fn dump(&mut self, request: &DumpRequest) -> Result<(), CommandError> {
        self.dumps
            .dump(request, &self.lifecycle, &self.machine, &self.jobs)
    }

    fn admit_dump(&self) -> Result<(), CommandError> {
        if self.dumps.is_active() {
            let text = "There is a dump in process, please wait.";
            return Err(CommandError::generic(text));
        }
        Ok(())
    }

    fn dump_progress(&self) -> DumpQueryResult {
        self.dumps.progress()
    }
}

/// The commands for people.
pub(crate) fn commands() -> Commands {
    let mut commands = monitor::run_state::console(&version());
    dump::add_commands(&mut commands);
    commands
}

/// The server, before there is a VM to command.
pub(crate) struct Listening {
    server: Rc<RefCell<Server<Context>>>,
    events: EventSender,
    jobs: Jobs<Context>,
}

impl Listening {
    /// Serves the clients of `endpoints`.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn on(endpoints: Vec<Endpoint>) -> Result<Self, monitor::Error> {
        let mut registry = Registry::new(version());
        register(&mut registry);
        monitor::inventory::register(&mut registry);
        sandbox::register(&mut registry);
        dump::register(&mut registry);
        let jobs = registry.jobs();
        commands().register(&mut registry, |context: &Context| {
            context.cpus().iter().map(|cpu| cpu.index).collect()
        });
        let mut server = Server::new(registry)?;
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Unix(socket) => server.listen(socket),
                Endpoint::Tcp(listener) => server.listen_tcp(listener)?,
                Endpoint::Listening(listener) => server.listen_on(listener)?,
                Endpoint::Connected(stream) => server.add_client(stream)?,
                Endpoint::Stdio { input, output } => server.add_pair(input, output)?,
            }
        }
        let events = server.emitter();
        Ok(Self {
            server: Rc::new(RefCell::new(server)),
            events,
            jobs,
        })
    }

    /// Where the lifecycle's events go.
    pub(crate) fn emit(&self) -> Emit {
        let events = self.events.clone();
        Box::new(move |event| EventSink::event(&events, event))
    }

    /// Gives the clients a VM to command.
    pub(crate) fn command(
        self,
        lifecycle: Rc<Lifecycle<Vm, Announcer>>,
        machine: Rc<platform::Machine>,
        identity: Identity,
        facts: Facts,
        desk: Option<Desk>,
    ) -> Monitor {
        let context = Context {
            lifecycle,
            machine,
            identity,
            facts,
            sandbox: None,
            threads: OnceCell::new(),
            jobs: self.jobs,
            dumps: Dumps::new(desk, self.events),
        };
        Monitor {
            server: self.server,
            consoles: Vec::new(),
            context,
        }
    }
}

/// The server, people's consoles, and the VM.
pub(crate) struct Monitor {
    server: Rc<RefCell<Server<Context>>>,
    consoles: Vec<console::Shared>,
    context: Context,
}

impl Monitor {
    /// The part that the event loop calls.
    pub(crate) fn subscriber(&self) -> Subscriber {
        Rc::<RefCell<Server<Context>>>::clone(&self.server)
    }

    /// The server, for the end.
    pub(crate) fn server(&self) -> Rc<RefCell<Server<Context>>> {
        Rc::clone(&self.server)
    }

    /// Gives these consoles their turns too.
    pub(crate) fn with_consoles(mut self, consoles: Vec<console::Shared>) -> Self {
        self.consoles = consoles;
        self
    }

    /// Tells how this program is confined, for who asks.
    pub(crate) fn confined(&mut self, status: sandbox::Status) {
        self.context.sandbox = Some(status);
    }

    /// Whether the guest's memory is being written to a file.
    pub(crate) fn is_dumping(&self) -> bool {
        self.context.dumps.is_active()
    }

    /// Ends what takes long: nobody will hear of it any more.
    pub(crate) fn cancel_all(&self) {
        self.context.dumps.cancel();
        self.context.jobs.cancel_all();
    }

    /// Executes at most one command of each client, and one line of each console.
    pub(crate) fn dispatch(&mut self) {
        self.context.dumps.advance(&self.context.lifecycle);
        for console in &self.consoles {
            console.borrow_mut().dispatch(&mut self.context);
        }
        let mut server = self.server.borrow_mut();
        server.dispatch(&mut self.context);
        while let Some(error) = server.take_error() {
            warn!("monitor: {error}");
        }
    }

    /// Sends the events of this turn, and the replies. At the end the consoles say their last words
    /// instead, when they are flushed.
    pub(crate) fn finish_turn(&self, turn: &Turn) {
        self.server.borrow_mut().finish_turn();
        if matches!(turn, Turn::Continue) {
            for console in &self.consoles {
                console.borrow_mut().finish_turn();
            }
        }
    }
}

/// What greeting and `query-version` say: the version of this program.
pub(crate) fn version() -> Version {
    let part = |text: &str| text.parse().unwrap_or(0);
    Version::new(
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
        "vmm-bin",
    )
}
