//! When the alarm goes off next.

use super::calendar;

/// An alarm byte from here on matches everything.
const WILDCARD: u8 = 0xc0;

/// What one part of the time must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Any,
    Only(u32),
    Never,
}

impl Match {
    fn new(register: u8, value: Option<i64>, limit: u32) -> Self {
        if register >= WILDCARD {
            return Self::Any;
        }
        match value.and_then(|value| u32::try_from(value).ok()) {
            Some(value) if value < limit => Self::Only(value),
            _ => Self::Never,
        }
    }

    fn allows(self, value: u32) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => only == value,
            Self::Never => false,
        }
    }
}

/// An alarm: it goes off in every second of the day that matches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    hour: Match,
    minute: Match,
    second: Match,
}

impl Alarm {
    /// From the three alarm registers, and register B's mode bits.
    pub(super) fn new(second: u8, minute: u8, hour: u8, mode: u8) -> Self {
        Self {
            hour: Match::new(hour, calendar::hour_of(hour, mode), 24),
            minute: Match::new(minute, Some(calendar::value(minute, mode)), 60),
            second: Match::new(second, Some(calendar::value(second, mode)), 60),
        }
    }

    /// The first match after `time`, both in seconds since 1970; `None` if there is no such second
    /// in a day.
    pub(super) fn next_after(self, time: i64) -> Option<i64> {
        let midnight = time.saturating_sub(time.rem_euclid(calendar::SECONDS_A_DAY));
        let start = u32::try_from(time.saturating_sub(midnight).saturating_add(1)).ok()?;
        let today = self.first_from(start);
        let (day, second) = match today {
            Some(second) => (midnight, second),
            None => (
                midnight.saturating_add(calendar::SECONDS_A_DAY),
                self.first_from(0)?,
            ),
        };
        Some(day.saturating_add(i64::from(second)))
    }

    /// The first match in a day at or after its second `start`.
    fn first_from(self, start: u32) -> Option<u32> {
        // What is over is not searched: a guest moves the alarm as often as it likes, and one that
        // goes off each second is looked for each second.
        let [first_hour, first_minute, first_second] = [start / 3600, start / 60 % 60, start % 60];
        for hour in (first_hour..24).filter(|hour| self.hour.allows(*hour)) {
            let this_hour = hour == first_hour;
            let minutes = if this_hour { first_minute } else { 0 }..60;
            for minute in minutes.filter(|minute| self.minute.allows(*minute)) {
                let this_minute = this_hour && minute == first_minute;
                let mut seconds = if this_minute { first_second } else { 0 }..60;
                if let Some(second) = seconds.find(|second| self.second.allows(*second)) {
                    let minutes = hour.saturating_mul(60).saturating_add(minute);
                    return Some(minutes.saturating_mul(60).saturating_add(second));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use calendar::{BINARY, HOURS_24};

    const MODE: u8 = BINARY | HOURS_24;

    /// Second by second through a day.
    fn slow(alarm: Alarm, time: i64) -> Option<i64> {
        (time.saturating_add(1)..=time.saturating_add(86_400)).find(|at| {
            let second = u32::try_from(at.rem_euclid(86_400)).unwrap();
            alarm.hour.allows(second / 3600)
                && alarm.minute.allows(second / 60 % 60)
                && alarm.second.allows(second % 60)
        })
    }

    #[test]
    fn agrees_with_a_search_by_the_second() {
        let times = [
            -1,
            0,
            1,
            59,
            60,
            3599,
            3600,
            45_296,
            86_398,
            86_399,
            86_400,
            1_700_000_000,
        ];
        for hour in [0, 12, 23, 24, 0xc0, 0xff] {
            for minute in [0, 34, 59, 60, 0xc0] {
                for second in [0, 56, 59, 60, 0xff] {
                    let alarm = Alarm::new(second, minute, hour, MODE);
                    for time in times {
                        assert_eq!(
                            alarm.next_after(time),
                            slow(alarm, time),
                            "{alarm:?} {time}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn wildcards_are_c0_and_above_in_every_mode() {
        for mode in [0, BINARY, HOURS_24, MODE] {
            assert_eq!(
                Alarm::new(0xc0, 0xff, 0xc5, mode).next_after(100),
                Some(101)
            );
            assert_eq!(Alarm::new(0xbf, 0xff, 0xff, mode).next_after(100), None);
        }
    }
}
