//! What a client sends, cut into frames, before gdbstub sees it.
//!
//! ```text
//!   $ body # two hexadecimal digits        a packet
//!   + -                                    the last answer was received well, or badly
//!   0x03                                   interrupt the guest
//! ```
//!
//! gdbstub takes a client for honest: it ends the session over a wrong checksum, adds addresses without
//! looking, and answers a request for all of memory. Here a packet with a wrong checksum is asked for
//! again, one that is too long is refused, and a request for memory asks for no more than one answer
//! holds; gdb asks for the rest.
//!
//! Source: gdb manual, appendix E.1 (overview of the remote serial protocol) and E.2 (packets).

/// The longest packet, from `$` to the checksum, in bytes. gdb is told.
pub(super) const LONGEST: usize = 4096;

/// The most bytes of memory that one packet asks for.
const MOST_MEMORY: u64 = 1024;

/// Something that a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    /// A packet, without its frame.
    Packet(Vec<u8>),
    /// A packet whose checksum is wrong: it is to be sent again.
    Damaged,
    /// The guest is to be interrupted.
    Interrupt,
}

/// Why a client cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Nothing that begins like this belongs to the protocol.
    #[error("it sent a byte {0:#04x} outside of a packet, which is not gdb's protocol")]
    Stray(u8),
    /// A packet that does not end.
    #[error("it sent a packet of more than {LONGEST} bytes, which is what it was told")]
    Oversized,
    /// It did not get an answer well.
    #[error(
        "it asked for the last answer again, which is not kept: use a connection without losses"
    )]
    Nack,
}

/// Where in a packet we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    Body,
    /// Behind `#`.
    First,
    /// Behind the first digit.
    Second(u8),
}

/// Cuts what a client sends.
#[derive(Debug)]
pub(super) struct Frames {
    place: Place,
    body: Vec<u8>,
}

impl Frames {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Outside,
            body: Vec::new(),
        }
    }

    /// Takes one byte; gives the frame that it completes, if any.
    ///
    /// # Errors
    /// See [`Error`]. There is no going on.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Frame>, Error> {
        match (self.place, byte) {
            (Place::Outside, b'$') => self.place = Place::Body,
            (Place::Outside, b'+') => {}
            (Place::Outside, b'-') => return Err(Error::Nack),
            (Place::Outside, 3) => return Ok(Some(Frame::Interrupt)),
            (Place::Outside, stray) => return Err(Error::Stray(stray)),
            (Place::Body, b'#') => self.place = Place::First,
            // A packet was cut off and another one begins: `$` is escaped within packets.
            (Place::Body, b'$') => self.body.clear(),
            (Place::Body, byte) => {
                if self.body.len().saturating_add("$#00".len()) >= LONGEST {
                    return Err(Error::Oversized);
                }
                self.body.push(byte);
            }
            (Place::First, digit) => self.place = Place::Second(digit),
            (Place::Second(first), second) => {
                self.place = Place::Outside;
                let body = std::mem::take(&mut self.body);
                let told = digit(first).zip(digit(second));
                let right = told == Some((checksum(&body) >> 4, checksum(&body) & 0xf));
                return Ok(Some(if right {
                    Frame::Packet(modest(body))
                } else {
                    Frame::Damaged
                }));
            }
        }
        Ok(None)
    }
}

/// A packet as it goes over the wire.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(body.len().saturating_add(4));
    packet.push(b'$');
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{:02x}", checksum(body)).as_bytes());
    packet
}

fn checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A request for memory (`m ADDRESS,LENGTH`) that asks for no more than one answer holds. Any other
/// packet as it is.
fn modest(body: Vec<u8>) -> Vec<u8> {
    let asked = std::str::from_utf8(&body)
        .ok()
        .and_then(|text| text.strip_prefix('m')?.split_once(','));
    let Some((address, length)) = asked else {
        return body;
    };
    match u64::from_str_radix(length, 16) {
        Ok(length) if length <= MOST_MEMORY => body,
        // More than a number holds is more than that, too; what is no number is gdbstub's to refuse.
        Err(_) if !length.bytes().all(|digit| digit.is_ascii_hexdigit()) => body,
        _ => format!("m{address},{MOST_MEMORY:x}").into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Vec<Result<Frame, Error>> {
        let mut frames = Frames::new();
        bytes
            .iter()
            .filter_map(|&byte| frames.push(byte).transpose())
            .collect()
    }

    fn packet(body: &[u8]) -> Result<Frame, Error> {
        Ok(Frame::Packet(body.to_vec()))
    }

    #[test]
    fn packets_are_found_between_acknowledgements() {
        let bytes = b"+$g#67+$?#3f\x03$#00";
        assert_eq!(
            frames(bytes),
            [
                packet(b"g"),
                packet(b"?"),
                Ok(Frame::Interrupt),
                packet(b"")
            ]
        );
        assert_eq!(frames(&framed(b"vCont;c")), [packet(b"vCont;c")]);
    }

    #[test]
    fn a_wrong_checksum_is_no_packet() {
        for wrong in [&b"$g#68"[..], b"$g#6x", b"$g#  ", b"$g##67"] {
            assert_eq!(frames(wrong)[0], Ok(Frame::Damaged), "{wrong:?}");
        }
    }

    #[test]
    fn a_packet_that_was_cut_off_does_not_spoil_the_next() {
        assert_eq!(frames(b"$m12$g#67"), [packet(b"g")]);
        assert_eq!(frames(b"$qSupp"), []);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        assert_eq!(frames(b"GET / HTTP/1.1")[0], Err(Error::Stray(b'G')));
        assert_eq!(frames(b"-"), [Err(Error::Nack)]);
        let long = [&b"$"[..], &[b'm'; LONGEST - 3]].concat();
        assert_eq!(frames(&long)[0], Err(Error::Oversized));
        let full = framed(&[b'm'; LONGEST - 4]);
        assert_eq!(frames(&full).len(), 1);
    }

    #[test]
    fn a_request_for_memory_is_made_modest() {
        let asked = |body: &[u8]| modest(body.to_vec());
        assert_eq!(asked(b"m1000,400"), b"m1000,400");
        assert_eq!(asked(b"m1000,401"), b"m1000,400");
        assert_eq!(asked(b"m0,ffffffffffffffff"), b"m0,400");
        assert_eq!(asked(b"m0,fffffffffffffffff0"), b"m0,400");
        assert_eq!(asked(b"m0,zz"), b"m0,zz");
        assert_eq!(asked(b"m0"), b"m0");
        assert_eq!(asked(b"M1000,1:00"), b"M1000,1:00");
    }
}
