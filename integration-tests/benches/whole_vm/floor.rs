//! What no VMM goes below: a small program in its place, with a vCPU whose guest spins. It answers each line of a client
//! at once, after it has paused the vCPU for `stop`, or let it go on for `cont`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use crate::Outcome;
use crate::pause::Floor;
use crate::real_guest::Machine;

/// This program's argument that makes it the floor; the socket's path follows.
pub(crate) const FLOOR: &str = "--floor";

/// `jmp $`.
const SPIN: &[u8] = &[0xeb, 0xfe];
const ANSWER: &[u8] = b"{\"return\": {}}\r\n";

/// Serves one client until it is gone. As the guest of the others does, this says when it runs.
pub(crate) fn serve(path: &str) -> Outcome<()> {
    let machine = Machine::new(true).ok_or("there is no /dev/kvm")?;
    let mut vcpu = Floor::new(&machine, 0, SPIN);
    let listener = UnixListener::bind(path)?;
    vcpu.go_on();
    std::io::stdout().write_all(b"R")?;
    std::io::stdout().flush()?;
    let (mut writer, _) = listener.accept()?;
    let mut reader = BufReader::new(writer.try_clone()?);
    // What is a greeting to a client of QMP.
    writer.write_all(ANSWER)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? != 0 {
        if line.contains("\"stop\"") {
            vcpu.request();
            vcpu.wait();
        } else if line.contains("\"cont\"") {
            vcpu.go_on();
        }
        writer.write_all(ANSWER)?;
        line.clear();
    }
    Ok(())
}
