//! One command: its name, when it may run, and the function behind it.

use super::arguments::{from_arguments, from_described_arguments};
use super::{CommandError, Registry};
use crate::events::Caller;
use crate::protocol::ErrorClass;
use crate::schema::{Describe, QapiType, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;

type Typed<C> =
    dyn Fn(&mut C, Map<String, Value>) -> Result<Value, CommandError> + Send + Sync + 'static;

type OutOfBand = dyn Fn(Map<String, Value>) -> Result<Value, CommandError> + Send + Sync + 'static;

type OfClient =
    dyn Fn(&Caller<'_>, Map<String, Value>) -> Result<Value, CommandError> + Send + Sync + 'static;

/// Who answers a command.
pub(super) enum Handler<C> {
    Typed(Box<Typed<C>>),
    OutOfBand(Box<OutOfBand>),
    /// About the client itself: only a server has an answer.
    Client(Box<OfClient>),
    Registry(fn(&Registry<C>) -> Value),
    Session,
}

/// What an admission check knows of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandInfo {
    name: String,
    preconfig: bool,
}

impl CommandInfo {
    /// The command's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may run before the machine is initialised.
    #[must_use]
    pub fn allowed_in_preconfig(&self) -> bool {
        self.preconfig
    }
}

/// A command to be registered.
pub struct Command<C> {
    info: CommandInfo,
    disabled: Option<String>,
    handler: Handler<C>,
    arguments: Describe,
    result: Describe,
}

impl<C> Command<C> {
    /// A command whose types are described: see [`Registry::described`].
    #[must_use]
    pub fn described<A, R, F>(name: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned + QapiType,
        R: Serialize + QapiType,
        F: Fn(&mut C, A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        let handler = move |context: &mut C, arguments| {
            to_value(handler(context, from_described_arguments(arguments)?)?)
        };
        Command {
            arguments: A::describe,
            result: R::describe,
            ..Command::typed(name, Box::new(handler))
        }
    }

    /// A command: see [`Registry::command`] for the types.
    #[must_use]
    pub fn new<A, R, F>(name: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        F: Fn(&mut C, A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        let handler = move |context: &mut C, arguments| {
            to_value(handler(context, from_arguments(arguments)?)?)
        };
        Command::typed(name, Box::new(handler))
    }

    fn typed(name: impl Into<String>, handler: Box<Typed<C>>) -> Self {
        Command {
            info: CommandInfo {
                name: name.into(),
                preconfig: false,
            },
            disabled: None,
            handler: Handler::Typed(handler),
            arguments: Schema::any,
            result: Schema::any,
        }
    }

    /// A command that a client may also call out of band: with `exec-oob` it overtakes the requests
    /// that wait. A registry with such a command offers the capability `oob`.
    ///
    /// It is executed when its request is read, by the event loop's thread and between the VMM's
    /// turns. So it gets no context, only what `handler` has captured, and the registry's admission
    /// check is not asked then: it must be right in every state, and it must be quick.
    #[must_use]
    pub fn out_of_band<A, R, F>(name: impl Into<String>, handler: F) -> Self
    where
        A: DeserializeOwned + QapiType,
        R: Serialize + QapiType,
        F: Fn(A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        let handler = move |arguments| to_value(handler(from_described_arguments(arguments)?)?);
        Command {
            info: CommandInfo {
                name: name.into(),
                preconfig: true,
            },
            disabled: None,
            handler: Handler::OutOfBand(Box::new(handler)),
            arguments: A::describe,
            result: R::describe,
        }
    }

    /// A command about the client that calls it.
    pub(crate) fn of_client<A, R, F>(name: &str, handler: F) -> Self
    where
        A: DeserializeOwned + QapiType,
        R: Serialize + QapiType,
        F: Fn(&Caller<'_>, A) -> Result<R, CommandError> + Send + Sync + 'static,
    {
        let handler = move |caller: &Caller<'_>, arguments| {
            to_value(handler(caller, from_described_arguments(arguments)?)?)
        };
        Command::built_in::<A, R>(name, Handler::Client(Box::new(handler)))
    }

    pub(super) fn built_in<A: QapiType, R: QapiType>(name: &str, handler: Handler<C>) -> Self {
        let info = CommandInfo {
            name: name.to_owned(),
            preconfig: true,
        };
        Command {
            info,
            disabled: None,
            handler,
            arguments: A::describe,
            result: R::describe,
        }
    }

    /// Lets the command run before the machine is initialised. The registry's admission check reads
    /// this; the registry itself knows no phases.
    #[must_use]
    pub fn allow_preconfig(mut self) -> Self {
        self.info.preconfig = true;
        self
    }

    /// Disables the command: it is known, not listed, and refused with `reason` (which may be empty).
    #[must_use]
    pub fn disabled(mut self, reason: impl Into<String>) -> Self {
        self.disabled = Some(reason.into());
        self
    }

    pub(super) fn info(&self) -> &CommandInfo {
        &self.info
    }

    pub(super) fn handler(&self) -> &Handler<C> {
        &self.handler
    }

    pub(super) fn describe(&self, schema: &mut Schema) {
        let types = [(self.arguments)(schema), (self.result)(schema)];
        schema.command(self.info.name(), types, self.allows_oob());
    }

    pub(super) fn allows_oob(&self) -> bool {
        matches!(self.handler, Handler::OutOfBand(_))
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.disabled.is_none()
    }

    pub(super) fn check_enabled(&self) -> Result<(), CommandError> {
        let Some(reason) = &self.disabled else {
            return Ok(());
        };
        let mut text = format!("Command {} has been disabled", self.info.name);
        if !reason.is_empty() {
            text.push_str(": ");
            text.push_str(reason);
        }
        Err(CommandError::new(ErrorClass::CommandNotFound, text))
    }
}

fn to_value<R: Serialize>(result: R) -> Result<Value, CommandError> {
    serde_json::to_value(result).map_err(|error| {
        CommandError::generic(format!("The result cannot be put into JSON: {error}"))
    })
}

impl<C> fmt::Debug for Command<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("info", &self.info)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}
