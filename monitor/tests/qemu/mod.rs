//! A QEMU to compare with.

use crate::support::{Client, PATIENCE, Scratch};
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";

/// A stopped QEMU, ended with the value.
pub(crate) struct Qemu(
    Child,
    #[expect(dead_code, reason = "holds the directory")] Scratch,
);

impl Qemu {
    /// The next connection that it makes.
    fn connection(&mut self, listener: &UnixListener) -> UnixStream {
        let until = Instant::now() + PATIENCE;
        listener.set_nonblocking(true).expect("a socket");
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("a socket");
                    return stream;
                }
                Err(e) => assert_eq!(e.kind(), ErrorKind::WouldBlock, "{e}"),
            }
            let ended = self.0.try_wait().expect("its state");
            assert_eq!(ended, None, "QEMU has ended");
            assert!(Instant::now() < until, "QEMU does not connect");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Why there is no QEMU to compare with, if there is none.
fn missing() -> Option<String> {
    let Ok(output) = Command::new(QEMU).arg("--version").output() else {
        return Some(format!("{QEMU} is not installed"));
    };
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = version.lines().next().unwrap_or_default().to_owned();
    (!version.contains(" version 7.2.")).then(|| format!("{version} is not 7.2"))
}

/// QEMU 7.2 and `N` clients, each with a monitor of its own, or nothing, and a line that says
/// why.
///
/// QEMU connects, and each connection is its monitor's first: a client that followed another one at
/// once has been seen to get no greeting, or replies that were one behind.
pub(crate) fn start<const N: usize>(arguments: &[&str]) -> Option<(Qemu, [Client; N])> {
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        return None;
    }
    let scratch = Scratch::new();
    let path = scratch.path("qmp.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let monitor = format!("unix:{},server=off", path.display());
    let child = Command::new(QEMU)
        .args(["-nodefaults", "-display", "none", "-S"])
        .args([["-qmp", &monitor]; N].as_flattened())
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU starts");
    let mut qemu = Qemu(child, scratch);
    let clients = std::array::from_fn(|_| Client::over(qemu.connection(&listener)));
    Some((qemu, clients))
}
