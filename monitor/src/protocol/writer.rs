//! Values to bytes: one line, ASCII only, members in the order in which QEMU would send them.

use super::number::write_double;
use super::text::is_exchangeable;
use serde_json::{Map, Value};

/// The bucket of QEMU's dictionary in which a member's name falls. Objects are sent bucket by
/// bucket, so this is the order on the wire. QMP gives it no meaning; it makes traces comparable.
pub(super) fn bucket(name: &str) -> u32 {
    let mut hash = 0x238F_13AF_u32.wrapping_mul(u32::try_from(name.len()).unwrap_or(u32::MAX));
    let mut shift = 0_u32;
    for byte in name.bytes() {
        hash = hash.wrapping_add(u32::from(byte) << shift);
        shift = shift.wrapping_add(5) % 24;
    }
    hash.wrapping_mul(1_103_515_243).wrapping_add(12_345) % 512
}

/// A member list in the order of the wire. Names that share a bucket stay in alphabetical order.
pub(super) fn wire_order(members: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = members.iter().collect();
    if members.len() > 1 {
        members.sort_by_cached_key(|(name, _)| bucket(name));
    }
    members
}

/// Appends `value`: no newline, ASCII only, `", "` and `": "` between the parts.
///
/// Numbers come out as they went in, doubles with 17 significant digits; strings with `\uXXXX` for
/// all that is not printable ASCII, and U+FFFD in place of noncharacters.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() => write_double(out, double),
            _ => out.extend_from_slice(number.to_string().as_bytes()),
        },
        Value::String(text) => write_string(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                write_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (place, (name, value)) in wire_order(members).into_iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                write_string(out, name);
                out.extend_from_slice(b": ");
                write_value(out, value);
            }
            out.push(b'}');
        }
    }
}

/// A value as a line of the wire, ended by carriage return and line feed.
#[must_use]
pub fn to_line(value: &Value) -> Vec<u8> {
    let mut line = Vec::with_capacity(128);
    write_value(&mut line, value);
    line.extend_from_slice(b"\r\n");
    line
}

pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            ' '..='~' => out.extend(u8::try_from(character)),
            other => {
                let sent = if is_exchangeable(u32::from(other)) {
                    other
                } else {
                    char::REPLACEMENT_CHARACTER
                };
                for unit in sent.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04X}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(value: &Value) -> String {
        String::from_utf8(to_line(value)).unwrap()
    }

    #[test]
    fn members_are_sent_in_the_order_that_qemu_traces_show() {
        for names in [
            &["return", "id"][..],
            &["id", "error"],
            &["timestamp", "event", "data"],
            &["seconds", "microseconds"],
            &["class", "desc"],
            &["guest", "reason"],
            &["action", "info"],
            &["micro", "minor", "major"],
            &["qemu", "package"],
            &["version", "capabilities"],
            &["name", "ret-type", "meta-type", "arg-type"],
            &["flags", "recipient", "action"],
        ] {
            let members: Map<_, _> = names.iter().map(|n| ((*n).to_owned(), json!(0))).collect();
            let order: Vec<_> = wire_order(&members)
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            assert_eq!(order, names);
        }
    }

    #[test]
    fn output_is_ascii_and_escapes_in_upper_case_hex() {
        let text = "é \u{1F600} \u{7f} \u{0} \u{FFFE} \"\\\u{8}\u{c}\n\r\t/'";
        let expected = r#""\u00E9 \uD83D\uDE00 \u007F \u0000 \uFFFD \"\\\b\f\n\r\t/'""#;
        assert_eq!(line(&json!(text)), format!("{expected}\r\n"));
    }

    #[test]
    fn a_reply_reads_as_qemu_sends_it() {
        let reply = json!({"return": {"running": false, "status": "prelaunch"}, "id": [1, null]});
        let expected =
            "{\"return\": {\"status\": \"prelaunch\", \"running\": false}, \"id\": [1, null]}\r\n";
        assert_eq!(line(&reply), expected);
    }
}
