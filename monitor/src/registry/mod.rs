//! The commands and events of a VMM, typed over a context of the VMM's own.
//!
//! ```text
//!   name ──▶ found? ──▶ enabled? ──▶ admitted now? ──▶ arguments fit? ──▶ handler(&mut C, A)
//!             │            │              │                 │                  │
//!             └────────────┴──────────────┴─────────────────┴──▶ error         ▼
//!                                                                          Result<R, _>
//! ```
//!
//! The rule that must never be broken: **a command that is refused has done nothing**. A handler
//! runs only after every check has passed, with arguments that are already of its own types.

mod argument_error;
mod arguments;
mod command;
mod error;
mod event;

pub use arguments::NoArguments;
pub use command::{Command, CommandInfo};
pub use error::{CommandError, Version};
pub use event::{EventSpec, EventTable};

use crate::events::Caller;
use crate::jobs::Jobs;
use crate::protocol::ErrorClass;
use crate::schema::{Entity, QapiType, Schema};
use crate::session::Negotiation;
use arguments::from_arguments;
use command::Handler;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The command that the session itself answers.
pub(crate) const NEGOTIATE: &str = "qmp_capabilities";

type Admission<C> = Box<dyn Fn(&C, &CommandInfo) -> Result<(), CommandError> + Send + Sync>;

/// What a client may call, and which events it may see.
///
/// A new registry knows `qmp_capabilities`, `query-version`, `query-commands`, `query-events` and
/// `query-qmp-schema`; the last three report what is registered and nothing else. `C` is whatever a handler needs to do
/// its work: the VMM hands it to [`Server::dispatch`](crate::Server::dispatch) by reference, and
/// nothing keeps it.
pub struct Registry<C> {
    version: Version,
    commands: Vec<Command<C>>,
    by_name: BTreeMap<String, usize>,
    events: EventTable,
    admission: Option<Admission<C>>,
    jobs: Option<Jobs<C>>,
}

impl<C> Registry<C> {
    /// A registry with the commands that every QMP server has.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let mut registry = Registry {
            version,
            commands: Vec::new(),
            by_name: BTreeMap::new(),
            events: EventTable::new(),
            admission: None,
            jobs: None,
        };
        let negotiate = Handler::Session;
        registry
            .add(Command::built_in::<Negotiation, ()>(NEGOTIATE, negotiate))
            .add(query::<C, Version>("query-version", |registry| {
                json!(registry.version)
            }))
            .add(query::<C, Vec<Named>>("query-commands", |registry| {
                let enabled = registry.enabled().rev();
                json!(named(enabled.map(|command| command.info().name())))
            }))
            .add(query::<C, Vec<Named>>("query-events", |registry| {
                json!(named(registry.events.names()))
            }))
            .add(query::<C, Vec<Entity>>("query-qmp-schema", |registry| {
                json!(registry.schema())
            }));
        registry
    }

    /// The commands that are not disabled.
    fn enabled(&self) -> impl DoubleEndedIterator<Item = &Command<C>> {
        self.commands.iter().filter(|command| command.is_enabled())
    }

    /// What a client may call and may see, in the form of QEMU's `query-qmp-schema`.
    fn schema(&self) -> Vec<Entity> {
        let mut schema = Schema::new();
        for command in self.enabled() {
            command.describe(&mut schema);
        }
        self.events.describe(&mut schema);
        schema.into_entities()
    }

    /// Registers a command whose types are described, so that a client finds them in
    /// `query-qmp-schema`. Declare them with [`qapi!`](crate::qapi).
    pub fn described<A, R, F>(&mut self, name: impl Into<String>, handler: F) -> &mut Self
    where
        A: serde::de::DeserializeOwned + QapiType,
        R: serde::Serialize + QapiType,
        F: Fn(&mut C, A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        self.add(Command::described(name, handler))
    }

    /// Registers a command under `name`: a function of the context and of its arguments.
    ///
    /// `A` is a struct with one field for each argument (`#[serde(rename_all = "kebab-case")]` gives
    /// QAPI's spelling, `Option` makes one optional), or [`NoArguments`]. `R` is what the client
    /// gets as `return`; the unit type becomes `{}`. The schema calls both `any`: they need not be
    /// described here. [`Registry::described`] takes types that are.
    pub fn command<A, R, F>(&mut self, name: impl Into<String>, handler: F) -> &mut Self
    where
        A: serde::de::DeserializeOwned,
        R: serde::Serialize,
        F: Fn(&mut C, A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        self.add(Command::new(name, handler))
    }

    /// Registers a command with options. One of the same name is replaced: a VMM may put its own
    /// in the place of a ready-made one.
    pub fn add(&mut self, command: Command<C>) -> &mut Self {
        let name = command.info().name().to_owned();
        match self
            .by_name
            .get(&name)
            .and_then(|&place| self.commands.get_mut(place))
        {
            Some(known) => *known = command,
            None => {
                self.by_name.insert(name, self.commands.len());
                self.commands.push(command);
            }
        }
        self
    }

    /// Registers an event. Only registered events can be emitted.
    pub fn event(&mut self, event: impl Into<EventSpec>) -> &mut Self {
        self.events.add(event.into());
        self
    }

    /// Sets the check that every command must pass before its arguments are looked at: is it
    /// allowed in the state in which the VM is now?
    pub fn admission<F>(&mut self, check: F) -> &mut Self
    where
        F: Fn(&C, &CommandInfo) -> Result<(), CommandError> + Send + Sync + 'static,
    {
        self.admission = Some(Box::new(check));
        self
    }

    /// The version that greeting and `query-version` report.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The registered commands, in the order of registration.
    pub fn commands(&self) -> impl Iterator<Item = &CommandInfo> {
        self.commands.iter().map(Command::info)
    }

    /// The registered events.
    #[must_use]
    pub fn events(&self) -> &EventTable {
        &self.events
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// `CommandNotFound` if there is none of that name or it is disabled; whatever the admission
    /// check says; `GenericError` if the arguments do not fit; the handler's own error.
    pub fn execute(
        &self,
        context: &mut C,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, CommandError> {
        self.execute_for(None, context, name, arguments)
    }

    /// The same for a client of a server.
    pub(crate) fn execute_for(
        &self,
        caller: Option<&Caller<'_>>,
        context: &mut C,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, CommandError> {
        let command = self.find(name)?;
        if let Some(admit) = &self.admission {
            admit(context, command.info())?;
        }
        let value = match command.handler() {
            Handler::Typed(handler) => handler(context, arguments)?,
            Handler::OutOfBand(handler) => handler(arguments)?,
            Handler::Registry(answer) => {
                from_arguments::<NoArguments>(arguments)?;
                answer(self)
            }
            Handler::Client(handler) => {
                let nobody = || CommandError::generic("Not called by a client of a server");
                handler(caller.ok_or_else(nobody)?, arguments)?
            }
            Handler::Session => return Err(CommandError::generic("Not part of a session")),
        };
        Ok(or_empty(value))
    }

    /// Runs a command out of band.
    pub(crate) fn execute_out_of_band(
        &self,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Value, CommandError> {
        match self.find(name)?.handler() {
            Handler::OutOfBand(handler) => handler(arguments).map(or_empty),
            _ => {
                let text = format!("The command {name} does not support OOB");
                Err(CommandError::generic(text))
            }
        }
    }

    /// Whether there is a command that can be called out of band.
    pub(crate) fn offers_oob(&self) -> bool {
        self.enabled().any(Command::allows_oob)
    }

    /// The command of that name, if it exists and is enabled.
    fn find(&self, name: &str) -> Result<&Command<C>, CommandError> {
        let place = self.by_name.get(name);
        let Some(command) = place.and_then(|&place| self.commands.get(place)) else {
            let text = format!("The command {name} has not been found");
            return Err(CommandError::new(ErrorClass::CommandNotFound, text));
        };
        command.check_enabled()?;
        Ok(command)
    }

    /// The jobs, if the VMM has any.
    pub(crate) fn known_jobs(&self) -> Option<&Jobs<C>> {
        self.jobs.as_ref()
    }

    pub(crate) fn know_jobs(&mut self, jobs: Jobs<C>) {
        self.jobs = Some(jobs);
    }

    pub(crate) fn share_events(&self) -> Arc<EventTable> {
        Arc::new(self.events.clone())
    }
}

pub(crate) use arguments::from_arguments as read_arguments;

crate::qapi! {
    /// A command or an event in a list of them.
    #[derive(serde::Serialize)]
    struct Named {
        name: String,
    }
}

/// A command without a result answers with an empty object.
fn or_empty(value: Value) -> Value {
    if value.is_null() {
        Value::Object(Map::new())
    } else {
        value
    }
}

fn named<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Named> {
    let names = names.map(|name| Named {
        name: name.to_owned(),
    });
    names.collect()
}

/// A command that the registry answers from what it knows.
fn query<C, R: QapiType>(name: &str, answer: fn(&Registry<C>) -> Value) -> Command<C> {
    Command::built_in::<NoArguments, R>(name, Handler::Registry(answer))
}

impl<C> fmt::Debug for Registry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("version", &self.version)
            .field("commands", &self.by_name.keys())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
