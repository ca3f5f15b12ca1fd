//! A VMM process with a guest that prints one byte, and a plain blocking QMP client: the same for each side.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::floor::FLOOR;
use crate::placement::Placement;

/// What the report calls the VMM that this is about.
pub(crate) const OURS: &str = "vmm-bin";
/// The guest's memory, in MiB and in bytes.
const GUEST_MIB: &str = "64";
const GUEST: u64 = 64 << 20;
/// A mapping of this size is the guest's memory: a VMM may split off a little at its beginning.
const MOST_OF_GUEST: u64 = 60 << 20;
const PAGE: u64 = 4096;
/// A VMM that does not answer within this is not measured but given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of those that are compared.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    /// What the report calls it.
    pub(crate) name: &'static str,
    command: Vec<OsString>,
    qmp: PathBuf,
}

impl Side {
    /// The floor: this program itself.
    pub(crate) fn floor() -> Outcome<Self> {
        let qmp = env::temp_dir().join(format!("bench-{}-floor", std::process::id()));
        Ok(Self {
            name: "floor",
            command: vec![env::current_exe()?.into(), FLOOR.into(), qmp.clone().into()],
            qmp,
        })
    }

    /// `vmm-bin`, and QEMU where it is installed.
    pub(crate) fn available() -> Outcome<Vec<Self>> {
        let guest = env::var_os("SPIN_GUEST")
            .ok_or("SPIN_GUEST is not set: run integration-tests/bench.sh")?;
        let ours =
            env::var_os("VMM_BIN").ok_or("VMM_BIN is not set: run integration-tests/bench.sh")?;
        let folder = env::temp_dir();
        let socket = |name: &str| folder.join(format!("bench-{}-{name}", std::process::id()));
        let mut sides = Vec::new();

        let qmp = socket("vmm-bin");
        let mut command = vec![ours, "--kernel".into(), guest.clone()];
        command.extend(["--memory", GUEST_MIB, "--serial", "stdio", "--qmp"].map(OsString::from));
        command.push(format!("unix:{}", qmp.display()).into());
        sides.push(Self {
            name: OURS,
            command,
            qmp,
        });

        let qmp = socket("qemu");
        let mut command = vec![
            OsString::from("qemu-system-x86_64"),
            "-kernel".into(),
            guest,
        ];
        // Arch capabilities cannot be set on every KVM.
        command.extend(
            [
                "-accel",
                "kvm",
                "-M",
                "microvm",
                "-cpu",
                "host,arch-capabilities=off",
                "-m",
                GUEST_MIB,
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-serial",
                "stdio",
                "-qmp",
            ]
            .map(OsString::from),
        );
        command.push(format!("unix:{},server=on,wait=off", qmp.display()).into());
        let qemu = Self {
            name: "qemu microvm",
            command,
            qmp,
        };
        let installed = Command::new("qemu-system-x86_64")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if installed.is_ok_and(|status| status.success()) {
            sides.push(qemu);
        }
        Ok(sides)
    }
}

/// A running VMM; dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Vm {
    process: Child,
    console: ChildStdout,
    qmp: Option<Client>,
    socket: PathBuf,
}

impl Vm {
    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(side: &Side) -> Outcome<Self> {
        let (program, arguments) = side.command.split_first().ok_or("no command")?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let console = process.stdout.take().ok_or("no console")?;
        Ok(Self {
            process,
            console,
            qmp: None,
            socket: side.qmp.clone(),
        })
    }

    /// Starts the process, waits for its guest, and opens a QMP session.
    pub(crate) fn start(side: &Side) -> Outcome<Self> {
        let mut vm = Self::spawn(side)?;
        vm.first_byte()?;
        vm.qmp = Some(Client::connect(&side.qmp)?);
        Ok(vm)
    }

    /// Waits for the one byte that the guest prints when it starts.
    pub(crate) fn first_byte(&mut self) -> Outcome<()> {
        let mut byte = [0];
        self.console.read_exact(&mut byte)?;
        if byte == *b"R" {
            Ok(())
        } else {
            Err(format!("the guest printed {byte:?}").into())
        }
    }

    /// Puts its threads in their places.
    pub(crate) fn place(&self, placement: &Placement) -> Outcome<()> {
        placement.place_server(self.process.id())
    }

    /// Holds the whole process, so that its guest takes no time from another's.
    pub(crate) fn hold(&self) -> Outcome<()> {
        self.signal(Signal::STOP)
    }

    /// Lets the process go on.
    pub(crate) fn let_go(&self) -> Outcome<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Outcome<()> {
        let process = Pid::from_raw(i32::try_from(self.process.id())?).ok_or("no process")?;
        Ok(kill_process(process, signal)?)
    }

    /// Where its monitor listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs a QMP command and waits for its reply.
    pub(crate) fn execute(&mut self, command: &str) -> Outcome<()> {
        self.qmp.as_mut().ok_or("no QMP session")?.execute(command)
    }

    /// Resident bytes of the process, less those of the guest's memory: the mapping of its size, and
    /// what was split off before that.
    pub(crate) fn resident_without_guest(&self) -> Outcome<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps", self.process.id()))?;
        let (mut total, mut mapping, mut guest) = (0_u64, 0..0, None);
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some((from, to)) = first.split_once('-') {
                mapping = u64::from_str_radix(from, 16)?..u64::from_str_radix(to, 16)?;
            } else if first == "Rss:" {
                if mapping.end.saturating_sub(mapping.start) >= MOST_OF_GUEST {
                    guest = Some(mapping.clone());
                } else {
                    let kib: u64 = words.next().ok_or("no number")?.parse()?;
                    total = total.saturating_add(kib << 10);
                }
            }
        }
        let guest = guest.ok_or("no mapping has the size of the guest's memory")?;
        let split_off = guest.end.saturating_sub(GUEST)..guest.start;
        Ok(total.saturating_sub(self.resident_in(split_off)?))
    }

    /// Resident bytes of the process in a range of its addresses.
    fn resident_in(&self, range: Range<u64>) -> Outcome<u64> {
        let pages = range.end.saturating_sub(range.start) / PAGE;
        let mut entries = vec![0; usize::try_from(pages)?.saturating_mul(8)];
        let pagemap = fs::File::open(format!("/proc/{}/pagemap", self.process.id()))?;
        pagemap.read_exact_at(&mut entries, (range.start / PAGE).saturating_mul(8))?;
        // Bit 63 of an entry: present.
        let present = entries.iter().skip(7).step_by(8);
        let present = present.filter(|byte| **byte & 0x80 != 0).count() as u64;
        Ok(present.saturating_mul(PAGE))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // Each fails only if there is nothing left to do.
        self.process.kill().ok();
        self.process.wait().ok();
        fs::remove_file(&self.socket).ok();
    }
}

/// A QMP client that sends a line and reads lines until the reply.
#[derive(Debug)]
struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    line: String,
}

impl Client {
    fn connect(path: &PathBuf) -> Outcome<Self> {
        let begin = Instant::now();
        let writer = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => sleep(Duration::from_millis(5)),
            }
        };
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut client = Self {
            writer,
            reader,
            line: String::new(),
        };
        // The greeting.
        client.reader.read_line(&mut client.line)?;
        client.execute("qmp_capabilities")?;
        Ok(client)
    }

    fn execute(&mut self, command: &str) -> Outcome<()> {
        self.writer
            .write_all(format!("{{\"execute\": \"{command}\"}}\n").as_bytes())?;
        loop {
            self.line.clear();
            if self.reader.read_line(&mut self.line)? == 0 {
                return Err(format!("the connection ended before the reply to {command}").into());
            }
            if self.line.contains("\"return\"") {
                return Ok(());
            }
            if self.line.contains("\"error\"") {
                return Err(self.line.clone().into());
            }
        }
    }
}
