//! A trace as text: one line of JSON for each record, for a file that grows while the machine
//! runs, and back.
//!
//! ```text
//!  {"trace":"lifecycle","version":1,"compat":"current"}
//!  {"seq":0,"ns":48211,"what":"start","state":"prelaunch"}
//!  {"seq":1,"ns":49020,"what":"event","event":"RESUME"}
//!  {"seq":2,"ns":51874,"what":"state","from":"prelaunch","to":"running"}
//!  {"seq":3,"ns":52160,"what":"resumed"}
//!  {"seq":4,"ns":904117,"what":"turn","phase":"reset","state":"running","reset":"guest-reset",
//!   "on-reboot":"reset","on-shutdown":"poweroff","on-panic":"shutdown","on-watchdog":"reset"}
//! ```
//!
//! (The last one is one line.) A writer that may not go on writes `{"truncated":true}`. Every
//! object is flat; flags that are false and what is not there are left out. Names that a reader
//! does not know are passed over.
//!
//! The rule that must never be broken: what is written reads back as what it was.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use runstate::{InvalidTransition, RunState};

use super::fields::{Fields, Object};
use super::{Happening, TraceRecord};
use crate::cause::ShutdownCause;
use crate::compat::Compat;
use crate::event::Event;
use crate::latch::{ShutdownRequest, Signal};
use crate::panic::PanicInfo;
use crate::policy::Actions;
use crate::step::{Latched, Situation};

/// A line of a trace. `Display` and `FromStr` are its JSON, without the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceLine {
    /// The first line: what the others are to be read as.
    Header(Compat),
    /// The file was not to grow any more: records are missing from here on, until the end of the
    /// trace, if that is there.
    Truncated,
    /// Every other line.
    Record {
        /// When it happened, since whatever moment the writer counts from.
        at: Duration,
        /// What happened.
        record: TraceRecord,
    },
}

/// Why a text is no line of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceLineError {
    /// The text ends in the middle of the object.
    CutOff,
    /// The text is no flat JSON object.
    Syntax {
        /// The first byte that does not fit, from 1.
        column: usize,
        /// What would.
        expected: &'static str,
    },
    /// A field is there twice.
    Twice(Box<str>),
    /// There are more fields than any line has.
    TooManyFields,
    /// A field that belongs to this kind of line is not there.
    Missing(&'static str),
    /// A field has a value of the wrong kind: it should be this.
    Kind(&'static str, &'static str),
    /// A field holds a name that does not exist.
    Name(&'static str, Box<str>),
    /// A header of something else, or of another version of this format.
    Version,
}

impl fmt::Display for TraceLineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => f.write_str("the line is cut off"),
            Self::Syntax { column, expected } => write!(f, "column {column}: expected {expected}"),
            Self::Twice(name) => write!(f, "the field {name:?} is there twice"),
            Self::TooManyFields => f.write_str("more fields than any line of a trace has"),
            Self::Missing(name) => write!(f, "the field {name:?} is missing"),
            Self::Kind(name, kind) => write!(f, "the field {name:?} is not {kind}"),
            Self::Name(name, value) => write!(f, "the field {name:?} cannot be {value:?}"),
            Self::Version => write!(f, "not a lifecycle trace of version {VERSION}"),
        }
    }
}

impl core::error::Error for TraceLineError {}

/// The version of the format.
const VERSION: u32 = 1;

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut object = Object::new(f);
        match self {
            Self::Header(compat) => {
                object.text("trace", "lifecycle");
                object.number("version", VERSION);
                object.text("compat", compat);
            }
            Self::Truncated => object.flag("truncated", true),
            Self::Record { at, record } => {
                object.number("seq", record.sequence);
                object.number("ns", at.as_nanos());
                write_happening(&mut object, &record.happening);
            }
        }
        object.end()
    }
}

impl FromStr for TraceLine {
    type Err = TraceLineError;

    fn from_str(line: &str) -> Result<Self, TraceLineError> {
        let fields = Fields::read(line)?;
        if let Some(kind) = fields.find("trace")? {
            let version: u32 = fields.number("version")?;
            if kind != "lifecycle" || version != VERSION {
                return Err(TraceLineError::Version);
            }
            return Ok(Self::Header(fields.name("compat")?));
        }
        if fields.flag("truncated")? {
            return Ok(Self::Truncated);
        }
        let record = TraceRecord {
            sequence: fields.number("seq")?,
            happening: read_happening(&fields)?,
        };
        let at = Duration::from_nanos(fields.number("ns")?);
        Ok(Self::Record { at, record })
    }
}

fn write_happening(object: &mut Object<'_, '_>, happening: &Happening) {
    object.text("what", happening.kind());
    match happening {
        Happening::Turn {
            phase,
            now,
            latched,
            actions,
        } => {
            object.text("phase", phase);
            write_situation(object, *now);
            write_latched(object, latched);
            object.text("on-reboot", actions.reboot);
            object.text("on-shutdown", actions.shutdown);
            object.text("on-panic", actions.panic);
            object.text("on-watchdog", actions.watchdog);
        }
        Happening::Start { now, vmstop } => {
            write_situation(object, *now);
            object.flag("vmstop", *vmstop);
        }
        Happening::Stop {
            now,
            target,
            announced,
        } => {
            write_situation(object, *now);
            object.text("target", target);
            object.flag("announced", *announced);
        }
        Happening::Set { to } => object.text("to", to),
        Happening::State { from, to }
        | Happening::RolledBack { from, to }
        | Happening::Refused(InvalidTransition { from, to }) => {
            object.text("from", from);
            object.text("to", to);
        }
        Happening::Dropped { phase, state } => {
            object.text("phase", phase);
            object.text("state", state);
        }
        Happening::Event(event) => write_event(object, event),
        Happening::Deferred
        | Happening::Pausing
        | Happening::Paused
        | Happening::PauseFailed
        | Happening::Resumed
        | Happening::Exit => {}
    }
}

fn read_happening(fields: &Fields<'_>) -> Result<Happening, TraceLineError> {
    let what = fields
        .find("what")?
        .ok_or(TraceLineError::Missing("what"))?;
    let (from, to) = (|| fields.name("from"), || fields.name("to"));
    Ok(match what {
        "turn" => Happening::Turn {
            phase: fields.name("phase")?,
            now: read_situation(fields)?,
            latched: read_latched(fields)?,
            actions: Actions {
                reboot: fields.name("on-reboot")?,
                shutdown: fields.name("on-shutdown")?,
                panic: fields.name("on-panic")?,
                watchdog: fields.name("on-watchdog")?,
            },
        },
        "start" => Happening::Start {
            now: read_situation(fields)?,
            vmstop: fields.flag("vmstop")?,
        },
        "stop" => Happening::Stop {
            now: read_situation(fields)?,
            target: fields.name("target")?,
            announced: fields.flag("announced")?,
        },
        "set" => Happening::Set { to: to()? },
        "state" => Happening::State {
            from: from()?,
            to: to()?,
        },
        "rolled-back" => Happening::RolledBack {
            from: from()?,
            to: to()?,
        },
        "refused" => Happening::Refused(InvalidTransition {
            from: from()?,
            to: to()?,
        }),
        "dropped" => Happening::Dropped {
            phase: fields.name("phase")?,
            state: fields.name("state")?,
        },
        "deferred" => Happening::Deferred,
        "event" => Happening::Event(read_event(fields)?),
        "pausing" => Happening::Pausing,
        "paused" => Happening::Paused,
        "pause-failed" => Happening::PauseFailed,
        "resumed" => Happening::Resumed,
        "exit" => Happening::Exit,
        other => return Err(TraceLineError::Name("what", other.into())),
    })
}

fn write_situation(object: &mut Object<'_, '_>, now: Situation) {
    object.text("state", now.state);
    object.flag("was-suspended", now.was_suspended);
    object.flag("needs-reset", now.needs_reset);
}

fn read_situation(fields: &Fields<'_>) -> Result<Situation, TraceLineError> {
    Ok(Situation {
        state: fields.name("state")?,
        was_suspended: fields.flag("was-suspended")?,
        needs_reset: fields.flag("needs-reset")?,
    })
}

fn write_latched(object: &mut Object<'_, '_>, latched: &Latched) {
    object.flag("panicked", latched.panicked);
    object.flag("crashloaded", latched.crashloaded);
    object.flag("suspend-disk", latched.suspend_disk);
    object.flag("pvshutdown", latched.pvshutdown);
    object.flag("watchdog", latched.watchdog);
    object.flag("debug", latched.debug);
    object.flag("suspend", latched.suspend);
    if let Some(request) = latched.shutdown {
        object.text("shutdown", request.cause);
        if let Some(code) = request.exit_code {
            object.number("exit-code", code);
        }
        object.flag("poweroff", request.poweroff);
        object.flag("not-resettable", request.not_resettable);
    }
    if let Some(Signal { number, pid }) = latched.signal {
        object.number("signal", number);
        object.number("pid", pid);
    }
    object.some_text("reset", latched.reset);
    object.some_text("wakeup", latched.wakeup);
    object.flag("powerdown", latched.powerdown);
    object.some_text("vmstop", latched.vmstop);
}

fn read_latched(fields: &Fields<'_>) -> Result<Latched, TraceLineError> {
    let shutdown = match fields.find_name::<ShutdownCause>("shutdown")? {
        None => None,
        Some(cause) => Some(ShutdownRequest {
            cause,
            exit_code: fields.find_number("exit-code")?,
            poweroff: fields.flag("poweroff")?,
            not_resettable: fields.flag("not-resettable")?,
        }),
    };
    let signal = match fields.find_number("signal")? {
        None => None,
        Some(number) => Some(Signal {
            number,
            pid: fields.number("pid")?,
        }),
    };
    Ok(Latched {
        panicked: fields.flag("panicked")?,
        crashloaded: fields.flag("crashloaded")?,
        suspend_disk: fields.flag("suspend-disk")?,
        pvshutdown: fields.flag("pvshutdown")?,
        watchdog: fields.flag("watchdog")?,
        debug: fields.flag("debug")?,
        suspend: fields.flag("suspend")?,
        shutdown,
        signal,
        reset: fields.find_name("reset")?,
        wakeup: fields.find_name("wakeup")?,
        powerdown: fields.flag("powerdown")?,
        vmstop: fields.find_name::<RunState>("vmstop")?,
    })
}

const HYPER_V: [&str; 5] = ["arg1", "arg2", "arg3", "arg4", "arg5"];

fn write_event(object: &mut Object<'_, '_>, event: &Event) {
    object.text("event", event.name());
    match event {
        Event::Reset { reason, .. } | Event::Shutdown { reason, .. } => {
            // Whether the guest is the cause, the reason tells.
            object.text("reason", reason);
        }
        Event::Watchdog { action } => object.text("action", action),
        Event::GuestPanicked { action, info } | Event::GuestCrashloaded { action, info } => {
            object.text("action", action);
            match info {
                None => {}
                Some(PanicInfo::HyperV(args)) => {
                    object.text("info", "hyper-v");
                    for (name, arg) in HYPER_V.iter().zip(args) {
                        object.number(name, arg);
                    }
                }
                Some(PanicInfo::S390 {
                    core,
                    psw_mask,
                    psw_addr,
                    reason,
                }) => {
                    object.text("info", "s390");
                    object.number("core", core);
                    object.number("psw-mask", psw_mask);
                    object.number("psw-addr", psw_addr);
                    object.text("reason", reason);
                }
            }
        }
        Event::Stop
        | Event::Resume
        | Event::Suspend
        | Event::SuspendDisk
        | Event::Wakeup
        | Event::Powerdown
        | Event::GuestPvshutdown => {}
    }
}

fn read_event(fields: &Fields<'_>) -> Result<Event, TraceLineError> {
    let name = fields
        .find("event")?
        .ok_or(TraceLineError::Missing("event"))?;
    Ok(match name {
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "SUSPEND" => Event::Suspend,
        "SUSPEND_DISK" => Event::SuspendDisk,
        "WAKEUP" => Event::Wakeup,
        "POWERDOWN" => Event::Powerdown,
        "GUEST_PVSHUTDOWN" => Event::GuestPvshutdown,
        "RESET" | "SHUTDOWN" => {
            let reason: ShutdownCause = fields.name("reason")?;
            let guest = reason.is_guest();
            if name == "RESET" {
                Event::Reset { guest, reason }
            } else {
                Event::Shutdown { guest, reason }
            }
        }
        "WATCHDOG" => Event::Watchdog {
            action: fields.name("action")?,
        },
        "GUEST_PANICKED" => Event::GuestPanicked {
            action: fields.name("action")?,
            info: read_panic(fields)?,
        },
        "GUEST_CRASHLOADED" => Event::GuestCrashloaded {
            action: fields.name("action")?,
            info: read_panic(fields)?,
        },
        other => return Err(TraceLineError::Name("event", other.into())),
    })
}

fn read_panic(fields: &Fields<'_>) -> Result<Option<PanicInfo>, TraceLineError> {
    Ok(match fields.find("info")? {
        None => None,
        Some("hyper-v") => {
            let mut args = [0; 5];
            for (arg, name) in args.iter_mut().zip(HYPER_V) {
                *arg = fields.number(name)?;
            }
            Some(PanicInfo::HyperV(args))
        }
        Some("s390") => Some(PanicInfo::S390 {
            core: fields.number("core")?,
            psw_mask: fields.number("psw-mask")?,
            psw_addr: fields.number("psw-addr")?,
            reason: fields.name("reason")?,
        }),
        Some(other) => return Err(TraceLineError::Name("info", other.into())),
    })
}

impl Happening {
    /// The kind of it, as the field `what` of a [`TraceLine`] has it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Turn { .. } => "turn",
            Self::Start { .. } => "start",
            Self::Stop { .. } => "stop",
            Self::Set { .. } => "set",
            Self::State { .. } => "state",
            Self::RolledBack { .. } => "rolled-back",
            Self::Dropped { .. } => "dropped",
            Self::Deferred => "deferred",
            Self::Refused(_) => "refused",
            Self::Event(_) => "event",
            Self::Pausing => "pausing",
            Self::Paused => "paused",
            Self::PauseFailed => "pause-failed",
            Self::Resumed => "resumed",
            Self::Exit => "exit",
        }
    }
}
