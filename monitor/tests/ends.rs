//! Connections that end in the middle of something: what was asked for in full is answered if anybody
//! is left to hear it, what was not is forgotten, and nobody else notices.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on fails"
)]

mod support;
mod table;

use rustix::net::sockopt::set_socket_linger;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;
use support::{PATIENCE, Running};

const TABLE: &str = include_str!("negative/ends.tsv");

/// A client that has negotiated, and what it reads from.
fn connect(address: SocketAddr) -> (TcpStream, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    stream
        .write_all(b"{'execute':'qmp_capabilities'}")
        .expect("it is read");
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        reader.read_line(&mut line).expect("a line");
    }
    assert_eq!(line, "{\"return\": {}}\r\n");
    (stream, reader)
}

#[test]
fn every_connection_that_breaks_off_is_answered_as_far_as_it_got() {
    let (server, address) = Running::on_tcp();
    let mut witness = server.client();
    for (line, [how, input, replies]) in table::columns(TABLE) {
        let (mut stream, mut reader) = connect(address);
        stream.write_all(&table::expand(input)).expect("it is read");
        match how {
            "half" => {
                stream.shutdown(Shutdown::Write).expect("a connection");
                let mut text = String::new();
                reader.read_to_string(&mut text).expect("a clean end");
                let seen: Vec<_> = text.lines().collect();
                assert_eq!(seen, table::expected_lines(replies), "line {line}: {input}");
            }
            "reset" => {
                // The kernel ends a connection that lingers for no time with a reset.
                set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
                drop((stream, reader));
            }
            other => panic!("line {line}: {other}"),
        }
        let status = witness.call("{'execute':'query-status'}");
        assert_eq!(
            status["return"]["status"], "running",
            "line {line}: {input}"
        );
    }
    server.wait("the witness alone is left", |seen| seen.clients.len() == 1);
}
