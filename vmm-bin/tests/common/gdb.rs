//! A debugger.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// The answers that a vCPU has stopped.
pub(crate) const STOPPED: &[&str] = &["$T05", "$S05"];

/// Sends a command of gdb's protocol, and waits for one of these answers.
pub(crate) fn ask(stream: &mut UnixStream, command: &str, answers: &[&str]) {
    let sum = command.bytes().fold(0_u8, u8::wrapping_add);
    let packet = format!("+${command}#{sum:02x}");
    stream.write_all(packet.as_bytes()).unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !answers.iter().any(|answer| heard.contains(answer)) {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "gdb's connection has ended: {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stream.write_all(b"+").unwrap();
}
