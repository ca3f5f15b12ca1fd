//! The fields of a line, as what happened.
//!
//! The rule that must never be broken: a field that is missing or wrong is an error that names it,
//! and never something else that happened.

use runstate::{InvalidTransition, RunState};

use super::Happening;
use super::fields::Fields;
use super::line::TraceLineError;
use super::write::HYPER_V;
use crate::cause::ShutdownCause;
use crate::event::Event;
use crate::latch::{ShutdownRequest, Signal};
use crate::panic::PanicInfo;
use crate::policy::Actions;
use crate::step::{Latched, Situation};

pub(super) fn read_happening(fields: &Fields<'_>) -> Result<Happening, TraceLineError> {
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

fn read_situation(fields: &Fields<'_>) -> Result<Situation, TraceLineError> {
    Ok(Situation {
        state: fields.name("state")?,
        was_suspended: fields.flag("was-suspended")?,
        needs_reset: fields.flag("needs-reset")?,
    })
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
