//! The bounds that a server keeps, and what each client has used of them.

use crate::protocol::Limits;
use std::time::Duration;

/// Bounds on clients and on what waits for each.
///
/// A client costs at most about `message` (3 MiB with the defaults; nine times that if it has enabled
/// `oob`, which lets eight requests wait) + `reply_bytes` and one reply +
/// `event_bytes` and one report of losses + 24 KiB of buffers, whatever it sends and however little
/// it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Clients served at once, over all sockets. Further ones wait in the socket's backlog. 8 by
    /// default.
    pub clients: usize,
    /// Bounds on one message.
    pub message: Limits,
    /// Bytes of replies that may wait to be read. While a client has more, no request of it is
    /// taken. 256 KiB by default.
    pub reply_bytes: usize,
    /// Bytes of events that may wait to be read. While a client has more, events are counted
    /// instead of queued. 256 KiB by default.
    pub event_bytes: usize,
    /// Bytes of the latest events that are kept for clients that ask for them again. 64 KiB by
    /// default; with 0, none are.
    pub history_bytes: usize,
    /// How long a client may hold one of the places without negotiating when another wants it. 10
    /// seconds by default.
    pub handshake: Duration,
    /// How long a client of a socket may take no step where one is due: read on while its socket is
    /// full, or send on in the middle of a request. Then its connection ends, and
    /// [`Server::take_error`](crate::Server::take_error) says so. 30 seconds by default;
    /// `Duration::MAX` is for ever. A client that is merely idle is left alone, and so is a pair such as
    /// standard input and output.
    pub stall: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits {
            clients: 8,
            message: Limits::default(),
            reply_bytes: 256 << 10,
            event_bytes: 256 << 10,
            history_bytes: 64 << 10,
            handshake: Duration::from_secs(10),
            stall: Duration::from_secs(30),
        }
    }
}

impl ServerLimits {
    /// Sets how many clients are served at once.
    #[must_use]
    pub const fn clients(mut self, clients: usize) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the bounds on one message.
    #[must_use]
    pub const fn message(mut self, limits: Limits) -> Self {
        self.message = limits;
        self
    }

    /// Sets how many bytes of replies may wait.
    #[must_use]
    pub const fn reply_bytes(mut self, bytes: usize) -> Self {
        self.reply_bytes = bytes;
        self
    }

    /// Sets how many bytes of events may wait.
    #[must_use]
    pub const fn event_bytes(mut self, bytes: usize) -> Self {
        self.event_bytes = bytes;
        self
    }

    /// Sets how many bytes of events are kept.
    #[must_use]
    pub const fn history_bytes(mut self, bytes: usize) -> Self {
        self.history_bytes = bytes;
        self
    }

    /// Sets how long a place may be held without negotiating.
    #[must_use]
    pub const fn handshake(mut self, patience: Duration) -> Self {
        self.handshake = patience;
        self
    }

    /// Sets how long a client may stand still in the middle of something.
    #[must_use]
    pub const fn stall(mut self, patience: Duration) -> Self {
        self.stall = patience;
        self
    }
}

/// What one client has waiting, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Whether it has negotiated.
    pub negotiated: bool,
    /// Replies in the queue.
    pub reply_bytes: usize,
    /// Events in the queue.
    pub event_bytes: usize,
    /// Gathered for a write that the socket has not taken yet.
    pub unsent_bytes: usize,
    /// Events lost since it connected.
    pub lost_events: u64,
}
