//! What a machine has to do, in the fewest words: plain variables, and one function for each thing
//! that can happen. It is written from how QEMU behaves, with the faults of QEMU that the lifecycle
//! crate names left out; it shares no code with the program.

use serde_json::{Value, json};

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    KeyboardReset,
    FastReset,
    ResetControl,
    S3,
    S4,
    S5,
    /// isa-debug-exit of 5.
    DebugExit,
    Panic,
    Crashload,
    PvShutdown,
    /// A panic and a crash kernel in one write.
    PanicAndCrashload,
    /// Two seconds of the virtual clock pass, and the watchdog had no more.
    Watchdog,
    Stop,
    Cont,
    SystemReset,
    Powerdown,
    Wakeup,
    Quit,
    Signal,
}

impl Trigger {
    pub(crate) const ALL: [Self; 19] = [
        Self::KeyboardReset,
        Self::FastReset,
        Self::ResetControl,
        Self::S3,
        Self::S4,
        Self::S5,
        Self::DebugExit,
        Self::Panic,
        Self::Crashload,
        Self::PvShutdown,
        Self::PanicAndCrashload,
        Self::Watchdog,
        Self::Stop,
        Self::Cont,
        Self::SystemReset,
        Self::Powerdown,
        Self::Wakeup,
        Self::Quit,
        Self::Signal,
    ];
}

/// The four actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actions {
    pub(crate) reboot: &'static str,
    pub(crate) shutdown: &'static str,
    pub(crate) panic: &'static str,
    pub(crate) watchdog: &'static str,
}

pub(crate) const REBOOT: [&str; 2] = ["reset", "shutdown"];
pub(crate) const SHUTDOWN: [&str; 2] = ["poweroff", "pause"];
pub(crate) const PANIC: [&str; 4] = ["pause", "shutdown", "exit-failure", "none"];
pub(crate) const WATCHDOG: [&str; 7] = [
    "reset",
    "shutdown",
    "poweroff",
    "pause",
    "debug",
    "none",
    "inject-nmi",
];

pub(crate) type Event = (String, Value);

/// What a trigger leads to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) events: Vec<Event>,
    /// The monitor's answer, if it is an error.
    pub(crate) error: Option<&'static str>,
    /// The exit status, if the program ends.
    pub(crate) exit: Option<i32>,
}

/// A machine.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) actions: Actions,
    pub(crate) state: &'static str,
    /// It slept when it was stopped, and sleeps again when it goes on.
    slept: bool,
    /// It has asked to sleep while it stood.
    wants_sleep: bool,
    /// Its watchdog is overdue: it goes off as soon as its time passes again.
    overdue: bool,
}

impl Model {
    /// A machine that has just been started.
    pub(crate) fn new(actions: Actions) -> Self {
        Self {
            actions,
            state: "running",
            slept: false,
            wants_sleep: false,
            overdue: false,
        }
    }

    /// Plays a trigger.
    pub(crate) fn play(&mut self, trigger: Trigger) -> Outcome {
        let mut out = Outcome::default();
        match trigger {
            Trigger::KeyboardReset | Trigger::FastReset | Trigger::ResetControl => {
                self.reset(true, "guest-reset", &mut out);
            }
            Trigger::SystemReset => self.reset(false, "host-qmp-system-reset", &mut out),
            Trigger::S3 => {
                self.wants_sleep = self.state != "suspended";
                self.fall_asleep(&mut out);
            }
            Trigger::S4 => {
                tell(&mut out, "SUSPEND_DISK", Value::Null);
                self.shut_down(true, "guest-shutdown", 0, &mut out);
            }
            Trigger::S5 => self.shut_down(true, "guest-shutdown", 0, &mut out),
            Trigger::DebugExit => self.shut_down(true, "guest-shutdown", 11, &mut out),
            Trigger::PvShutdown => {
                tell(&mut out, "GUEST_PVSHUTDOWN", Value::Null);
                self.shut_down(true, "guest-shutdown", 0, &mut out);
            }
            Trigger::Panic | Trigger::PanicAndCrashload => self.panic(&mut out),
            Trigger::Crashload => tell(&mut out, "GUEST_CRASHLOADED", json!({"action": "run"})),
            Trigger::Watchdog => {
                // Whoever touches a watchdog that is overdue has it go off, before it starts again.
                let touched = std::mem::take(&mut self.overdue);
                if touched {
                    self.bark(&mut out);
                }
                let reset = out.events.iter().any(|event| event.0 == "RESET");
                self.overdue = !reset;
                self.expire(&mut out);
            }
            Trigger::Stop => self.stop("paused", &mut out),
            Trigger::Cont => self.go_on(&mut out),
            Trigger::Powerdown => tell(&mut out, "POWERDOWN", Value::Null),
            Trigger::Wakeup if self.state == "suspended" => {
                // Waking is a reset of the devices.
                self.overdue = false;
                self.state = "running";
                tell(&mut out, "WAKEUP", Value::Null);
            }
            Trigger::Wakeup => {
                out.error = Some("Unable to wake up: guest is not in suspended state");
            }
            Trigger::Quit => end("host-qmp-quit", &mut out),
            Trigger::Signal => end("host-signal", &mut out),
        }
        out
    }

    fn reset(&mut self, guest: bool, reason: &str, out: &mut Outcome) {
        if self.actions.reboot == "shutdown" {
            return self.shut_down(guest, reason, 0, out);
        }
        tell(out, "RESET", json!({"guest": guest, "reason": reason}));
        if self.state != "running" {
            self.state = "prelaunch";
        }
        (self.slept, self.wants_sleep, self.overdue) = (false, false, false);
    }

    fn shut_down(&mut self, guest: bool, reason: &str, code: i32, out: &mut Outcome) {
        tell(out, "SHUTDOWN", json!({"guest": guest, "reason": reason}));
        if self.actions.shutdown == "pause" {
            self.stop("shutdown", out);
        } else {
            out.exit = Some(code);
        }
    }

    fn panic(&mut self, out: &mut Outcome) {
        let Actions {
            panic, shutdown, ..
        } = self.actions;
        let action = match (panic, shutdown) {
            ("none", _) => "run",
            ("pause", _) | ("shutdown", "pause") => "pause",
            _ => "poweroff",
        };
        tell(out, "GUEST_PANICKED", json!({"action": action}));
        match action {
            "pause" => self.stop("guest-panicked", out),
            "poweroff" => {
                let code = i32::from(panic == "exit-failure");
                self.shut_down(true, "guest-panic", code, out);
            }
            _ => {}
        }
    }

    /// A machine that lives stops. One that sleeps has no way to `guest-panicked` or `watchdog`: it
    /// is paused. It sleeps again later, unless it was shut down.
    fn stop(&mut self, state: &'static str, out: &mut Outcome) {
        match self.state {
            "running" => self.state = state,
            "suspended" => {
                self.state = if state == "shutdown" { state } else { "paused" };
                self.slept = true;
            }
            _ => return,
        }
        tell(out, "STOP", Value::Null);
    }

    fn go_on(&mut self, out: &mut Outcome) {
        match self.state {
            "running" | "suspended" => {}
            "shutdown" => out.error = Some("Resetting the Virtual Machine is required"),
            _ => {
                tell(out, "RESUME", Value::Null);
                self.state = if self.slept { "suspended" } else { "running" };
                if std::mem::take(&mut self.slept) {
                    self.wants_sleep = false;
                }
                self.fall_asleep(out);
                self.expire(out);
            }
        }
    }

    fn fall_asleep(&mut self, out: &mut Outcome) {
        if self.state == "running" && std::mem::take(&mut self.wants_sleep) {
            self.state = "suspended";
            tell(out, "SUSPEND", Value::Null);
        }
    }

    /// A watchdog that is overdue goes off, if the guest's time passes.
    fn expire(&mut self, out: &mut Outcome) {
        if self.state == "running" && std::mem::take(&mut self.overdue) {
            self.bark(out);
        }
    }

    fn bark(&mut self, out: &mut Outcome) {
        let action = self.actions.watchdog;
        tell(out, "WATCHDOG", json!({"action": action}));
        match action {
            "reset" => self.reset(true, "guest-reset", out),
            "shutdown" => tell(out, "POWERDOWN", Value::Null),
            "poweroff" => end("guest-reset", out),
            "pause" => self.stop("watchdog", out),
            _ => {}
        }
    }
}

fn tell(out: &mut Outcome, name: &str, data: Value) {
    out.events.push((name.to_owned(), data));
}

/// An end that no action can change.
fn end(reason: &str, out: &mut Outcome) {
    let guest = reason.starts_with("guest");
    tell(out, "SHUTDOWN", json!({"guest": guest, "reason": reason}));
    out.exit = Some(0);
}
