//! What one client is still to be sent: replies and events in order, events within a bound.

use crate::protocol::event_line;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

/// A line, and whether it counts against the bound on events.
#[derive(Debug)]
enum Line {
    Reply(Vec<u8>),
    Event(EventLine),
}

/// An event, with its number if the client wants numbers.
#[derive(Debug)]
struct EventLine {
    line: Arc<[u8]>,
    number: Option<u64>,
}

/// How every event's line ends: the number is put before it.
const END: &[u8] = b"}\r\n";

impl EventLine {
    fn tail(&self) -> Option<String> {
        let number = self.number?;
        Some(format!(", \"sequence\": {number}}}\r\n"))
    }

    /// Bytes on the wire.
    fn len(&self) -> usize {
        let tail = self
            .tail()
            .map_or(0, |tail| tail.len().saturating_sub(END.len()));
        self.line.len().saturating_add(tail)
    }

    fn write(&self, buffer: &mut Vec<u8>) {
        match (self.tail(), self.line.strip_suffix(END)) {
            (Some(tail), Some(body)) => {
                buffer.extend_from_slice(body);
                buffer.extend_from_slice(tail.as_bytes());
            }
            _ => buffer.extend_from_slice(&self.line),
        }
    }
}

/// Events that did not fit, by name.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    first: u64,
    last: u64,
    by_name: BTreeMap<Arc<str>, u64>,
}

crate::qapi! {
    /// The data of `EVENTS_LOST`: how many, how many of each name, and for a client whose events are
    /// numbered the numbers of the first and the last.
    #[derive(Debug, serde::Serialize)]
    pub(crate) struct EventsLost {
        count: u64,
        events: serde_json::Value,
        first: Option<u64>,
        last: Option<u64>,
    }
}

/// One client's queue.
#[derive(Debug)]
pub(super) struct Outbox {
    lines: VecDeque<Line>,
    reply_bytes: usize,
    event_bytes: usize,
    event_limit: usize,
    lost: Lost,
    lost_ever: u64,
    pub(super) subscribed: bool,
    /// The client wants to see the events' numbers.
    pub(super) numbered: bool,
}

impl Outbox {
    pub(super) fn new(event_limit: usize) -> Self {
        Outbox {
            lines: VecDeque::new(),
            reply_bytes: 0,
            event_bytes: 0,
            event_limit,
            lost: Lost::default(),
            lost_ever: 0,
            subscribed: false,
            numbered: false,
        }
    }

    /// Bytes of replies that wait.
    pub(super) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// Bytes of events that wait.
    pub(super) fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    /// Events lost since the client connected.
    pub(super) fn lost_ever(&self) -> u64 {
        self.lost_ever
    }

    /// Queues a reply. Replies are never dropped: whoever calls stops taking requests instead.
    pub(super) fn push_reply(&mut self, line: Vec<u8>) {
        // A reply must not seem to come after events that the client never saw. The report counts
        // as part of the reply: what limits replies limits these reports too.
        if let Some(report) = self.lost_report() {
            self.reply_bytes = self.reply_bytes.saturating_add(report.len());
            self.lines.push_back(Line::Reply(report));
        }
        self.reply_bytes = self.reply_bytes.saturating_add(line.len());
        self.lines.push_back(Line::Reply(line));
    }

    /// Queues an event, or counts it as lost if there is no room.
    pub(super) fn push_event(&mut self, name: &Arc<str>, line: &Arc<[u8]>, number: u64) {
        self.report_lost_if_there_is_room();
        let event = EventLine {
            line: Arc::clone(line),
            number: self.numbered.then_some(number),
        };
        let bytes = self.event_bytes.saturating_add(event.len());
        if self.lost.count > 0 || bytes > self.event_limit {
            if self.lost.count == 0 {
                self.lost.first = number;
            }
            self.lost.last = number;
            self.lost.count = self.lost.count.saturating_add(1);
            self.lost_ever = self.lost_ever.saturating_add(1);
            let of_name = self.lost.by_name.entry(Arc::clone(name)).or_default();
            *of_name = of_name.saturating_add(1);
            return;
        }
        self.event_bytes = bytes;
        self.lines.push_back(Line::Event(event));
    }

    /// Moves lines into `buffer` until it holds `fill` bytes or no line is left.
    pub(super) fn take(&mut self, buffer: &mut Vec<u8>, fill: usize) {
        while buffer.len() < fill {
            match self.lines.pop_front() {
                Some(Line::Reply(line)) => {
                    self.reply_bytes = self.reply_bytes.saturating_sub(line.len());
                    buffer.extend_from_slice(&line);
                }
                Some(Line::Event(event)) => {
                    self.event_bytes = self.event_bytes.saturating_sub(event.len());
                    event.write(buffer);
                }
                None => break,
            }
            self.report_lost_if_there_is_room();
        }
        if self.lines.is_empty() {
            self.lines.shrink_to(64);
        }
    }

    /// Waits for half of the room, so that a client at the brink is not told after each event.
    fn report_lost_if_there_is_room(&mut self) {
        if self.event_bytes <= self.event_limit / 2
            && let Some(report) = self.lost_report()
        {
            self.event_bytes = self.event_bytes.saturating_add(report.len());
            self.lines.push_back(Line::Event(EventLine {
                line: report.into(),
                number: None,
            }));
        }
    }

    /// Takes the account of what was lost, as the event that tells of it.
    fn lost_report(&mut self) -> Option<Vec<u8>> {
        if self.lost.count == 0 {
            return None;
        }
        let Lost {
            count,
            first,
            last,
            by_name,
        } = std::mem::take(&mut self.lost);
        let events = json!(
            by_name
                .iter()
                .map(|(n, c)| (&**n, *c))
                .collect::<BTreeMap<_, _>>()
        );
        let data = json!(EventsLost {
            count,
            events,
            first: self.numbered.then_some(first),
            last: self.numbered.then_some(last),
        });
        Some(event_line(
            super::EVENTS_LOST,
            Some(&data),
            SystemTime::now(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(outbox: &mut Outbox, fill: usize) -> String {
        let mut buffer = Vec::new();
        outbox.take(&mut buffer, fill);
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn what_did_not_fit_is_reported_where_it_is_missing() {
        let mut outbox = Outbox::new(40);
        let (reset, stop): (Arc<str>, Arc<str>) = ("RESET".into(), "STOP".into());
        let line: Arc<[u8]> = Arc::from(*b"0123456789012345678\n");
        for name in [&reset, &reset, &reset, &stop, &reset] {
            outbox.push_event(name, &line, 7);
        }
        assert_eq!((outbox.event_bytes(), outbox.lost_ever()), (40, 3));
        outbox.push_reply(b"reply\n".to_vec());
        let sent = taken(&mut outbox, usize::MAX);
        let lines: Vec<_> = sent.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains(r#""EVENTS_LOST""#), "{sent}");
        assert!(lines[2].contains(r#""count": 3"#), "{sent}");
        assert!(
            lines[2].contains(r#""RESET": 2"#) && lines[2].contains(r#""STOP": 1"#),
            "{sent}"
        );
        assert_eq!(lines[3], "reply");
    }

    #[test]
    fn reports_before_replies_count_against_the_bound_on_replies() {
        let mut outbox = Outbox::new(0);
        let (name, line): (Arc<str>, Arc<[u8]>) = ("RESET".into(), Arc::from(*b"event\n"));
        outbox.push_event(&name, &line, 7);
        outbox.push_reply(b"reply\n".to_vec());
        assert_eq!(outbox.event_bytes(), 0);
        let waiting = outbox.reply_bytes();
        assert_eq!(waiting, taken(&mut outbox, usize::MAX).len());
        assert!(waiting > 6 && outbox.reply_bytes() == 0);
    }

    #[test]
    fn events_go_on_once_half_of_the_room_is_free() {
        let mut outbox = Outbox::new(40);
        let name: Arc<str> = "RESET".into();
        let line: Arc<[u8]> = Arc::from(*b"0123456789012345678\n");
        for _ in 0..9 {
            outbox.push_event(&name, &line, 7);
        }
        assert_eq!(taken(&mut outbox, 1).len(), 20);
        // The report took the place of what was sent; events fit again when it is gone too.
        assert!(taken(&mut outbox, usize::MAX).contains(r#""count": 7"#));
        outbox.push_event(&name, &line, 7);
        assert_eq!(taken(&mut outbox, usize::MAX).len(), 20);
        assert_eq!((outbox.event_bytes(), outbox.lost_ever()), (0, 7));
    }

    #[test]
    fn numbers_are_put_at_the_end_and_counted() {
        let mut outbox = Outbox::new(40);
        let (name, line): (Arc<str>, Arc<[u8]>) = ("STOP".into(), Arc::from(*b"{\"a\": 1}\r\n"));
        outbox.push_event(&name, &line, 9);
        outbox.numbered = true;
        outbox.push_event(&name, &line, 10);
        for number in 11..14 {
            outbox.push_event(&name, &line, number);
        }
        assert_eq!(outbox.event_bytes(), 10 + 26);
        let sent = taken(&mut outbox, usize::MAX);
        let lines: Vec<_> = sent.lines().collect();
        assert_eq!(lines[..2], ["{\"a\": 1}", "{\"a\": 1, \"sequence\": 10}"]);
        assert!(lines[2].contains(r#""first": 11"#), "{sent}");
        assert!(lines[2].contains(r#""last": 13"#), "{sent}");
        assert_eq!(outbox.event_bytes(), 0);
    }
}
