//! Messages: what a request must look like, and how greeting, replies and events are put.

use super::writer::{wire_order, write_string, write_value};
use crate::registry::{CommandError, Version};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};

/// The class of an error, for programs; the text beside it is for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Everything that has no class of its own.
    GenericError,
    /// The command does not exist, or not in this state of the connection.
    CommandNotFound,
    /// A device is there but cannot be used now.
    DeviceNotActive,
    /// A named device does not exist.
    DeviceNotFound,
    /// The kernel lacks a KVM capability that is needed.
    KvmMissingCap,
}

impl ErrorClass {
    /// The spelling on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorClass::GenericError => "GenericError",
            ErrorClass::CommandNotFound => "CommandNotFound",
            ErrorClass::DeviceNotActive => "DeviceNotActive",
            ErrorClass::DeviceNotFound => "DeviceNotFound",
            ErrorClass::KvmMissingCap => "KVMMissingCap",
        }
    }
}

/// A request whose form is right. Whether the command exists is another question.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The command's name.
    pub execute: String,
    /// Its arguments; empty where the client sent none.
    pub arguments: Map<String, Value>,
    /// Whether it is to overtake those that wait: `exec-oob` instead of `execute`.
    pub out_of_band: bool,
}

/// Checks a message's form and takes the id out of it. The connection has not enabled `oob`.
///
/// The id, if there is one, goes into the reply whatever becomes of the request.
///
/// # Errors
///
/// With QEMU's texts: not an object, a member of the wrong type, a member that does not belong, no
/// `execute`. Of several faults the one is reported that QEMU would find first.
pub fn read_request(message: Value) -> (Option<Value>, Result<Request, CommandError>) {
    read_request_with(message, false)
}

/// Whether a message asks to overtake those that wait, however wrong it is otherwise.
pub(crate) fn is_out_of_band(message: &Value) -> bool {
    message.get("exec-oob").is_some() && message.get("execute").is_none()
}

/// The same for a connection that may have enabled `oob`.
pub(crate) fn read_request_with(
    message: Value,
    oob: bool,
) -> (Option<Value>, Result<Request, CommandError>) {
    let out_of_band = oob && is_out_of_band(&message);
    let Value::Object(mut members) = message else {
        return (
            None,
            Err(CommandError::generic("QMP input must be a JSON object")),
        );
    };
    let fault = find_fault(&members, oob);
    let id = members.remove("id");
    if let Some(text) = fault {
        return (id, Err(CommandError::generic(text)));
    }
    let arguments = match members.remove("arguments") {
        Some(Value::Object(arguments)) => arguments,
        _ => Map::new(),
    };
    let name = if out_of_band { "exec-oob" } else { "execute" };
    let request = match members.remove(name) {
        Some(Value::String(execute)) => Ok(Request {
            execute,
            arguments,
            out_of_band,
        }),
        _ => Err(CommandError::generic("QMP input lacks member 'execute'")),
    };
    (id, request)
}

fn find_fault(members: &Map<String, Value>, oob: bool) -> Option<String> {
    let mut command: Option<&str> = None;
    wire_order(members)
        .into_iter()
        .find_map(|(name, value)| match name.as_str() {
            "execute" | "exec-oob" if oob || name == "execute" => {
                if !value.is_string() {
                    return Some(format!("QMP input member '{name}' must be a string"));
                }
                let other = command.replace(name)?;
                Some(format!("QMP input member '{name}' clashes with '{other}'"))
            }
            "arguments" if !value.is_object() => {
                Some("QMP input member 'arguments' must be an object".to_owned())
            }
            "arguments" | "id" => None,
            other => Some(format!("QMP input member '{other}' is unexpected")),
        })
}

/// The line that opens a connection which offers no capability.
#[must_use]
pub fn greeting(version: &Version) -> Vec<u8> {
    greeting_offering(version, &[])
}

/// The line that opens a connection.
pub(crate) fn greeting_offering(version: &Version, capabilities: &[&str]) -> Vec<u8> {
    super::to_line(&json!({"QMP": {"version": version, "capabilities": capabilities}}))
}

/// The line that answers a command that succeeded.
pub(crate) fn return_reply(value: &Value, id: Option<&Value>) -> Vec<u8> {
    let mut line = Vec::with_capacity(96);
    line.extend_from_slice(b"{\"return\": ");
    write_value(&mut line, value);
    if let Some(id) = id {
        line.extend_from_slice(b", \"id\": ");
        write_value(&mut line, id);
    }
    line.extend_from_slice(b"}\r\n");
    line
}

/// The line that answers a command that failed, or input that is no command.
pub(crate) fn error_reply(error: &CommandError, id: Option<&Value>) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    line.push(b'{');
    if let Some(id) = id {
        line.extend_from_slice(b"\"id\": ");
        write_value(&mut line, id);
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(b"\"error\": {\"class\": ");
    write_string(&mut line, error.class().as_str());
    line.extend_from_slice(b", \"desc\": ");
    write_string(&mut line, error.desc());
    line.extend_from_slice(b"}}\r\n");
    line
}

/// The line that reports an event. An event without data has no member `data`.
pub(crate) fn event_line(name: &str, data: Option<&Value>, at: SystemTime) -> Vec<u8> {
    // A clock before 1970 is the host's fault; the event matters more than its time.
    let at = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    let mut line = Vec::with_capacity(128);
    let (seconds, microseconds) = (at.as_secs(), at.subsec_micros());
    line.extend_from_slice(
        format!("{{\"timestamp\": {{\"seconds\": {seconds}, \"microseconds\": {microseconds}}}, ")
            .as_bytes(),
    );
    line.extend_from_slice(b"\"event\": ");
    write_string(&mut line, name);
    if let Some(data) = data {
        line.extend_from_slice(b", \"data\": ");
        write_value(&mut line, data);
    }
    line.extend_from_slice(b"}\r\n");
    line
}
