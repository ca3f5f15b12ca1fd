//! One client's conversation, without any I/O: bytes in, one request at a time, one reply each.
//!
//! ```text
//!              qmp_capabilities
//!   negotiating ─────────────────▶ command mode
//!     every other command            every registered command
//!     is refused, no events          but qmp_capabilities; events
//! ```
//!
//! The rule that must never be broken: **requests are answered one at a time and in order**. While
//! one waits to be executed, no further input is taken.

use crate::protocol::{
    ErrorClass, Limits, ParseError, Parser, Request, error_reply, greeting, read_request,
    return_reply,
};
use crate::registry::{CommandError, NEGOTIATE, Registry, read_arguments};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A request that waits, or the fault that stands in its place.
#[derive(Debug)]
struct Pending {
    id: Option<Value>,
    request: Result<Request, CommandError>,
}

/// A reply to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The line, ended by carriage return and line feed.
    pub line: Vec<u8>,
    /// Whether it completes the negotiation: from here on the client gets events.
    pub negotiated: bool,
}

crate::qapi! {
    /// What `qmp_capabilities` takes.
    #[derive(Debug, Deserialize)]
    pub(crate) struct Negotiation {
        enable: Option<Vec<Capability>>,
    }
}

crate::qapi! {
    /// The capabilities that exist. None is offered.
    #[derive(Debug, Deserialize)]
    enum Capability {
        Oob,
    }
}

impl Capability {
    fn name(&self) -> &'static str {
        match self {
            Capability::Oob => "oob",
        }
    }
}

/// The state of one connection.
///
/// [`Server`](crate::Server) keeps one for each client; a VMM with a transport of its own can do
/// the same.
///
/// # Example
///
/// ```
/// use monitor::{Registry, Session, Version, protocol::Limits};
///
/// let registry: Registry<()> = Registry::new(Version::new(1, 0, 0, "example"));
/// let mut session = Session::new(Limits::default());
/// session.feed(b"{'execute': 'qmp_capabilities', 'id': 7}");
/// let reply = session.execute(&registry, &mut ()).unwrap();
/// assert_eq!(reply.line, b"{\"return\": {}, \"id\": 7}\r\n");
/// ```
#[derive(Debug)]
pub struct Session {
    parser: Parser,
    negotiated: bool,
    pending: Option<Pending>,
}

impl Session {
    /// A connection that has just been opened.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Session {
            parser: Parser::new(limits),
            negotiated: false,
            pending: None,
        }
    }

    /// The line to send first.
    #[must_use]
    pub fn greeting<C>(&self, registry: &Registry<C>) -> Vec<u8> {
        greeting(registry.version())
    }

    /// Takes input up to the end of the next request. Returns how many bytes were used; while a
    /// request waits, none are.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        if self.pending.is_some() {
            return 0;
        }
        let (used, message) = self.parser.feed(input);
        self.pending = message.map(|message| match message {
            Ok(value) => {
                let (id, request) = read_request(value);
                Pending { id, request }
            }
            Err(error) => Pending {
                id: None,
                request: Err(refusal(&error)),
            },
        });
        used
    }

    /// Whether a request, or the error that answers bad input, waits for [`Session::execute`].
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the client has negotiated and is to get events.
    #[must_use]
    pub fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Executes the request that waits and returns the reply, or nothing if none waits.
    pub fn execute<C>(&mut self, registry: &Registry<C>, context: &mut C) -> Option<Reply> {
        let Pending { id, request } = self.pending.take()?;
        let before = self.negotiated;
        let result = request.and_then(|request| self.run(registry, context, request));
        let line = match result {
            Ok(value) => return_reply(&value, id.as_ref()),
            Err(error) => error_reply(&error, id.as_ref()),
        };
        Some(Reply {
            line,
            negotiated: self.negotiated && !before,
        })
    }

    /// Drops the request that waits.
    pub(crate) fn drop_pending(&mut self) {
        self.pending = None;
    }

    fn run<C>(
        &mut self,
        registry: &Registry<C>,
        context: &mut C,
        request: Request,
    ) -> Result<Value, CommandError> {
        let Request { execute, arguments } = request;
        if execute == NEGOTIATE {
            return self.negotiate(arguments);
        }
        if !self.negotiated {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(CommandError::new(ErrorClass::CommandNotFound, text));
        }
        registry.execute(context, &execute, arguments)
    }

    fn negotiate(&mut self, arguments: Map<String, Value>) -> Result<Value, CommandError> {
        let asked: Negotiation = read_arguments(arguments)?;
        if self.negotiated {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(CommandError::new(ErrorClass::CommandNotFound, text));
        }
        if let Some(capability) = asked.enable.iter().flatten().next() {
            let text = format!("Capability {} not available", capability.name());
            return Err(CommandError::generic(text));
        }
        self.negotiated = true;
        Ok(Value::Object(Map::new()))
    }
}

fn refusal(error: &ParseError) -> CommandError {
    CommandError::generic(error.to_string())
}
