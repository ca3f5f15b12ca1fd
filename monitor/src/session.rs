//! One client's conversation, without any I/O: bytes in, one request at a time, one reply each.
//!
//! ```text
//!              qmp_capabilities
//!   negotiating ─────────────────▶ command mode
//!     every other command            every registered command
//!     is refused, no events          but qmp_capabilities; events
//! ```
//!
//! A client that has enabled `oob` may have eight requests waiting; a ninth is not read. What it
//! sends with `exec-oob` is executed before all that wait.
//!
//! The rule that must never be broken: **requests are answered one at a time and in order**. While
//! as many wait as may, no further input is taken.

use crate::events::Caller;
use crate::protocol::{
    ErrorClass, Limits, ParseError, Parser, Request, error_reply, greeting_offering,
    is_out_of_band, read_request_with, return_reply,
};
use crate::registry::{CommandError, NEGOTIATE, Registry, read_arguments};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// Requests that may wait when `oob` is enabled.
const QUEUE_LENGTH: usize = 8;

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
    /// The capabilities that exist.
    #[derive(Debug, Deserialize, PartialEq, Eq)]
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
    /// Requests may overtake others.
    oob: bool,
    pending: VecDeque<Pending>,
    /// One that overtakes the others.
    overtaking: Option<Pending>,
}

impl Session {
    /// A connection that has just been opened.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Session {
            parser: Parser::for_requests(limits),
            negotiated: false,
            oob: false,
            pending: VecDeque::new(),
            overtaking: None,
        }
    }

    /// The line to send first.
    #[must_use]
    pub fn greeting<C>(&self, registry: &Registry<C>) -> Vec<u8> {
        let offered: &[&str] = if registry.offers_oob() { &["oob"] } else { &[] };
        greeting_offering(registry.version(), offered)
    }

    /// Takes input up to the end of the next request. Returns how many bytes were used; none are
    /// while a request waits that is to overtake others, or as many others as may: one, and eight
    /// where `oob` is enabled.
    pub fn feed(&mut self, input: &[u8]) -> usize {
        if !self.takes_input() {
            return 0;
        }
        let (used, message) = self.parser.feed(input);
        match message {
            None => {}
            Some(Ok(value)) => {
                let overtakes = self.oob && is_out_of_band(&value);
                let (id, request) = read_request_with(value, self.oob);
                let pending = Pending { id, request };
                if overtakes {
                    self.overtaking = Some(pending);
                } else {
                    self.pending.push_back(pending);
                }
            }
            Some(Err(error)) => self.pending.push_back(Pending {
                id: None,
                request: Err(refusal(&error)),
            }),
        }
        used
    }

    /// Whether [`Session::feed`] would take anything.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        let room = if self.oob { QUEUE_LENGTH } else { 1 };
        self.overtaking.is_none() && self.pending.len() < room
    }

    /// Whether a request has begun and not ended.
    pub(crate) fn is_mid_message(&self) -> bool {
        !self.parser.is_idle()
    }

    /// Whether a request, or the error that answers bad input, waits for [`Session::execute`].
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.overtaking.is_some() || !self.pending.is_empty()
    }

    /// Whether the client has negotiated and is to get events.
    #[must_use]
    pub fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Executes the request that overtakes others, if there is one, and returns the reply. It needs
    /// no context: [`Command::out_of_band`](crate::Command::out_of_band).
    pub fn execute_out_of_band<C>(&mut self, registry: &Registry<C>) -> Option<Reply> {
        let Pending { id, request } = self.overtaking.take()?;
        let result = request.and_then(
            |Request {
                 execute, arguments, ..
             }| { registry.execute_out_of_band(&execute, arguments) },
        );
        Some(Reply {
            line: reply_line(result, id.as_ref()),
            negotiated: false,
        })
    }

    /// Executes the request that is next and returns the reply, or nothing if none waits.
    pub fn execute<C>(&mut self, registry: &Registry<C>, context: &mut C) -> Option<Reply> {
        self.execute_for(None, registry, context)
    }

    /// The same for a client of a server.
    pub(crate) fn execute_for<C>(
        &mut self,
        caller: Option<&Caller<'_>>,
        registry: &Registry<C>,
        context: &mut C,
    ) -> Option<Reply> {
        if let Some(reply) = self.execute_out_of_band(registry) {
            return Some(reply);
        }
        let Pending { id, request } = self.pending.pop_front()?;
        let before = self.negotiated;
        let result = request.and_then(|request| self.run(caller, registry, context, request));
        Some(Reply {
            line: reply_line(result, id.as_ref()),
            negotiated: self.negotiated && !before,
        })
    }

    /// Drops the requests that wait.
    pub(crate) fn drop_pending(&mut self) {
        self.overtaking = None;
        self.pending.clear();
    }

    fn run<C>(
        &mut self,
        caller: Option<&Caller<'_>>,
        registry: &Registry<C>,
        context: &mut C,
        request: Request,
    ) -> Result<Value, CommandError> {
        let Request {
            execute, arguments, ..
        } = request;
        if execute == NEGOTIATE {
            return self.negotiate(registry.offers_oob(), arguments);
        }
        if !self.negotiated {
            let text = "Expecting capabilities negotiation with 'qmp_capabilities'";
            return Err(CommandError::new(ErrorClass::CommandNotFound, text));
        }
        registry.execute_for(caller, context, &execute, arguments)
    }

    fn negotiate(
        &mut self,
        offers_oob: bool,
        arguments: Map<String, Value>,
    ) -> Result<Value, CommandError> {
        let asked: Negotiation = read_arguments(arguments)?;
        if self.negotiated {
            let text = "Capabilities negotiation is already complete, command ignored";
            return Err(CommandError::new(ErrorClass::CommandNotFound, text));
        }
        let wanted = asked.enable.unwrap_or_default();
        if let Some(capability) = wanted.first().filter(|_| !offers_oob) {
            let text = format!("Capability {} not available", capability.name());
            return Err(CommandError::generic(text));
        }
        self.negotiated = true;
        self.oob = wanted.contains(&Capability::Oob);
        Ok(Value::Object(Map::new()))
    }
}

fn reply_line(result: Result<Value, CommandError>, id: Option<&Value>) -> Vec<u8> {
    match result {
        Ok(value) => return_reply(&value, id),
        Err(error) => error_reply(&error, id),
    }
}

fn refusal(error: &ParseError) -> CommandError {
    CommandError::generic(error.to_string())
}
