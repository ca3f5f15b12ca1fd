//! Sessions with a guest that is nothing but registers and memory: what a client gets for what it sends.

use proptest::prelude::*;

use super::super::arch::Description;
use super::super::fake::FakeCpus;
use super::super::frames::{Frame, Frames};
use super::*;

/// A session and all that belongs to it.
struct Client {
    debugger: Debugger<FakeCpus>,
    session: Session<FakeCpus>,
    output: Output,
    frames: Frames,
}

impl Client {
    fn new(description: Description) -> Self {
        let mut debugger = Debugger::new(FakeCpus::new(2), description);
        let output = Output::default();
        let session = Session::new(&mut debugger, output.clone()).unwrap();
        Self {
            debugger,
            session,
            output,
            frames: Frames::new(),
        }
    }

    /// Sends bytes; gives what was wished, or why the session has ended.
    fn send(&mut self, bytes: &[u8]) -> Result<Vec<Wish>, Error> {
        let mut wishes = Vec::new();
        for &byte in bytes {
            match self.frames.push(byte)? {
                None | Some(Frame::Interrupt) => {}
                Some(Frame::Damaged) => self.session.ask_again()?,
                Some(Frame::Packet(body)) => {
                    wishes.push(self.session.packet(&mut self.debugger, &body)?);
                }
            }
        }
        Ok(wishes)
    }

    /// What the client gets, as text.
    fn answer(&mut self) -> String {
        let bytes: Vec<u8> = self.output.0.borrow_mut().drain(..).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a packet, and gives the answer without its frame.
    fn ask(&mut self, body: &str) -> String {
        assert_eq!(self.send(&framed(body.as_bytes())).unwrap(), [Wish::None]);
        let answer = self.answer();
        let body = answer
            .strip_prefix("+$")
            .unwrap()
            .split('#')
            .next()
            .unwrap();
        body.into()
    }
}

#[test]
fn registers_are_those_of_the_description() {
    for (description, size, name) in [
        (
            Description::I386,
            0x134,
            "<architecture>i386</architecture>",
        ),
        (
            Description::X86_64,
            0x218,
            "<architecture>i386:x86-64</architecture>",
        ),
    ] {
        let mut client = Client::new(description);
        assert!(
            client
                .ask("qXfer:features:read:target.xml:0,fff")
                .contains(name)
        );
        assert_eq!(client.ask("qXfer:features:read:target.xml:fff,fff"), "l");
        assert_eq!(
            client.ask("qXfer:features:read:target.xml:ffffffffffffffff,1"),
            "l"
        );
        assert_eq!(client.ask("Hgp1.2"), "OK");
        client.debugger.cpus.registers.borrow_mut()[1].regs.rax = 0x1122_3344;
        assert!(client.ask("p0").starts_with("44332211"));
        let width = if description == Description::I386 {
            8
        } else {
            16
        };
        let value = format!("{:0<width$}", "78563412");
        assert_eq!(client.ask(&format!("P0={value}")), "OK");
        assert_eq!(
            client.debugger.cpus.registers.borrow()[1].regs.rax,
            0x1234_5678
        );
        // One byte too few.
        assert_eq!(client.ask("P0=785634"), "E16");
        client.session.output.0.borrow_mut().clear();
        client.send(&framed(b"g")).unwrap();
        let hexadecimal = unrun(&client.answer());
        assert_eq!(hexadecimal.len(), 2 * size);
        assert_eq!(client.ask(&format!("G{hexadecimal}")), "OK");
    }
}

/// The body of an answer with its run-length encoding taken back.
fn unrun(answer: &str) -> String {
    let body = answer.trim_start_matches("+$").split('#').next().unwrap();
    let mut text = String::new();
    let mut bytes = body.chars();
    while let Some(char) = bytes.next() {
        if char == '*' {
            let last = text.chars().last().unwrap();
            let count =
                usize::from(u8::try_from(bytes.next().unwrap()).unwrap()).saturating_sub(29);
            text.extend(std::iter::repeat_n(last, count));
        } else {
            text.push(char);
        }
    }
    text
}

#[test]
fn addresses_anywhere_are_answered() {
    let mut client = Client::new(Description::X86_64);
    assert_eq!(client.ask("Hg1"), "OK");
    assert_eq!(client.ask("M1000,4:01020304"), "OK");
    assert_eq!(client.ask("m80001000,4"), "01020304");
    // A part is an answer.
    assert_eq!(client.ask("mffff,2"), "00");
    assert_eq!(client.ask("m10000,1"), "E0e");
    assert_eq!(client.ask("mffffffffffffffff,ffffffffffffffff"), "E0e");
    assert_eq!(client.ask("mffffffff00000000,1000"), "E0e");
    assert_eq!(client.ask("Mfffe,4:01020304"), "E0e");
    assert_eq!(client.ask("Mffffffffffffffff,2:0102"), "E0e");
    assert_eq!(client.ask("Z0,ffffffffffffffff,1"), "E0e");
    assert_eq!(client.ask("Z2,ffffffffffffffff,8"), "E1c");
    assert_eq!(client.ask("Z3,1000,4"), "E16");
    assert_eq!(client.ask("z0,1000,1"), "E16");
    assert_eq!(client.ask("Hg99"), "OK");
    assert_eq!(client.ask("m1000,4"), "E16");
    assert_eq!(client.ask("T99"), "E01");
    // All of memory, from which one answer takes a part.
    assert_eq!(client.ask("Hg1"), "OK");
    client.send(&framed(b"m0,10000")).unwrap();
    assert!(client.answer().len() < 4096);
}

#[test]
fn breakpoints_run_out_and_are_answered() {
    let mut client = Client::new(Description::X86_64);
    for number in 0..4 {
        assert_eq!(client.ask(&format!("Z1,{number:x},1")), "OK");
    }
    assert_eq!(client.ask("Z1,4,1"), "E1c");
    for number in 0..super::super::software::MOST {
        assert_eq!(client.ask(&format!("Z0,{number:x},1")), "OK");
    }
    assert_eq!(client.ask("Z0,ffff,1"), "E1c");
}

#[test]
fn threads_are_told_apart_when_they_resume() {
    use super::super::debugger::Action::{Continue, ContinueNamed, Stay, Step};
    for (packet, actions) in [
        ("vCont;c", [Continue, Continue]),
        ("vCont;s:1;c", [Step, Continue]),
        ("vCont;s:2", [Stay, Step]),
        ("vCont;c:1", [ContinueNamed, Stay]),
        ("vCont;c:1;s:2", [ContinueNamed, Step]),
        ("vCont;c:99", [Stay, Stay]),
    ] {
        let mut client = Client::new(Description::X86_64);
        let wishes = client.send(&framed(packet.as_bytes())).unwrap();
        assert_eq!(wishes, [Wish::Resume], "{packet}");
        assert_eq!(client.debugger.actions, actions, "{packet}");
        assert!(client.session.is_running());
        let stop = Stop::Cause(1, Cause::Software);
        client.session.stopped(&mut client.debugger, stop).unwrap();
        assert!(client.answer().contains("T05thread:02;swbreak:;"));
        assert!(!client.session.is_running());
        // Nobody waits for a second report.
        client.session.stopped(&mut client.debugger, stop).unwrap();
        assert_eq!(client.answer(), "");
    }
}

#[test]
fn a_client_ends_it_or_leaves() {
    for (packet, wish, answer) in [
        ("k", Wish::Kill, "+"),
        ("vKill;1", Wish::Kill, "+$OK#9a"),
        ("D", Wish::Detach, "+$OK#9a"),
        ("D;1", Wish::Detach, "+$OK#9a"),
    ] {
        let mut client = Client::new(Description::X86_64);
        assert_eq!(client.send(&framed(packet.as_bytes())).unwrap(), [wish]);
        assert_eq!(client.answer(), answer);
        // What comes after that has no answer.
        assert_eq!(client.send(b"$?#3f").unwrap(), [Wish::None]);
        assert_eq!(client.answer(), "");
    }
}

#[test]
fn a_damaged_packet_is_asked_for_again() {
    let mut client = Client::new(Description::X86_64);
    client.send(b"$?#00").unwrap();
    assert_eq!(client.answer(), "-");
}

/// The beginnings of packets that do something.
const COMMANDS: [&str; 34] = [
    "?",
    "g",
    "G",
    "p",
    "P",
    "m",
    "M",
    "X",
    "H",
    "Hg",
    "Hc",
    "T",
    "c",
    "s",
    "C",
    "S",
    "D",
    "k",
    "Z0,",
    "Z1,",
    "Z2,",
    "Z4,",
    "z0,",
    "z1,",
    "vCont",
    "vCont;",
    "vCont?",
    "vKill;",
    "qSupported:",
    "qXfer:features:read:",
    "qfThreadInfo",
    "qThreadExtraInfo,",
    "qRcmd,",
    "QStartNoAckMode",
];

/// A packet that begins as one, with anything behind.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let numbers = prop_oneof![
        Just("0"),
        Just("1"),
        Just("2"),
        Just("ff"),
        Just("1000"),
        Just("ffff"),
        Just("ffffffff"),
        Just("7fffffffffffffff"),
        Just("ffffffffffffffff"),
        Just("10000000000000000"),
        Just("-1"),
        Just("p1.1"),
        Just("p-1.-1"),
        Just("c"),
        Just("s"),
        Just("r"),
        Just("target.xml"),
        Just("x"),
        Just(""),
        Just("00ff"),
    ];
    let separators = prop_oneof![
        Just(","),
        Just(":"),
        Just(";"),
        Just("="),
        Just("."),
        Just("")
    ];
    let tail = prop::collection::vec((separators, numbers), 0..6);
    (
        prop::sample::select(&COMMANDS[..]),
        tail,
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(command, tail, bytes)| {
            let mut body = command.as_bytes().to_vec();
            for (separator, number) in tail {
                body.extend_from_slice(separator.as_bytes());
                body.extend_from_slice(number.as_bytes());
            }
            body.extend(bytes.into_iter().filter(|byte| !b"$#".contains(byte)));
            framed(&body)
        })
}

/// What a client may send: packets, parts of them, anything.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => packet(),
        1 => prop::collection::vec(any::<u8>(), 0..20),
        1 => packet().prop_map(|mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        }),
        1 => Just(vec![3]),
        1 => Just(b"+".to_vec()),
    ];
    prop::collection::vec(part, 1..20).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever a client sends: an answer or the end of the session, no panic, and no more output than it
    /// may have. When it has left, memory is what it was, as far as the client did not write to it.
    #[test]
    fn a_client_may_send_anything(inputs in prop::collection::vec(input(), 1..6)) {
        let mut client = Client::new(Description::X86_64);
        let mut wrote = false;
        for bytes in inputs {
            wrote |= bytes.iter().any(|byte| b"MXPG".contains(byte));
            let ended = client.send(&bytes).is_err();
            prop_assert!(client.output.0.borrow().len() <= MOST_OUTPUT);
            client.answer();
            if ended {
                break;
            }
            let stop = Stop::Signal(Signal::SIGINT);
            prop_assert!(client.session.stopped(&mut client.debugger, stop).is_ok());
        }
        client.debugger.clear();
        prop_assert!(client.debugger.arm().is_ok());
        let mut memory = vec![0; 0x1_0000];
        prop_assert!(client.debugger.cpus.read(0, &mut memory));
        prop_assert!(wrote || memory == [0; 0x1_0000], "a breakpoint was left behind");
    }
}
