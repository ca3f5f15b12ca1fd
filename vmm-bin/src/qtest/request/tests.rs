//! Every request and every refusal.

#[path = "../../../fuzz/oracle.rs"]
mod oracle;

use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Request {
    parse(line.as_bytes()).unwrap_or_else(|refusal| panic!("{line}: {refusal}"))
}

fn refused(line: &str) -> String {
    parse(line.as_bytes()).unwrap_err().to_string()
}

/// What the fuzzer found worth keeping, an input a line in hexadecimal; and every bug it finds.
#[test]
fn the_fuzzers_corpus_replays() {
    let corpus = include_str!("../../../tests/corpus/qtest_request.txt");
    for line in corpus.lines() {
        let digits = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
        let input: Vec<u8> = (0..line.len()).step_by(2).map(digits).collect();
        oracle::check(&input);
    }
    assert!(corpus.lines().count() > 100);
}

#[test]
fn numbers_are_cs() {
    for (text, value) in [
        ("0", 0),
        ("31", 31),
        ("0x1f", 31),
        ("0X1F", 31),
        ("037", 31),
        ("+7", 7),
        ("-1", u64::MAX),
        ("0xffffffffffffffff", u64::MAX),
    ] {
        assert_eq!(number(text), Some(value), "{text}");
    }
    for text in [
        "",
        "-",
        "0x",
        "08",
        "1f",
        "--1",
        "+-1",
        " 1",
        "1 ",
        "18446744073709551616",
    ] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn every_request_is_read() {
    use Width::{Byte, Long, Quad, Word};
    let (port, address, value) = (0x505, 0x1000, 0x1234);
    for (line, request) in [
        ("endianness", Request::Endianness),
        ("inb 0x505", Request::In { port, width: Byte }),
        ("inw 0x505", Request::In { port, width: Word }),
        ("inl 1285", Request::In { port, width: Long }),
        (
            "outb 0x505 0x1234",
            Request::Out {
                port,
                width: Byte,
                value,
            },
        ),
        (
            "outw 0x505 0x1234 more",
            Request::Out {
                port,
                width: Word,
                value,
            },
        ),
        (
            "outl 0x505 0x1234",
            Request::Out {
                port,
                width: Long,
                value,
            },
        ),
        (
            "readb 0x1000",
            Request::Load {
                address,
                width: Byte,
            },
        ),
        (
            "readq 0x1000",
            Request::Load {
                address,
                width: Quad,
            },
        ),
        (
            "writew 0x1000 0x1234",
            Request::Store {
                address,
                width: Word,
                value,
            },
        ),
        (
            "writel 010000 0x1234",
            Request::Store {
                address,
                width: Long,
                value,
            },
        ),
        ("read 0x1000 3", Request::Read { address, len: 3 }),
        ("b64read 0x1000 3", Request::ReadBase64 { address, len: 3 }),
        (
            "write 0x1000 3 0x0aFF",
            Request::Write {
                address,
                bytes: vec![0x0a, 0xff, 0],
            },
        ),
        (
            "write 0x1000 1 0x0aFF",
            Request::Write {
                address,
                bytes: vec![0x0a],
            },
        ),
        (
            "b64write 0x1000 3 AQID",
            Request::Write {
                address,
                bytes: vec![1, 2, 3],
            },
        ),
        (
            "b64write 0x1000 1 AQID",
            Request::Write {
                address,
                bytes: vec![1],
            },
        ),
        (
            "memset 0x1000 0 0x1ff",
            Request::Fill {
                address,
                len: 0,
                byte: 0xff,
            },
        ),
        ("clock_step", Request::Step(None)),
        ("clock_step 100", Request::Step(Some(100))),
        ("clock_set 100", Request::SetClock(100)),
        (
            "irq_intercept_in ioapic",
            Request::InterceptIn("ioapic".into()),
        ),
        (
            "irq_intercept_out ioapic",
            Request::InterceptOut("ioapic".into()),
        ),
        (
            "set_irq_in ioapic unnamed-gpio-in 8 1",
            Request::SetIrqIn {
                device: "ioapic".into(),
                list: "unnamed-gpio-in".into(),
                pin: 8,
                level: true,
            },
        ),
        ("module_load accel- tcg", Request::ModuleLoad),
    ] {
        assert_eq!(read(line), request, "{line}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_the_reason() {
    for (line, answer) in [
        ("", "FAIL empty request"),
        (" inb 1", "FAIL empty request"),
        ("quit", "FAIL Unknown command 'quit'"),
        ("inq 1", "FAIL Unknown command 'inq'"),
        ("INB 1", "FAIL Unknown command 'INB'"),
        ("\u{e9}", "FAIL Unknown command '\u{e9}'"),
        ("a\rb", "FAIL Unknown command 'a\\rb'"),
        ("inb", "FAIL inb: PORT is missing"),
        ("inb  1", "FAIL inb: PORT '' is not a port, 0 to 0xffff"),
        (
            "inb 0x10000",
            "FAIL inb: PORT '0x10000' is not a port, 0 to 0xffff",
        ),
        ("outb 1", "FAIL outb: VALUE is missing"),
        ("outb 1 x", "FAIL outb: VALUE 'x' is not a number"),
        (
            "read 0 0",
            "FAIL read: LEN '0' is not a length, 1 to 0x1000000",
        ),
        (
            "read 0 0x1000001",
            "FAIL read: LEN '0x1000001' is not a length, 1 to 0x1000000",
        ),
        ("write 0 1 0x", "ERR invalid argument size"),
        ("write 0 1 1", "ERR invalid argument size"),
        (
            "write 0 1 000",
            "FAIL write: DATA '000' is not 0x and hexadecimal digits",
        ),
        (
            "write 0 1 0xgg",
            "FAIL write: DATA '0xgg' is not 0x and hexadecimal digits",
        ),
        ("write 0 1", "FAIL write: DATA is missing"),
        ("b64write 0 1 AQ", "ERR invalid argument size"),
        (
            "b64write 0 1 ****",
            "FAIL b64write: DATA '****' is not base 64",
        ),
        ("clock_set", "FAIL clock_set: NS is missing"),
        (
            "clock_step -1",
            "FAIL clock_step: NS '-1' is not a number of nanoseconds",
        ),
        ("irq_intercept_in", "FAIL irq_intercept_in: QOM is missing"),
        ("set_irq_in ioapic x", "FAIL set_irq_in: NUM is missing"),
    ] {
        assert_eq!(refused(line), answer, "{line:?}");
    }
    let long = refused(&"x".repeat(100_000));
    assert_eq!(
        long,
        format!("FAIL Unknown command '{}...'", "x".repeat(40))
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_one_line(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(refusal) = parse(&line) {
            let answer = refusal.to_string();
            prop_assert!(answer.starts_with("FAIL ") || answer.starts_with("ERR "));
            prop_assert!(!answer.chars().any(char::is_control));
            prop_assert!(answer.len() < 1000);
        }
    }

    #[test]
    fn what_was_written_in_hexadecimal_is_read(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("write 0x10 {} 0x{digits}", bytes.len());
        prop_assert_eq!(read(&line), Request::Write { address: 16, bytes });
    }
}
