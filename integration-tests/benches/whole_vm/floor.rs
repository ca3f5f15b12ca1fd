//! What a command over a socket costs when there is no VMM behind it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, median};

/// One line to another thread over a unix socket, and its answer.
pub(crate) fn socket_round_trip(rounds: usize) -> Outcome<Duration> {
    let (client, server) = UnixStream::pair()?;
    let echo = thread::spawn(move || -> std::io::Result<()> {
        let mut writer = server.try_clone()?;
        for line in BufReader::new(server).split(b'\n') {
            line?;
            writer.write_all(b"{\"return\": {}}\r\n")?;
        }
        Ok(())
    });
    let mut times = Vec::new();
    {
        let mut writer = client.try_clone()?;
        let mut reader = BufReader::new(client);
        let mut answer = String::new();
        for _ in 0..rounds {
            let begin = Instant::now();
            writer.write_all(b"{\"execute\": \"query-status\"}\n")?;
            answer.clear();
            reader.read_line(&mut answer)?;
            times.push(begin.elapsed());
        }
        writer.shutdown(std::net::Shutdown::Both)?;
    }
    match echo.join() {
        Ok(ended) => ended?,
        Err(_) => return Err("the echo thread panicked".into()),
    }
    median(times)
}
