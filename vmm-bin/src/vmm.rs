//! One VM from its configuration to its end.
//!
//! ```text
//!   start-up                                      tear-down
//!   signals ─▶ PID file ─▶ sockets ─▶ machine     vCPUs stopped and joined ─▶ monitor flushed
//!   ─▶ terminal ─▶ sandbox ─▶ guest ─▶ loop ─▶    ─▶ serial line flushed ─▶ terminal, files
//! ```
//!
//! What order that is, the lifecycle's tables of phases say. Whatever fails on the way up is
//! undone, and whatever happens on the way down, it goes on to its end.
//!
//! From the sandbox on, the tear-down included, no thread can open a file, but the one for dumps.
//!
//! The rule that must never be broken: nothing is left behind: no socket, no PID file, no raw
//! terminal, no thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::Output;
use lifecycle::{
    ExitStatus, Lifecycle, Requests, ShutdownCause, Started, Startup, StartupPhase, Teardown,
    TeardownFailure, TeardownPhase,
};
use log::{info, trace, warn};
use monitor::run_state::Identity;
use vcpu::{VcpuEvent, VcpuId};

use crate::cli::{Accel, Address, Config, Guest, SerialTarget};
use crate::doorbell::Doorbell;
use crate::dump::Desk;
use crate::endpoint::{Endpoint, Inherited};
use crate::error::Error;
use crate::events::Announcer;
use crate::gdb::{Gdb, Hits};
use crate::inventory::Facts;
use crate::lines::{Lines, raw_mode};
use crate::machine::{Vm, fall_asleep, on_vcpu_event, press_power_button, say_why_woken};
use crate::main_loop::MainLoop;
use crate::pidfile::PidFile;
use crate::platform::{self, BootSource, FlatImage, KVM_DEVICE, KvmDevice};
use crate::power::Power;
use crate::qmp::{Listening, Monitor};
use crate::qtest::Qtest;
use crate::sender::Senders;
use crate::serial::{Backend, LAST_WORDS, Line};
use crate::trace::Recorder;
use crate::{guest, logging, sandbox, sender, signals};

/// How long each phase of the tear-down may take.
const TEARDOWN_BOUND: Duration = Duration::from_secs(2);

/// Wakes the main loop when something is posted.
struct Waker(Arc<Doorbell>);

impl lifecycle::Wake for Waker {
    fn wake(&self) {
        self.0.ring();
    }
}

/// What others can see of this VM, made before the VM itself.
struct Visible {
    requests: Arc<Requests>,
    pidfile: Option<PidFile>,
    inherited: Inherited,
    qmp: Vec<Endpoint>,
    monitor: Vec<Endpoint>,
    qtest: Option<Endpoint>,
    serial: Option<Endpoint>,
    gdb: Option<Endpoint>,
}

impl Visible {
    fn new(inherited: Inherited, requests: &Arc<Requests>) -> Self {
        Self {
            requests: Arc::clone(requests),
            pidfile: None,
            inherited,
            qmp: Vec::new(),
            monitor: Vec::new(),
            qtest: None,
            serial: None,
            gdb: None,
        }
    }

    /// Opens the streams that options name; a signal ends the waiting for them.
    fn open(&mut self, wanted: &[(&'static str, &Address)]) -> Result<Vec<Endpoint>, Error> {
        let given_up = || self.requests.shutdown_pending() != ShutdownCause::None;
        Endpoint::open_all(wanted, &mut self.inherited, &given_up)
            .map_err(|(option, source)| Error::Endpoint { option, source })
    }
}

/// Runs a VM until its end.
///
/// # Errors
/// When it cannot be started, or the main loop breaks; nothing is left behind.
pub(crate) fn run(config: Config, inherited: Inherited) -> Result<ExitStatus, Error> {
    // Nothing is ever executed from here, so nothing is lost with it.
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        warn!("cannot give up new privileges: {error}");
    }
    let bell = Arc::new(Doorbell::new().map_err(Error::Descriptors)?);
    let requests = Arc::new(Requests::new(Arc::new(Waker(Arc::clone(&bell)))));
    set_actions(&requests, &config);
    let config = Rc::new(config);
    let visible = Rc::new(RefCell::new(Visible::new(inherited, &requests)));
    let started = start_up(&config, &visible, &requests)?;
    let ended = run_visible(&config, &visible, &bell, &requests);
    started.undo();
    ended
}

fn set_actions(requests: &Requests, config: &Config) {
    let actions = config.actions;
    let policy = requests.policy();
    policy.set_reboot(actions.reboot);
    policy.set_shutdown(actions.shutdown);
    policy.set_panic(actions.panic);
    policy.set_watchdog(actions.watchdog);
}

/// Brings up what comes before the machine.
fn start_up(
    config: &Rc<Config>,
    visible: &Rc<RefCell<Visible>>,
    requests: &Arc<Requests>,
) -> Result<Started, Error> {
    let task = |make: fn(&Config, &mut Visible) -> Result<(), Error>| {
        let (config, visible) = (Rc::clone(config), Rc::clone(visible));
        move || make(&config, &mut visible.borrow_mut())
    };
    let undo = |unmake: fn(&mut Visible)| {
        let visible = Rc::clone(visible);
        move || unmake(&mut visible.borrow_mut())
    };
    let requests = Arc::clone(requests);
    Startup::new()
        .with(
            StartupPhase::EarlySignals,
            move || signals::install(&requests).map_err(Error::Signals),
            || {},
        )
        .with(
            StartupPhase::Sockets,
            task(|config, visible| {
                let path = config.pidfile.as_deref();
                visible.pidfile = path.map(PidFile::create).transpose()?;
                Ok(())
            }),
            undo(|visible| visible.pidfile = None),
        )
        .with(
            StartupPhase::Sockets,
            task(|config, visible| {
                let qmp = config.qmp.iter().map(|address| ("--qmp", address));
                let monitor = config.monitor.iter().map(|at| ("--monitor", at));
                let serial = match &config.serial {
                    SerialTarget::Socket(address) => Some(("--serial", address)),
                    _ => None,
                };
                let qtest = config.qtest.iter().map(|address| ("--qtest", address));
                let wanted: Vec<_> = qmp.chain(monitor).chain(serial).chain(qtest).collect();
                let mut opened = visible.open(&wanted)?;
                visible.qtest = config.qtest.as_ref().and_then(|_| opened.pop());
                visible.serial = serial.and_then(|_| opened.pop());
                visible.monitor = opened.split_off(config.qmp.len().min(opened.len()));
                visible.qmp = opened;
                Ok(())
            }),
            undo(|visible| {
                visible.qmp.clear();
                visible.monitor.clear();
                visible.serial = None;
                visible.qtest = None;
            }),
        )
        .with(
            StartupPhase::Sockets,
            task(|config, visible| {
                if let Some(gdb) = &config.gdb {
                    visible.gdb = visible.open(&[("--gdb", &gdb.address)])?.pop();
                }
                Ok(())
            }),
            undo(|visible| visible.gdb = None),
        )
        .run(|phase| trace!("start-up: {phase}"))
        .map_err(|failed| failed.error)
}

/// Builds the machine, runs it, takes it apart.
fn run_visible(
    config: &Config,
    visible: &RefCell<Visible>,
    bell: &Arc<Doorbell>,
    requests: &Arc<Requests>,
) -> Result<ExitStatus, Error> {
    let line = Line::new().map_err(Error::Descriptors)?;
    let debug_line = config.debugcon.as_ref().map(|_| Line::new()).transpose();
    let debug_line = debug_line.map_err(Error::Descriptors)?;
    let hits = config
        .gdb
        .as_ref()
        .map(|_| Arc::new(Hits::new(Arc::clone(bell))));
    let power = Power::new(Arc::clone(requests)).with_debugger(hits.clone());
    let accel = accelerator(config, &mut visible.borrow_mut().inherited)?;
    let debug = debug_line.as_ref();
    let (machine, pause) = build(config, accel, &line, debug, bell, requests, power)?;
    let machine = Rc::new(machine);
    let qmp = std::mem::take(&mut visible.borrow_mut().qmp);
    let qmp = config.has_monitor().then(|| Listening::on(qmp)).transpose();
    let qmp = qmp.map_err(|source| Error::Socket {
        option: "--qmp",
        source,
    })?;
    let (senders, senders_start) = senders(config);
    let announcer = Announcer::new(qmp.as_ref().map(Listening::emit))
        .with_trace(trace(config)?)
        .with_senders(senders);
    let vm = Vm::new(
        Rc::clone(&machine),
        pause,
        line.ringer(),
        Arc::clone(requests),
    );
    let lifecycle = Rc::new(Lifecycle::new(Arc::clone(requests), vm, announcer));
    let button = Rc::clone(&machine);
    lifecycle
        .on_powerdown(move || press_power_button(&button))
        .detach();
    let sleeper = Rc::clone(&machine);
    lifecycle.on_suspend(move || fall_asleep(&sleeper)).detach();
    let sleeper = Rc::clone(&machine);
    lifecycle
        .on_wakeup(move |reason| say_why_woken(&sleeper, reason))
        .detach();
    requests.register_wakeup_support();

    // From here on the terminal belongs to the guest.
    let terminal = raw_mode(config).map_err(Error::Terminal)?;
    let mut lines = Lines::new(MainLoop::new(Arc::clone(bell))?);
    if let Some(timeout) = config.shutdown_timeout {
        lines.main_loop.ask_first(timeout);
        signals::ask_first(bell);
    }
    let serial = visible.borrow_mut().serial.take();
    lines.connect_serial(
        config,
        serial,
        &line,
        &machine,
        requests,
        terminal.is_some(),
    )?;
    if let (Some(path), Some(line)) = (&config.debugcon, &debug_line) {
        lines.connect_file("--debugcon", path, line)?;
    }
    for endpoint in std::mem::take(&mut visible.borrow_mut().monitor) {
        lines.connect_console(endpoint)?;
    }
    let identity = Identity {
        name: config.name.clone(),
        uuid: config.uuid.clone().unwrap_or(Identity::default().uuid),
        ..Identity::default()
    };
    let facts = Facts::of(config);
    let desk = desk(config, bell)?;
    let mut monitor = qmp.map(|qmp| {
        let machine = Rc::clone(&machine);
        let monitor = qmp.command(Rc::clone(&lifecycle), machine, identity, facts, desk);
        monitor.with_consoles(lines.consoles())
    });
    if let Some(monitor) = &monitor {
        lines.main_loop.add(monitor.subscriber());
    }
    let qtest = visible.borrow_mut().qtest.take();
    let mut qtest = qtest.map(Qtest::on).transpose().map_err(Error::Qtest)?;
    if let Some(qtest) = &qtest {
        lines.main_loop.add(qtest.subscriber());
    }
    let gdb = visible.borrow_mut().gdb.take();
    let mut gdb = connect_gdb(config, gdb, &machine, &lifecycle, hits)?;
    if let Some(gdb) = &gdb {
        lines.main_loop.add(gdb.subscriber());
    }
    // All that is ever opened is open.
    let mut paths = sandbox::Paths::default();
    config
        .own_files()
        .for_each(|file| paths.allow_removal(file));
    let confined = sandbox::enter(confinement(config), machine.vcpus(), &paths)?;
    senders_start.wait();
    if let Some(monitor) = &mut monitor {
        monitor.confined(confined);
    }
    if config.autostart {
        lifecycle.start().map_err(Error::Start)?;
    }
    let ended = lines.main_loop.run(
        &lifecycle,
        &machine,
        monitor.as_mut(),
        qtest.as_mut(),
        gdb.as_mut(),
    );
    if let (Some(gdb), Ok(status)) = (&mut gdb, &ended) {
        gdb.exited(status.code().to_le_bytes()[0]);
    }

    signals::tearing_down();
    if let Some(monitor) = &monitor {
        monitor.cancel_all();
    }
    tear_down(
        &lifecycle,
        &machine,
        monitor.as_ref(),
        lines.into_backends(),
    );
    lifecycle.sink().finish_trace(TEARDOWN_BOUND);
    drop(terminal);
    let status = ended?;
    info!("the VM has ended: {status}");
    Ok(status)
}

/// How the threads are to be confined.
fn confinement(config: &Config) -> sandbox::Wanted {
    sandbox::Wanted {
        seccomp: config.seccomp,
        landlock: config.landlock,
        firmware: matches!(
            config.guest,
            Guest::Kernel {
                firmware: Some(_),
                ..
            }
        ),
        shared_log: logging::is_shared(),
    }
}

/// Who will say who has sent a signal.
fn senders(config: &Config) -> (Senders, sender::Starting) {
    let wanted = confinement(config);
    Senders::start(move || sandbox::enter_sender(wanted).map_err(std::io::Error::other))
}

/// Begins the lifecycle's trace, if one is wanted.
fn trace(config: &Config) -> Result<Option<Recorder>, Error> {
    let Some(path) = &config.trace else {
        return Ok(None);
    };
    let wanted = confinement(config);
    let recorder = Recorder::open(path, move || {
        sandbox::enter_writer(wanted).map_err(std::io::Error::other)
    });
    let path = path.clone();
    recorder
        .map(Some)
        .map_err(|source| Error::Trace { path, source })
}

/// Where dumps of the guest's memory go, if the user allows any and somebody can ask for one.
fn desk(config: &Config, bell: &Arc<Doorbell>) -> Result<Option<Desk>, Error> {
    let Some(path) = config.dump_dir.as_ref().filter(|_| config.has_monitor()) else {
        return Ok(None);
    };
    let wanted = confinement(config);
    let desk = Desk::open(path, Arc::clone(bell), move |directory| {
        sandbox::enter_dumper(wanted, directory).map_err(std::io::Error::other)
    });
    let path = path.clone();
    desk.map(Some)
        .map_err(|source| Error::DumpDirectory { path, source })
}

fn build(
    config: &Config,
    accel: platform::Accelerator,
    line: &Line,
    debug_line: Option<&Line>,
    bell: &Arc<Doorbell>,
    requests: &Arc<Requests>,
    power: Power,
) -> Result<(platform::Machine, vcpu::PauseGuard<platform::Vcpu>), Error> {
    let described = platform::Config {
        accel,
        memory: config.memory,
        backing: config.backing,
        cpus: config.cpus.into(),
        boot: boot_source(&config.guest),
        rtc: config.rtc,
        watchdogs: config.watchdogs,
        uuid: config.uuid_bytes(),
        pvpanic_events: config.pvpanic_events,
    };
    let rearm = Arc::clone(bell);
    let outlets = platform::Outlets {
        serial: line.output(),
        serial_room: line.ringer(),
        debugcon: debug_line.map(|line| line.output() as Arc<dyn Output>),
        rearm: Arc::new(move || rearm.ring()),
    };
    let failed = Arc::clone(requests);
    let on_event = move |id: VcpuId, event: VcpuEvent| on_vcpu_event(&failed, id, event);
    Ok(platform::Machine::new(
        &described,
        &outlets,
        Arc::new(power),
        on_event,
    )?)
}

/// What is to execute the guest; a device that was opened by who started the program comes from there.
fn accelerator(config: &Config, inherited: &mut Inherited) -> Result<platform::Accelerator, Error> {
    let device = match (config.accel, config.kvm_descriptor) {
        (Accel::Qtest, _) => return Ok(platform::Accelerator::Qtest),
        (Accel::Kvm, None) => KVM_DEVICE.into(),
        (Accel::Kvm, Some(number)) => {
            let device = inherited.device(number).map_err(|source| Error::Endpoint {
                option: "--accel kvm",
                source,
            })?;
            KvmDevice::Open(Arc::new(device), format!("fd={number}").into())
        }
    };
    Ok(platform::Accelerator::Kvm(device, config.features))
}

/// The gdb stub, if the user wants one.
fn connect_gdb(
    config: &Config,
    endpoint: Option<Endpoint>,
    machine: &Rc<platform::Machine>,
    lifecycle: &Rc<Lifecycle<Vm, Announcer>>,
    hits: Option<Arc<Hits>>,
) -> Result<Option<Gdb>, Error> {
    let (Some(wanted), Some(endpoint), Some(hits)) = (&config.gdb, endpoint, hits) else {
        return Ok(None);
    };
    let (machine, lifecycle) = (Rc::clone(machine), Rc::clone(lifecycle));
    let gdb = Gdb::new(endpoint, wanted.description, machine, lifecycle, hits);
    gdb.map(Some).map_err(Error::Descriptors)
}

fn boot_source(guest: &Guest) -> BootSource {
    match guest {
        Guest::Embedded => BootSource::Flat(FlatImage {
            bytes: guest::image().into(),
            address: guest::ADDRESS,
            segment: guest::SEGMENT,
            offset: guest::OFFSET,
        }),
        Guest::Kernel {
            firmware,
            image,
            initrd,
            append,
        } => BootSource::Kernel {
            firmware: firmware.clone(),
            kernel: image.clone(),
            initrd: initrd.clone(),
            command_line: append.clone(),
        },
        Guest::Firmware(path) => BootSource::Firmware(path.clone()),
    }
}

/// Takes the VM apart. What fails is logged, and the rest goes on.
fn tear_down(
    lifecycle: &Lifecycle<Vm, Announcer>,
    machine: &Rc<platform::Machine>,
    monitor: Option<&Monitor>,
    backends: Vec<Rc<RefCell<dyn Backend>>>,
) {
    let machine = Rc::clone(machine);
    let mut tear_down = Teardown::<String>::new().with(TeardownPhase::StopMachine, move |bound| {
        let deadline = Instant::now().checked_add(bound.remaining());
        machine
            .vcpus()
            .shutdown(deadline)
            .map_err(|error| error.to_string())
    });
    if let Some(monitor) = monitor {
        let server = monitor.server();
        tear_down = tear_down.with(TeardownPhase::Monitor, move |bound| {
            match server.borrow_mut().close(bound.remaining()) {
                0 => Ok(()),
                unread => Err(format!("{unread} clients have not read everything")),
            }
        });
    }
    for backend in backends {
        tear_down = tear_down.with(TeardownPhase::Chardevs, move |bound| {
            let patience = bound.remaining().min(LAST_WORDS);
            match backend.borrow_mut().finish(patience) {
                0 => Ok(()),
                lost => Err(format!(
                    "{lost} bytes of the guest's output are lost: nobody took them in time"
                )),
            }
        });
    }
    let enter = |phase| trace!("tear-down: {phase}");
    for failure in tear_down.run(lifecycle, TEARDOWN_BOUND, enter) {
        match failure {
            TeardownFailure::Machine(error) => warn!("tear-down: {error}"),
            TeardownFailure::Task(phase, text) => warn!("tear-down: {phase}: {text}"),
            _ => {}
        }
    }
    lifecycle.run_exit_notifiers();
}
