//! The example's VMM on a thread of its own, with a monitor's socket: what tests of ready-made commands
//! talk to.

#![allow(dead_code, reason = "each test file uses a part of this one")]

#[path = "../../examples/vmm/mod.rs"]
mod vmm;

use crate::support::{Client, Scratch};
use monitor::{MonitorSocket, ServerLimits};
use std::path::PathBuf;
use std::thread::JoinHandle;

/// The VMM. It runs until a client ends it.
pub(crate) struct Soft {
    pub(crate) paths: Vec<PathBuf>,
    thread: JoinHandle<String>,
    _scratch: Scratch,
}

impl Soft {
    pub(crate) fn start() -> Self {
        Soft::with_sockets(1)
    }

    /// With so many sockets.
    pub(crate) fn with_sockets(count: usize) -> Self {
        let scratch = Scratch::new();
        let names = (0..count).map(|number| format!("qmp{number}.sock"));
        let paths: Vec<_> = names.map(|name| scratch.path(&name)).collect();
        let sockets = paths
            .iter()
            .map(MonitorSocket::bind)
            .collect::<Result<_, _>>();
        let sockets = sockets.expect("sockets");
        let thread = std::thread::spawn(move || {
            let status = vmm::run(sockets, ServerLimits::default()).expect("it runs");
            status.cause.to_string()
        });
        Soft {
            paths,
            thread,
            _scratch: scratch,
        }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.paths[0]
    }

    /// A client that has negotiated.
    pub(crate) fn client(&self) -> Client {
        let mut client = Client::connect(self.path());
        client.negotiate();
        client
    }

    /// Waits for the end, and returns its cause.
    pub(crate) fn cause(self) -> String {
        self.thread.join().expect("it does not panic")
    }
}

/// Runs `test` with a client, and ends the VMM.
pub(crate) fn with_client(test: impl FnOnce(&mut Client)) {
    let soft = Soft::start();
    let mut client = soft.client();
    test(&mut client);
    client.call("{'execute':'quit'}");
    assert_eq!(soft.cause(), "host-qmp-quit");
}
