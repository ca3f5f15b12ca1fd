//! The events that a VMM may emit, and the limits on their rate.

use crate::events::EventsLost;
use crate::schema::{Describe, QapiType, Schema};
use serde_json::Value;
use std::sync::Arc;

/// Which occurrences of a rate-limited event count as the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Throttle {
    /// Members of the data: occurrences that agree in all of them share a limit.
    pub(crate) key: Vec<String>,
    /// Values of a member that lift the limit.
    pub(crate) unless: Option<(String, Vec<String>)>,
}

/// An event to be registered: its name, whether its rate is limited, and what data it has.
#[derive(Clone, Debug)]
pub struct EventSpec {
    name: Arc<str>,
    throttle: Option<Throttle>,
    data: Describe,
}

/// Two are equal that name the same event with the same limit.
impl PartialEq for EventSpec {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.throttle == other.throttle
    }
}

impl Eq for EventSpec {}

impl EventSpec {
    /// An event that is sent each time it happens, unless QEMU limits the event of this name to one
    /// a second: `RTC_CHANGE`, `BALLOON_CHANGE`, `HV_BALLOON_STATUS_REPORT`, `QUORUM_FAILURE`,
    /// `QUORUM_REPORT_BAD` (for each node), `VSERPORT_CHANGE` (for each port),
    /// `MEMORY_DEVICE_SIZE_CHANGE` (for each device), `BLOCK_IO_ERROR` (for each device, unless the
    /// action is `stop`) and `WATCHDOG`.
    ///
    /// `WATCHDOG` differs from QEMU: it is limited for each action by itself, and not at all where
    /// the action changes what the VM does. A `WATCHDOG` is never merged with one that did
    /// something else, and never arrives after the `STOP` or `RESET` that it announces.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        let limited = |key: &[&str]| Throttle {
            key: owned(key),
            unless: None,
        };
        let throttle = match &*name {
            "RTC_CHANGE" | "BALLOON_CHANGE" | "HV_BALLOON_STATUS_REPORT" | "QUORUM_FAILURE" => {
                Some(limited(&[]))
            }
            "QUORUM_REPORT_BAD" => Some(limited(&["node-name"])),
            "VSERPORT_CHANGE" => Some(limited(&["id"])),
            "MEMORY_DEVICE_SIZE_CHANGE" => Some(limited(&["qom-path"])),
            "BLOCK_IO_ERROR" => Some(Throttle {
                key: owned(&["qom-path", "node-name"]),
                unless: Some(("action".to_owned(), owned(&["stop"]))),
            }),
            "WATCHDOG" => Some(Throttle {
                key: owned(&["action"]),
                unless: Some((
                    "action".to_owned(),
                    owned(&["reset", "shutdown", "poweroff", "pause"]),
                )),
            }),
            _ => None,
        };
        EventSpec {
            name,
            throttle,
            data: Schema::any,
        }
    }

    /// Limits the event to one a second for each combination of values that the members named in
    /// `key` have. Of those that come sooner only the latest is kept, and sent when the second is
    /// over.
    #[must_use]
    pub fn throttled(mut self, key: &[&str]) -> Self {
        self.throttle = Some(Throttle {
            key: owned(key),
            unless: None,
        });
        self
    }

    /// Describes the event's data, so that a client finds it in `query-qmp-schema`; the unit type
    /// stands for none. Without this the schema says `any`.
    #[must_use]
    pub fn data<T: QapiType>(mut self) -> Self {
        self.data = T::describe;
        self
    }

    /// The event's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// What a rate-limited occurrence is told apart by, or nothing if this one is not limited.
    pub(crate) fn throttle_key(&self, data: Option<&Value>) -> Option<Vec<String>> {
        let throttle = self.throttle.as_ref()?;
        let member = |name: &String| data.and_then(|data| data.get(name));
        if let Some((name, values)) = &throttle.unless
            && member(name)
                .and_then(Value::as_str)
                .is_some_and(|v| values.iter().any(|u| u == v))
        {
            return None;
        }
        Some(
            throttle
                .key
                .iter()
                .map(|n| member(n).map(Value::to_string).unwrap_or_default())
                .collect(),
        )
    }
}

impl From<&str> for EventSpec {
    fn from(name: &str) -> Self {
        EventSpec::new(name)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// All events that a server may send, in the order of registration.
#[derive(Clone, Debug, Default)]
pub struct EventTable {
    events: Vec<EventSpec>,
}

impl EventTable {
    pub(super) fn new() -> Self {
        let mut table = EventTable::default();
        table.add(EventSpec::new(crate::events::EVENTS_LOST).data::<EventsLost>());
        table
    }

    pub(super) fn add(&mut self, event: EventSpec) {
        match self
            .events
            .iter_mut()
            .find(|known| known.name == event.name)
        {
            Some(known) => *known = event,
            None => self.events.push(event),
        }
    }

    /// The events' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(EventSpec::name)
    }

    pub(super) fn describe(&self, schema: &mut Schema) {
        for event in &self.events {
            let data = (event.data)(schema);
            schema.event(event.name(), data);
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&EventSpec> {
        self.events.iter().find(|event| event.name() == name)
    }
}
