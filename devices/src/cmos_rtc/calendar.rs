//! Dates, and how the clock's registers spell them. The Gregorian calendar, years 0 to 9999, in
//! UTC.

#![expect(
    clippy::arithmetic_side_effects,
    reason = "every operand is a register of 8 bits, a part of a date, or a day count of 10,000 years: far from any overflow"
)]

/// Register B: values are binary, not BCD.
pub(super) const BINARY: u8 = 0x04;
/// Register B: hours are 0 to 23, not 1 to 12 with bit 7 for the afternoon.
pub(super) const HOURS_24: u8 = 0x02;

/// Hours: the afternoon, in 12-hour mode.
const AFTERNOON: u8 = 0x80;

pub(super) const SECONDS_A_DAY: i64 = 86_400;
const DAYS_IN_400_YEARS: i64 = 146_097;
/// The day number of 1970-01-01 when 0000-01-01 is day 0.
const EPOCH_DAY: i64 = 719_528;
const YEARS: i64 = 10_000;
const DAYS_BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// The clock's time registers, in the order of [`INDICES`].
pub(super) type Registers = [u8; 8];

/// Where the time registers are: second, minute, hour, day of the week, day, month, year, century.
pub(super) const INDICES: [u8; 8] = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];

/// The registers at a time in seconds since 1970.
pub(super) fn encode(seconds: i64, mode: u8) -> Registers {
    let day = seconds.div_euclid(SECONDS_A_DAY) + EPOCH_DAY;
    let second = seconds.rem_euclid(SECONDS_A_DAY);
    let (year, month, day_of_month) = date(day.rem_euclid(YEARS / 400 * DAYS_IN_400_YEARS));
    // 0000-01-01 was a Saturday, the seventh day of the chip's week.
    let weekday = (day + 6).rem_euclid(7) + 1;
    [
        number(second % 60, mode),
        number(second / 60 % 60, mode),
        hour(second / 3600, mode),
        number(weekday, mode),
        number(day_of_month, mode),
        number(month, mode),
        number(year % 100, mode),
        number(year / 100, mode),
    ]
}

/// The time that the registers say, in seconds since 1970. Whatever a guest writes means something:
/// the day and the month are brought into range, anything else that is too large carries over. The
/// day of the week does not count.
pub(super) fn decode(registers: Registers, mode: u8) -> i64 {
    let [second, minute, hour, _, day, month, year, century] = registers;
    let year = (value(century, mode) * 100 + value(year, mode)).rem_euclid(YEARS);
    let day = day_number(
        year,
        value(month, mode).clamp(1, 12),
        value(day, mode).clamp(1, 31),
    );
    let hour = if mode & HOURS_24 != 0 {
        value(hour, mode)
    } else {
        value(hour & !AFTERNOON, mode) % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 }
    };
    (day - EPOCH_DAY) * SECONDS_A_DAY + hour * 3600 + value(minute, mode) * 60 + value(second, mode)
}

/// An hour register as 0 to 23; `None` if it is not an hour.
pub(super) fn hour_of(register: u8, mode: u8) -> Option<i64> {
    if mode & HOURS_24 != 0 {
        return Some(value(register, mode)).filter(|hour| *hour < 24);
    }
    let hour = Some(value(register & !AFTERNOON, mode)).filter(|hour| (1..=12).contains(hour))?;
    Some(hour % 12 + if register & AFTERNOON != 0 { 12 } else { 0 })
}

/// A register's number.
pub(super) fn value(register: u8, mode: u8) -> i64 {
    if mode & BINARY != 0 {
        i64::from(register)
    } else {
        i64::from(register >> 4) * 10 + i64::from(register & 0x0f)
    }
}

fn number(value: i64, mode: u8) -> u8 {
    let spelled = if mode & BINARY != 0 {
        value
    } else {
        value / 10 * 16 + value % 10
    };
    u8::try_from(spelled).unwrap_or(0)
}

fn hour(hour: i64, mode: u8) -> u8 {
    if mode & HOURS_24 != 0 {
        return number(hour, mode);
    }
    let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
    number(twelve, mode) | if hour >= 12 { AFTERNOON } else { 0 }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// How many days there are before a year; year 0 is a leap year.
fn days_before_year(year: i64) -> i64 {
    if year == 0 {
        return 0;
    }
    let past = year - 1;
    year * 365 + past / 4 - past / 100 + past / 400 + 1
}

fn days_before_month(year: i64, month: i64) -> i64 {
    let index = usize::try_from(month - 1).unwrap_or(0);
    let days = DAYS_BEFORE_MONTH.get(index).copied().unwrap_or(0);
    days + i64::from(month > 2 && is_leap(year))
}

/// The day number of a date, counted from 0000-01-01.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    days_before_year(year) + days_before_month(year, month) + day - 1
}

/// Year, month and day of a day number of 0 or more.
fn date(day: i64) -> (i64, i64, i64) {
    // The average year is a little short or long of the one asked for; at most one step sets that
    // right.
    let mut year = day * 400 / DAYS_IN_400_YEARS;
    if days_before_year(year + 1) <= day {
        year += 1;
    } else if days_before_year(year) > day {
        year -= 1;
    }
    let in_year = day - days_before_year(year);
    let month = (1..=12)
        .rev()
        .find(|m| days_before_month(year, *m) <= in_year)
        .unwrap_or(1);
    (year, month, in_year - days_before_month(year, month) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BCD, 24 hours.
    const PLAIN: u8 = HOURS_24;

    #[test]
    fn known_dates() {
        // date -u -d @951782399: Mon Feb 28 23:59:59 2000, and the second after it.
        assert_eq!(
            encode(951_782_399, PLAIN),
            [0x59, 0x59, 0x23, 0x02, 0x28, 0x02, 0x00, 0x20]
        );
        assert_eq!(encode(951_782_400, PLAIN)[3..6], [0x03, 0x29, 0x02]);
        assert_eq!(encode(0, PLAIN), [0, 0, 0, 0x05, 0x01, 0x01, 0x70, 0x19]);
        // 2100 is no leap year: 2100-02-28 and the day after.
        assert_eq!(encode(4_107_456_000, PLAIN)[4..], [0x28, 0x02, 0x00, 0x21]);
        assert_eq!(encode(4_107_542_400, PLAIN)[4..], [0x01, 0x03, 0x00, 0x21]);
    }

    #[test]
    fn every_day_of_a_cycle_round_trips() {
        for first_year in [0, 2000, 9600] {
            let mut expected = (first_year, 1, 1);
            let first = first_year / 400 * DAYS_IN_400_YEARS;
            for day in first..first + DAYS_IN_400_YEARS {
                assert_eq!(date(day), expected, "day {day}");
                assert_eq!(day_number(expected.0, expected.1, expected.2), day);
                expected = following(expected);
            }
            assert_eq!(expected, (first_year + 400, 1, 1));
        }
    }

    /// The day after, by the rhyme instead of by arithmetic.
    fn following((year, month, day): (i64, i64, i64)) -> (i64, i64, i64) {
        let length = match month {
            4 | 6 | 9 | 11 => 30,
            2 if is_leap(year) => 29,
            2 => 28,
            _ => 31,
        };
        match (month, day) {
            (12, 31) => (year + 1, 1, 1),
            (_, last) if last == length => (year, month + 1, 1),
            _ => (year, month, day + 1),
        }
    }

    #[test]
    fn modes_round_trip_over_a_day() {
        for mode in [0, BINARY, HOURS_24, BINARY | HOURS_24] {
            for second in (1_700_000_000..1_700_086_400).step_by(59) {
                assert_eq!(decode(encode(second, mode), mode), second, "mode {mode:#x}");
            }
        }
    }

    #[test]
    fn twelve_hour_clock() {
        assert_eq!(encode(0, 0)[2], 0x12);
        assert_eq!(encode(43_200, 0)[2], 0x92);
        assert_eq!(encode(82_800, BINARY)[2], 0x80 | 11);
        assert_eq!(hour_of(0x12, 0), Some(0));
        assert_eq!(hour_of(0x92, 0), Some(12));
        assert_eq!(hour_of(0x13, 0), None);
        assert_eq!(hour_of(0x24, HOURS_24), None);
    }

    #[test]
    fn nonsense_is_some_time() {
        for byte in 0..=u8::MAX {
            for mode in [0, BINARY, HOURS_24, BINARY | HOURS_24] {
                let seconds = decode([byte; 8], mode);
                assert!((-62_167_219_200..253_402_300_800 + 1_000_000).contains(&seconds));
            }
        }
    }
}
