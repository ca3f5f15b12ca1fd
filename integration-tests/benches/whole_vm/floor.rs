//! What a command over a socket costs when there is no VMM behind it: another process answers each line at once.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, median};

/// This program's argument that makes it the other process; the socket's path follows.
pub(crate) const ECHO: &str = "--echo";

/// The other process: answers each line until the client is gone.
pub(crate) fn echo(path: &str) -> Outcome<()> {
    let stream = UnixStream::connect(path)?;
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).split(b'\n') {
        line?;
        writer.write_all(b"{\"return\": {}}\r\n")?;
    }
    Ok(())
}

/// One line to another process over a unix socket, and its answer.
pub(crate) fn socket_round_trip(rounds: usize) -> Outcome<Duration> {
    let path = env::temp_dir().join(format!("bench-{}-echo", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let mut other = Command::new(env::current_exe()?)
        .arg(ECHO)
        .arg(&path)
        .stdin(Stdio::null())
        .spawn()?;
    let (mut writer, _) = listener.accept()?;
    fs::remove_file(&path)?;
    let mut reader = BufReader::new(writer.try_clone()?);
    let mut times = Vec::new();
    let mut answer = String::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        writer.write_all(b"{\"execute\": \"query-status\"}\n")?;
        answer.clear();
        reader.read_line(&mut answer)?;
        times.push(begin.elapsed());
    }
    writer.shutdown(std::net::Shutdown::Both)?;
    other.wait()?;
    median(times)
}
