//! The commands with which a client numbers its events and asks for earlier ones: extensions, off
//! until asked for.
//!
//! | command | what it does |
//! |---|---|
//! | `x-number-events` | from now on each event to this client has a member `sequence`; or no longer |
//! | `x-replay-events` | the events that are kept, from a number on or the latest so many |

use super::hub::{ClientId, Hub};
use crate::registry::{Command, CommandError, Registry};
use crate::schema::{QapiType, Schema, TypeName};
use serde_json::Value;

/// The client that has called, for commands that are about itself.
pub(crate) struct Caller<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) id: ClientId,
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct NumberEvents {
        enable: bool,
    }
}

crate::qapi! {
    /// Which events there are.
    #[derive(serde::Serialize)]
    struct Kept {
        oldest: u64,
        next: u64,
    }
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct ReplayEvents {
        first: Option<u64>,
        count: Option<u64>,
    }
}

crate::qapi! {
    #[derive(serde::Serialize)]
    struct Replayed {
        events: Vec<PastEvent>,
        oldest: u64,
        next: u64,
    }
}

crate::qapi! {
    #[derive(serde::Deserialize, serde::Serialize)]
    struct Timestamp {
        seconds: i64,
        microseconds: i64,
    }
}

/// An event as it was sent, with its number.
#[derive(serde::Serialize)]
struct PastEvent {
    #[serde(flatten)]
    sent: Value,
    sequence: u64,
}

impl QapiType for PastEvent {
    fn describe(schema: &mut Schema) -> TypeName {
        schema.object::<Self>(|object| {
            object
                .member::<u64>("sequence")
                .member::<String>("event")
                .member::<Timestamp>("timestamp")
                .member::<Option<Value>>("data");
        })
    }
}

/// Registers the commands. Without a history they are known and refused.
pub(crate) fn register<C>(registry: &mut Registry<C>, has_history: bool) {
    registry.add(Command::of_client("x-number-events", number_events));
    let mut replay = Command::of_client("x-replay-events", replay_events);
    if !has_history {
        replay = replay.disabled("this server keeps no events");
    }
    registry.add(replay);
}

fn number_events(caller: &Caller<'_>, asked: NumberEvents) -> Result<Kept, CommandError> {
    let (oldest, next) = caller.hub.number_events(caller.id, asked.enable);
    Ok(Kept { oldest, next })
}

fn replay_events(caller: &Caller<'_>, asked: ReplayEvents) -> Result<Replayed, CommandError> {
    let count = asked.count.map_or(usize::MAX, |count| {
        usize::try_from(count).unwrap_or(usize::MAX)
    });
    let (oldest, next, lines) = caller.hub.replay(asked.first, count);
    if let Some(first) = asked.first.filter(|&first| first > next) {
        return Err(CommandError::generic(format!(
            "Parameter 'first' is {first}, but the next event has number {next}"
        )));
    }
    let events = lines.into_iter().map(|(sequence, line)| {
        // What was sent is JSON of our own making.
        let sent = serde_json::from_slice(&line).unwrap_or_default();
        PastEvent { sent, sequence }
    });
    Ok(Replayed {
        events: events.collect(),
        oldest,
        next,
    })
}
