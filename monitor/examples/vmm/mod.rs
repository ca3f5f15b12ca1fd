//! A VMM without a guest: everything that a monitor's client can see, on no hypervisor at all.
//!
//! The main loop below is the one that a real VMM has, less the devices.

mod inventory;
mod long;

use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use lifecycle::{
    ExitStatus, Lifecycle, Machine, MachineError, PanicInfo, Requests, ShutdownCause, Turn, Wake,
};
use monitor::run_state::{CpuInfo, Identity, RunStateContext, register};
use monitor::{
    Command, CommandError, EventSender, MonitorSocket, NoArguments, Registry, Server, ServerLimits,
    Version,
};
use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The guest's memory, in bytes.
const MEMORY: usize = 8 << 20;

/// How long the last events and the reply to `quit` may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// A machine that has nothing to pause and nothing to reset, and takes an NMI with a smile.
struct SoftMachine;

impl Machine for SoftMachine {
    fn pause_vcpus(&self) -> Result<(), MachineError> {
        Ok(())
    }

    fn resume_vcpus(&self) {}

    fn reset_devices(&self, _: ShutdownCause) -> Result<(), MachineError> {
        Ok(())
    }

    fn inject_nmi(&self) -> Result<(), lifecycle::Error> {
        Ok(())
    }
}

/// What the commands work on.
struct Vmm {
    lifecycle: Lifecycle<SoftMachine, EventSender>,
    in_preconfig: bool,
    dump_in_progress: bool,
    memory: Arc<Vec<u8>>,
    checksum: u64,
}

impl RunStateContext for Vmm {
    type Machine = SoftMachine;
    type Sink = EventSender;

    fn lifecycle(&self) -> &Lifecycle<SoftMachine, EventSender> {
        &self.lifecycle
    }

    fn identity(&self) -> Identity {
        Identity {
            name: Some("soft".to_owned()),
            kvm: false,
            ..Identity::default()
        }
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        let thread_id = std::process::id();
        vec![
            CpuInfo {
                index: 0,
                thread_id,
            },
            CpuInfo {
                index: 1,
                thread_id,
            },
        ]
    }

    fn registers(&mut self, cpu: u32) -> Result<String, CommandError> {
        Ok(format!("R0={cpu}\n"))
    }

    fn in_preconfig(&self) -> bool {
        self.in_preconfig
    }

    fn dump_in_progress(&self) -> bool {
        self.dump_in_progress
    }
}

monitor::qapi! {
    /// What a guest can do.
    #[derive(serde::Deserialize)]
    enum Deed {
        Reset,
        Shutdown,
        Suspend,
        Panic,
        HyperVPanic,
        Crashload,
    }
}

monitor::qapi! {
    /// The arguments of the command `x-guest`.
    #[derive(serde::Deserialize)]
    struct Guest {
        deed: Deed,
        times: Option<u16>,
    }
}

/// A command of the VMM's own: it plays the guest.
fn x_guest(vmm: &mut Vmm, guest: Guest) -> Result<(), CommandError> {
    let requests = Arc::clone(vmm.lifecycle.requests());
    for _ in 0..guest.times.unwrap_or(1) {
        // No vCPU thread posts here, so none has to hold itself.
        let _ = match guest.deed {
            Deed::Reset => requests.reset(ShutdownCause::GuestReset),
            Deed::Shutdown => requests.shutdown(ShutdownCause::GuestShutdown),
            Deed::Suspend => requests.suspend(),
            Deed::Panic => requests.guest_panicked(None),
            Deed::HyperVPanic => {
                requests.guest_panicked(Some(PanicInfo::HyperV([1, 2, 3, 4, u64::MAX])))
            }
            Deed::Crashload => requests.guest_crashloaded(None),
        };
        // Each deed of several is served by itself, as if the guest went on in between.
        if guest.times.is_some() {
            vmm.lifecycle.dispatch();
        }
    }
    Ok(())
}

monitor::qapi! {
    /// Pretends that the machine is not initialised yet, or that its memory is being dumped.
    #[derive(serde::Deserialize)]
    struct Pretend {
        preconfig: Option<bool>,
        dump: Option<bool>,
    }
}

/// A command that is allowed before the machine is initialised.
fn x_pretend(vmm: &mut Vmm, pretend: Pretend) -> Result<(), CommandError> {
    vmm.in_preconfig = pretend.preconfig.unwrap_or(vmm.in_preconfig);
    vmm.dump_in_progress = pretend.dump.unwrap_or(vmm.dump_in_progress);
    Ok(())
}

/// The registry of this VMM.
fn registry() -> Registry<Vmm> {
    let mut registry = Registry::new(Version::new(7, 2, 0, "soft-vmm"));
    register(&mut registry);
    monitor::inventory::register(&mut registry);
    long::register(&mut registry);
    registry
        .described("x-guest", x_guest)
        .add(Command::out_of_band("x-ping", |_: NoArguments| Ok("pong")))
        .add(Command::described("x-pretend", x_pretend).allow_preconfig());
    registry
}

/// Wakes the main loop when somebody posts to a latch.
struct Waker(EventFd);

impl Wake for Waker {
    fn wake(&self) {
        self.0.write(1).ok();
    }
}

/// The main loop's side of the waker.
struct Woken(Arc<Waker>);

impl MutEventSubscriber for Woken {
    fn init(&mut self, ops: &mut EventOps) {
        if let Err(error) = ops.add(Events::new(&self.0.0, EventSet::IN)) {
            eprintln!("the latches cannot wake the main loop: {error}");
        }
    }

    fn process(&mut self, _: Events, _: &mut EventOps) {
        self.0.0.read().ok();
    }
}

/// Runs the VMM until something ends it.
pub(crate) fn run(
    sockets: Vec<MonitorSocket>,
    limits: ServerLimits,
) -> Result<ExitStatus, Box<dyn Error>> {
    let mut server = Server::with_limits(registry(), limits)?;
    for socket in sockets {
        server.listen(socket);
    }
    let waker = Arc::new(Waker(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?));
    let requests = Arc::new(Requests::new(waker.clone()));
    requests.register_wakeup_support();
    let lifecycle = Lifecycle::new(requests, SoftMachine, server.emitter());
    let mut vmm = Vmm {
        lifecycle,
        in_preconfig: false,
        dump_in_progress: false,
        memory: Arc::new(vec![0x5A; MEMORY]),
        checksum: 0,
    };

    let server = Rc::new(RefCell::new(server));
    let mut events: EventManager<Rc<RefCell<dyn MutEventSubscriber>>> = EventManager::new()?;
    let monitor = events.add_subscriber(server.clone());
    events.add_subscriber(Rc::new(RefCell::new(Woken(waker))));

    let status = loop {
        events.run()?;
        server.borrow_mut().dispatch(&mut vmm);
        match vmm.lifecycle.dispatch() {
            Turn::Continue => server.borrow_mut().finish_turn(),
            Turn::Exit(status) => break status,
            Turn::Abort(transition) => return Err(transition.to_string().into()),
        }
    };
    server.borrow_mut().close(PATIENCE);
    events.remove_subscriber(monitor)?;
    Ok(status)
}
