//! A client of the monitor.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::{DEADLINE, wait_for};

/// What a client is connected through.
pub(crate) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// A client of the monitor.
pub(crate) struct Qmp {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects as soon as somebody listens: a socket has its name before that.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = wait_for("monitor", || UnixStream::connect(path).ok());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self::over(stream)
    }

    /// A client that is connected already. Reads of `stream` must not last for ever.
    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        let mut qmp = Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            events: Vec::new(),
        };
        assert!(qmp.message().expect("a greeting").get("QMP").is_some());
        qmp.execute("qmp_capabilities");
        qmp
    }

    /// The next message; `None` at the end.
    fn message(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let mut buf = [0; 4096];
            match self.stream.read(&mut buf) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no message in time: {error}"),
            }
        }
    }

    /// Sends a command; returns the whole reply.
    pub(crate) fn reply(&mut self, command: &str, arguments: Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        self.stream
            .write_all(request.to_string().as_bytes())
            .unwrap();
        loop {
            let message = self.message().expect("a reply");
            if message.get("event").is_none() {
                return message;
            }
            self.events.push(message);
        }
    }

    /// Sends a command that must succeed.
    pub(crate) fn execute(&mut self, command: &str) -> Value {
        let reply = self.reply(command, json!({}));
        reply
            .get("return")
            .unwrap_or_else(|| panic!("{command}: {reply}"))
            .clone()
    }

    /// Waits for an event of this name and returns its data. Events before it are forgotten.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let event = if self.events.is_empty() {
                self.message()
                    .unwrap_or_else(|| panic!("the end, and no {name}"))
            } else {
                self.events.remove(0)
            };
            if event["event"] == name {
                return event["data"].clone();
            }
        }
    }

    /// The next event, with its data; `null` if it has none.
    pub(crate) fn next_event(&mut self) -> (String, Value) {
        let event = if self.events.is_empty() {
            self.message().expect("an event, and not the end")
        } else {
            self.events.remove(0)
        };
        let name = event["event"].as_str().expect("an event");
        (name.to_owned(), event["data"].clone())
    }

    /// The names of the events so far that nobody has asked for yet.
    pub(crate) fn events_so_far(&mut self) -> Vec<String> {
        self.status();
        let events = std::mem::take(&mut self.events);
        let names = events.iter().filter_map(|event| event["event"].as_str());
        names.map(str::to_owned).collect()
    }

    /// The events so far that nobody has asked for yet, with their data.
    pub(crate) fn take_events(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.events)
            .into_iter()
            .map(named)
            .collect()
    }

    /// All events until the end of the stream, with their data.
    pub(crate) fn events_to_the_end(&mut self) -> Vec<(String, Value)> {
        while let Some(message) = self.message() {
            if message.get("event").is_some() {
                self.events.push(message);
            }
        }
        self.take_events()
    }

    /// The names of all events until the end of the stream.
    pub(crate) fn last_events(mut self) -> Vec<String> {
        let mut names: Vec<_> = std::mem::take(&mut self.events);
        while let Some(message) = self.message() {
            names.push(message);
        }
        names
            .iter()
            .filter_map(|event| event["event"].as_str())
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn status(&mut self) -> String {
        self.execute("query-status")["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn named(event: Value) -> (String, Value) {
    let name = event["event"].as_str().unwrap_or_default();
    (name.to_owned(), event["data"].clone())
}
