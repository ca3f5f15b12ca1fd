//! What happened, as the fields of a line.
//!
//! The rule that must never be broken: what is left out is what a reader takes for not there.

use runstate::InvalidTransition;

use super::Happening;
use super::fields::Object;
use crate::event::Event;
use crate::latch::Signal;
use crate::panic::PanicInfo;
use crate::step::{Latched, Situation};

/// The names of the Hyper-V crash registers.
pub(super) const HYPER_V: [&str; 5] = ["arg1", "arg2", "arg3", "arg4", "arg5"];

pub(super) fn write_happening(object: &mut Object<'_, '_>, happening: &Happening) {
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

fn write_situation(object: &mut Object<'_, '_>, now: Situation) {
    object.text("state", now.state);
    object.flag("was-suspended", now.was_suspended);
    object.flag("needs-reset", now.needs_reset);
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
