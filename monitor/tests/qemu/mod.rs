//! A QEMU to compare with.

use crate::support::{PATIENCE, Scratch};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const QEMU: &str = "qemu-system-x86_64";

/// A stopped QEMU, ended with the value.
pub(crate) struct Qemu(
    Child,
    #[expect(dead_code, reason = "holds the directory")] Scratch,
);

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

/// QEMU 7.2 with a QMP socket, or nothing, and a line that says why.
pub(crate) fn start(arguments: &[&str]) -> Option<(Qemu, PathBuf)> {
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        return None;
    }
    let scratch = Scratch::new();
    let path = scratch.path("qmp.sock");
    let socket = format!("unix:{},server=on,wait=off", path.display());
    let child = Command::new(QEMU)
        .args(["-nodefaults", "-display", "none", "-S", "-qmp", &socket])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU starts");
    let qemu = Qemu(child, scratch);
    let until = Instant::now() + PATIENCE;
    // The file is there a moment before somebody listens.
    while UnixStream::connect(&path).is_err() {
        assert!(Instant::now() < until, "QEMU does not listen");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Some((qemu, path))
}
