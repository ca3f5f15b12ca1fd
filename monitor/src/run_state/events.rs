//! Lifecycle's events as QMP's.

use crate::events::EventSender;
use lifecycle::{Event, EventSink, PanicInfo};
use serde_json::{Map, Value, json};

/// The events that [`register`](super::register) makes known.
pub(super) const NAMES: [&str; 11] = [
    "SHUTDOWN",
    "POWERDOWN",
    "RESET",
    "STOP",
    "RESUME",
    "SUSPEND",
    "SUSPEND_DISK",
    "WAKEUP",
    "WATCHDOG",
    "GUEST_PANICKED",
    "GUEST_CRASHLOADED",
];

/// A sender is where a lifecycle can report to: every event goes to every client, in the order in
/// which it happened. Reports for the log are not for clients.
impl EventSink for EventSender {
    fn event(&self, event: &Event) {
        let sent = match data(event) {
            Some(data) => self.emit(event.name(), &data),
            None => self.emit_bare(event.name()),
        };
        // The one error is a registry without these events: its VMM does not want them.
        sent.ok();
    }
}

/// An event's data, if it has any.
fn data(event: &Event) -> Option<Value> {
    match event {
        Event::Reset { guest, reason } | Event::Shutdown { guest, reason } => {
            Some(json!({"guest": guest, "reason": reason.as_str()}))
        }
        Event::Watchdog { action } => Some(json!({"action": action.as_str()})),
        Event::GuestPanicked { action, info } | Event::GuestCrashloaded { action, info } => {
            let mut data = Map::new();
            data.insert("action".to_owned(), json!(action.as_str()));
            if let Some(info) = info.as_ref().and_then(panic_info) {
                data.insert("info".to_owned(), info);
            }
            Some(Value::Object(data))
        }
        _ => None,
    }
}

/// The union `GuestPanicInformation`.
fn panic_info(info: &PanicInfo) -> Option<Value> {
    match info {
        PanicInfo::HyperV([arg1, arg2, arg3, arg4, arg5]) => Some(json!({
            "type": "hyper-v",
            "arg1": arg1, "arg2": arg2, "arg3": arg3, "arg4": arg4, "arg5": arg5,
        })),
        PanicInfo::S390 {
            core,
            psw_mask,
            psw_addr,
            reason,
        } => Some(json!({
            "type": "s390",
            "core": core, "psw-mask": psw_mask, "psw-addr": psw_addr, "reason": reason.as_str(),
        })),
        _ => None,
    }
}
