//! A reference of QEMU 7.2's run-state layer that plays scenarios: plain variables, plain
//! recursion, one function for each of QEMU's. It shares no code with the crate.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod turn;

use std::collections::VecDeque;

/// QEMU would have aborted here.
pub(crate) struct Aborted;

type Played = Result<(), Aborted>;

const LEGAL: &str = "
    debug: running finish-migrate prelaunch suspended
    inmigrate: internal-error io-error paused running shutdown suspended watchdog guest-panicked finish-migrate prelaunch postmigrate colo
    internal-error: paused finish-migrate prelaunch
    io-error: running finish-migrate prelaunch
    paused: running finish-migrate postmigrate prelaunch colo
    postmigrate: running finish-migrate prelaunch
    prelaunch: running finish-migrate inmigrate
    finish-migrate: running paused postmigrate prelaunch colo
    restore-vm: running prelaunch
    running: debug internal-error io-error paused finish-migrate restore-vm save-vm shutdown watchdog guest-panicked suspended colo
    save-vm: running
    shutdown: paused finish-migrate prelaunch colo
    suspended: running finish-migrate prelaunch colo
    watchdog: running finish-migrate prelaunch colo
    guest-panicked: running finish-migrate prelaunch
    colo: running prelaunch shutdown
";

struct Handler {
    id: String,
    priority: i32,
    serial: u64,
}

struct Notifier {
    list: String,
    id: String,
    serial: u64,
}

pub(crate) struct Reference {
    pub(crate) lines: Vec<String>,
    state: String,
    debug: bool,
    suspend: bool,
    powerdown: bool,
    shutdown: String,
    signal: Option<(String, String)>,
    reset: String,
    wakeup: String,
    vmstop: Option<String>,
    reboot_action: String,
    shutdown_action: String,
    panic_action: String,
    watchdog_action: String,
    pvshutdown: bool,
    watchdog: bool,
    masked: Vec<String>,
    wakeup_support: bool,
    resettable: bool,
    gate_open: bool,
    reset_hook: bool,
    wakeup_hook: bool,
    handlers: Vec<Handler>,
    notifiers: Vec<Notifier>,
    injections: VecDeque<(String, String)>,
    serial: u64,
}

impl Default for Reference {
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            state: "prelaunch".into(),
            debug: false,
            suspend: false,
            powerdown: false,
            shutdown: "none".into(),
            signal: None,
            reset: "none".into(),
            wakeup: "none".into(),
            vmstop: None,
            reboot_action: "reset".into(),
            shutdown_action: "poweroff".into(),
            panic_action: "shutdown".into(),
            watchdog_action: "reset".into(),
            pvshutdown: false,
            watchdog: false,
            masked: vec!["none".into()],
            wakeup_support: false,
            resettable: true,
            gate_open: true,
            reset_hook: false,
            wakeup_hook: false,
            handlers: Vec::new(),
            notifiers: Vec::new(),
            injections: VecDeque::new(),
            serial: 0,
        }
    }
}

fn by_guest(cause: &str) -> bool {
    matches!(
        cause,
        "guest-shutdown" | "guest-reset" | "guest-panic" | "subsystem-reset" | "snapshot-load"
    )
}

impl Reference {
    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn kick(&mut self) {
        self.say("kick main-loop");
    }

    fn stop_current(&mut self) {
        self.say("vcpu stop-current");
    }

    fn is(&self, state: &str) -> bool {
        self.state == state
    }

    /// Plays one line.
    pub(crate) fn play(&mut self, line: &str) -> Played {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["set", state] => self.set(state)?,
            ["start"] => self.start()?,
            ["cont"] => match self.state.as_str() {
                "internal-error" | "shutdown" => {
                    self.say("error Resetting the Virtual Machine is required");
                }
                "suspended" => {}
                _ => self.start()?,
            },
            ["stop", state] => self.stop(state, true)?,
            ["stop-from-vcpu", state] => {
                self.vmstop = Some(state.into());
                self.kick();
                self.stop_current();
            }
            ["stop-force", state] if self.is("running") => self.stop(state, true)?,
            ["stop-force", state] => {
                self.set(state)?;
                self.say("storage drain-flush");
            }
            ["stop-for-exit"] => self.stop("shutdown", false)?,
            ["request", "shutdown", cause] => self.request_shutdown(cause),
            ["request", "reset", cause] => self.request_reset(cause),
            ["request", "powerdown"] => {
                self.powerdown = true;
                self.kick();
            }
            ["request", "suspend"] => {
                if !self.is("suspended") {
                    self.suspend = true;
                    self.stop_current();
                    self.kick();
                }
            }
            ["request", "wakeup", reason] => {
                if !self.is("suspended") {
                    self.say("error Unable to wake up: guest is not in suspended state");
                } else if !self.masked.iter().any(|masked| masked == reason) {
                    self.set("running")?;
                    self.wakeup = reason.into();
                    self.kick();
                }
            }
            ["request", "debug"] => {
                self.debug = true;
                self.kick();
            }
            ["request", "vmstop", state] => {
                self.vmstop = Some(state.into());
                self.kick();
            }
            ["request", "guest-pvshutdown"] => {
                self.pvshutdown = true;
                self.kick();
            }
            ["request", "watchdog"] => {
                self.watchdog = true;
                self.kick();
            }
            ["killed", signal, pid] => {
                self.signal = (signal != "0").then(|| (signal.into(), pid.into()));
                self.shutdown_action = "poweroff".into();
                self.shutdown = "host-signal".into();
                self.kick();
            }
            ["guest-panicked"] => self.guest_panicked()?,
            ["guest-crashloaded"] => self.say("event GUEST_CRASHLOADED action=run"),
            ["action", "reboot", action] => self.reboot_action = action.into(),
            ["action", "shutdown", action] => self.shutdown_action = action.into(),
            ["action", "panic", action] => self.panic_action = action.into(),
            ["action", "watchdog", action] => self.watchdog_action = action.into(),
            ["wakeup-enable", reason, "on"] => self.masked.retain(|masked| masked != reason),
            ["wakeup-enable", reason, "off"] => self.masked.push(reason.into()),
            ["wakeup-support"] => self.wakeup_support = true,
            ["handler", "add", id, priority] => {
                self.serial += 1;
                self.handlers.push(Handler {
                    id: id.into(),
                    priority: priority.parse().expect("a number"),
                    serial: self.serial,
                });
                // Stable: equals stay in the order of their registration.
                self.handlers.sort_by_key(|handler| handler.priority);
            }
            ["handler", "del", id] => {
                let oldest = self.handlers.iter().filter(|handler| handler.id == id);
                let oldest = oldest.map(|handler| handler.serial).min();
                self.handlers
                    .retain(|handler| Some(handler.serial) != oldest);
            }
            ["notifier", "add", list, id] => {
                self.serial += 1;
                let notifier = Notifier {
                    list: list.into(),
                    id: id.into(),
                    serial: self.serial,
                };
                self.notifiers.insert(0, notifier);
            }
            ["notifier", "del", list, id] => {
                let newest = self
                    .notifiers
                    .iter()
                    .position(|notifier| notifier.list == list && notifier.id == id);
                newest.map(|at| self.notifiers.remove(at));
            }
            ["cpus-resettable", switch] => self.resettable = switch == "on",
            ["replay-gate", gate] => self.gate_open = gate == "open",
            ["machine", "reset-hook", switch] => self.reset_hook = switch == "on",
            ["machine", "wakeup-hook", switch] => self.wakeup_hook = switch == "on",
            ["inject", place, ..] => {
                let command = words[2..].join(" ");
                self.injections.push_back((place.into(), command));
            }
            ["dispatch"] => {
                let answer = match self.should_exit()? {
                    Some(status) => format!("exit {status}"),
                    None => "continue".into(),
                };
                self.say(answer);
            }
            ["query"] => self.query(),
            ["run-exit-notifiers"] => self.notify("exit", |_| String::new())?,
            _ => panic!("the reference does not know: {line}"),
        }
        Ok(())
    }

    fn visit(&mut self, place: &str) -> Played {
        let found = self.injections.iter().position(|(of, _)| of == place);
        match found.and_then(|at| self.injections.remove(at)) {
            Some((_, command)) => self.play(&command),
            None => Ok(()),
        }
    }

    fn set(&mut self, to: &str) -> Played {
        if self.is(to) {
            return Ok(());
        }
        let row = format!("{}:", self.state);
        let legal = LEGAL
            .lines()
            .map(str::split_whitespace)
            .any(|mut line| line.next() == Some(row.as_str()) && line.any(|of| of == to));
        let from = core::mem::take(&mut self.state);
        if !legal {
            self.say(format!(
                "report invalid runstate transition: '{from}' -> '{to}'"
            ));
            self.say("abort");
            return Err(Aborted);
        }
        self.say(format!("state {from} -> {to}"));
        self.state = to.into();
        Ok(())
    }

    fn pause_all(&mut self) -> Played {
        self.say("vcpu pause-all");
        self.visit("pause")
    }

    fn resume_all(&mut self) -> Played {
        self.say("vcpu resume-all");
        self.visit("resume")
    }

    fn handlers(&mut self, running: bool, state: &str) -> Played {
        // The neighbour is looked up before each call, in the list as it is then.
        let neighbour = |handlers: &[Handler], of: Option<(i32, u64)>| {
            let mut order: Vec<(i32, u64)> =
                handlers.iter().map(|h| (h.priority, h.serial)).collect();
            if !running {
                order.reverse();
            }
            order.into_iter().find(|key| match of {
                None => true,
                Some(of) if running => *key > of,
                Some(of) => *key < of,
            })
        };
        let mut next = neighbour(&self.handlers, None);
        while let Some(key) = next {
            next = neighbour(&self.handlers, Some(key));
            let handler = self.handlers.iter().find(|h| h.serial == key.1);
            let Some(id) = handler.map(|handler| handler.id.clone()) else {
                continue;
            };
            let direction = if running { "run" } else { "stop" };
            self.say(format!("handler {id} {direction} {state}"));
            self.visit(&format!("handler-{id}"))?;
        }
        Ok(())
    }

    fn notify(&mut self, list: &str, data: impl Fn(&Self) -> String) -> Played {
        let of_list = self.notifiers.iter().filter(|n| n.list == list);
        let round: Vec<u64> = of_list.map(|n| n.serial).collect();
        for serial in round {
            let notifier = self.notifiers.iter().find(|n| n.serial == serial);
            let Some(id) = notifier.map(|notifier| notifier.id.clone()) else {
                continue;
            };
            let data = data(self);
            self.say(format!("notify {list} {id}{data}"));
            self.visit(&format!("notifier-{id}"))?;
        }
        Ok(())
    }

    fn stop(&mut self, state: &str, send: bool) -> Played {
        if self.is("running") {
            self.set(state)?;
            self.say("clock stop");
            self.pause_all()?;
            self.handlers(false, state)?;
            if send {
                self.say("event STOP");
            }
        }
        self.say("storage drain-flush");
        Ok(())
    }

    fn start(&mut self) -> Played {
        let requested = self.vmstop.take();
        if self.is("running") {
            if requested.is_some() {
                self.say("event STOP");
                self.say("event RESUME");
            }
            return Ok(());
        }
        self.say("event RESUME");
        self.say("clock start");
        self.set("running")?;
        self.handlers(true, "running")?;
        self.resume_all()
    }

    fn request_shutdown(&mut self, cause: &str) {
        self.shutdown = cause.into();
        self.kick();
    }

    fn request_reset(&mut self, cause: &str) {
        if self.reboot_action == "shutdown" && cause != "subsystem-reset" {
            self.shutdown = cause.into();
        } else if !self.resettable {
            self.say("report cpus are not resettable, terminating");
            self.shutdown = cause.into();
        } else {
            self.reset = cause.into();
        }
        self.stop_current();
        self.kick();
    }

    fn guest_panicked(&mut self) -> Played {
        let action = match (self.panic_action.as_str(), self.shutdown_action.as_str()) {
            ("pause", _) | ("shutdown", "pause") => "pause",
            ("shutdown" | "exit-failure", _) => "poweroff",
            _ => "run",
        };
        self.say(format!("event GUEST_PANICKED action={action}"));
        if action != "run" {
            self.stop("guest-panicked", true)?;
        }
        if action == "poweroff" {
            self.request_shutdown("guest-panic");
        }
        Ok(())
    }

    fn query(&mut self) {
        let running = self.is("running");
        let needs_reset = self.is("internal-error") || self.is("shutdown");
        self.say(format!(
            "status {} running={running} needs-reset={needs_reset} wakeup-support={} \
             shutdown-pending={} reset-pending={}",
            self.state, self.wakeup_support, self.shutdown, self.reset
        ));
    }
}
