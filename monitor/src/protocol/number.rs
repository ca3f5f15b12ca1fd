//! Numbers: a signed 64-bit integer if it fits, else an unsigned one, else a double.

use super::lexer::Kind;
use super::parser::ParseError;
use super::text::echo;
use serde_json::Number;

/// Reads a number token. A number beyond a double's range is refused: it would have to be written
/// back as `inf`, which is not JSON.
pub(super) fn read(kind: Kind, token: &[u8]) -> Result<Number, ParseError> {
    let text = std::str::from_utf8(token).unwrap_or_default();
    if kind == Kind::Integer {
        if let Ok(value) = text.parse::<i64>() {
            return Ok(value.into());
        }
        if let Ok(value) = text.parse::<u64>() {
            return Ok(value.into());
        }
    }
    text.parse::<f64>()
        .ok()
        .and_then(Number::from_f64)
        .ok_or_else(|| ParseError::NumberOutOfRange(echo(token)))
}

/// Writes a double as C's `%.17g` does, which is how QEMU writes it: 17 significant digits, no
/// trailing zeros, an exponent only below 1e-4 and from 1e17 on. Every double reads back as itself.
pub(super) fn write_double(out: &mut Vec<u8>, value: f64) {
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        kept => kept,
    };
    out.extend_from_slice(sign.as_bytes());
    match usize::try_from(exponent) {
        Ok(whole) if exponent < 17 => {
            let point = whole.saturating_add(1);
            match digits.split_at_checked(point) {
                Some((integer, "")) => out.extend_from_slice(integer.as_bytes()),
                Some((integer, fraction)) => {
                    out.extend_from_slice(format!("{integer}.{fraction}").as_bytes());
                }
                None => out.extend_from_slice(format!("{digits:0<point$}").as_bytes()),
            }
        }
        Err(_) if exponent >= -4 => {
            let zeros = usize::try_from(exponent.saturating_neg().saturating_sub(1));
            let zeros = "0".repeat(zeros.unwrap_or_default());
            out.extend_from_slice(format!("0.{zeros}{digits}").as_bytes());
        }
        _ => {
            let (lead, rest) = digits.split_at_checked(1).unwrap_or((digits, ""));
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { '-' } else { '+' };
            let size = exponent.unsigned_abs();
            out.extend_from_slice(format!("{lead}{point}{rest}e{sign}{size:02}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write_double(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_are_written_as_c_writes_17_significant_digits() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (0.1, "0.10000000000000001"),
            (1e3, "1000"),
            (-2.5, "-2.5"),
            (123_456.75, "123456.75"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (18_446_744_073_709_551_616.0, "1.8446744073709552e+19"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e-100, "1e-100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "4.9406564584124654e-324"),
            (1.0 / 3.0, "0.33333333333333331"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    #[test]
    fn integers_keep_64_bits_and_then_become_doubles() {
        let number = |text: &str| read(Kind::Integer, text.as_bytes()).unwrap();
        assert_eq!(number("9223372036854775807").as_i64(), Some(i64::MAX));
        assert_eq!(number("-9223372036854775808").as_i64(), Some(i64::MIN));
        assert_eq!(number("18446744073709551615").as_u64(), Some(u64::MAX));
        assert!(number("18446744073709551616").is_f64());
        assert!(number("-9223372036854775809").is_f64());
        assert_eq!(number("-0").as_i64(), Some(0));
    }
}
