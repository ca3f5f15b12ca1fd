//! Lifecycle's events as QMP's.

use super::types::Named;
use crate::EventSpec;
use crate::events::EventSender;
use crate::schema::{QapiType, Schema, TypeName};
use lifecycle::{
    Event, EventSink, GuestPanicAction, PanicInfo, S390CrashReason, ShutdownCause, WatchdogAction,
};
use serde_json::{Value, json};

/// The events that [`register`](super::register) makes known, and what data they have.
pub(super) fn specs() -> [EventSpec; 12] {
    [
        EventSpec::new("SHUTDOWN").data::<Caused>(),
        EventSpec::new("POWERDOWN").data::<()>(),
        EventSpec::new("RESET").data::<Caused>(),
        EventSpec::new("STOP").data::<()>(),
        EventSpec::new("RESUME").data::<()>(),
        EventSpec::new("SUSPEND").data::<()>(),
        EventSpec::new("SUSPEND_DISK").data::<()>(),
        EventSpec::new("WAKEUP").data::<()>(),
        EventSpec::new("WATCHDOG").data::<Watchdog>(),
        EventSpec::new("GUEST_PANICKED").data::<GuestPanic>(),
        EventSpec::new("GUEST_CRASHLOADED").data::<GuestPanic>(),
        EventSpec::new("GUEST_PVSHUTDOWN").data::<()>(),
    ]
}

crate::qapi! {
    /// The data of `SHUTDOWN` and `RESET`.
    #[derive(serde::Serialize)]
    struct Caused {
        guest: bool,
        reason: Named<ShutdownCause>,
    }
}

crate::qapi! {
    /// The data of `WATCHDOG`.
    #[derive(serde::Serialize)]
    struct Watchdog {
        action: Named<WatchdogAction>,
    }
}

crate::qapi! {
    /// The data of `GUEST_PANICKED` and `GUEST_CRASHLOADED`.
    #[derive(serde::Serialize)]
    struct GuestPanic {
        action: Named<GuestPanicAction>,
        info: Option<PanicInformation>,
    }
}

/// The union `GuestPanicInformation`.
#[derive(serde::Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum PanicInformation {
    HyperV(HyperV),
    S390(S390),
}

impl QapiType for PanicInformation {
    fn describe(schema: &mut Schema) -> TypeName {
        /// The union's tag: it is the enum above that carries the value.
        struct Kind;
        impl QapiType for Kind {
            fn describe(schema: &mut Schema) -> TypeName {
                schema.enumeration::<Self>(&["hyper-v", "s390"])
            }
        }
        schema.object::<Self>(|object| {
            object
                .member::<Kind>("type")
                .tag("type")
                .variant::<HyperV>("hyper-v")
                .variant::<S390>("s390");
        })
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    struct HyperV {
        arg1: u64,
        arg2: u64,
        arg3: u64,
        arg4: u64,
        arg5: u64,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    struct S390 {
        core: u32,
        psw_mask: u64,
        psw_addr: u64,
        reason: Named<S390CrashReason>,
    }
}

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
    match *event {
        Event::Reset { guest, reason } | Event::Shutdown { guest, reason } => {
            let reason = Named(reason);
            Some(json!(Caused { guest, reason }))
        }
        Event::Watchdog { action } => {
            let action = Named(action);
            Some(json!(Watchdog { action }))
        }
        Event::GuestPanicked { action, info } | Event::GuestCrashloaded { action, info } => {
            let (action, info) = (Named(action), info.and_then(panic_info));
            Some(json!(GuestPanic { action, info }))
        }
        _ => None,
    }
}

fn panic_info(info: PanicInfo) -> Option<PanicInformation> {
    match info {
        PanicInfo::HyperV([arg1, arg2, arg3, arg4, arg5]) => {
            Some(PanicInformation::HyperV(HyperV {
                arg1,
                arg2,
                arg3,
                arg4,
                arg5,
            }))
        }
        PanicInfo::S390 {
            core,
            psw_mask,
            psw_addr,
            reason,
        } => Some(PanicInformation::S390(S390 {
            core,
            psw_mask,
            psw_addr,
            reason: Named(reason),
        })),
        _ => None,
    }
}
