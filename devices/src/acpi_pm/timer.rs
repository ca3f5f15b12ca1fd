//! The power-management timer's arithmetic: nanoseconds of the virtual clock to ticks and back.

use super::TIMER_HZ;

const NS_PER_SECOND: u64 = 1_000_000_000;
/// How often the timer's top bit changes, in ticks.
const OVERFLOW_TICKS: u64 = 0x0080_0000;

/// The timer's count at a time, not cut to 24 bits. It does not wrap: 2^64 ns are fewer than 2^64
/// ticks.
pub(super) fn ticks_at(now_ns: u64) -> u64 {
    let ticks = u128::from(now_ns)
        .saturating_mul(TIMER_HZ.into())
        .checked_div(NS_PER_SECOND.into());
    u64::try_from(ticks.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// The first nanosecond at which the timer's count is `ticks`; `None` beyond the clock's end.
pub(super) fn ns_at(ticks: u64) -> Option<u64> {
    let ns = u128::from(ticks).saturating_mul(NS_PER_SECOND.into());
    u64::try_from(ns.div_ceil(TIMER_HZ.into())).ok()
}

/// When the timer's top bit changes next.
pub(super) fn next_overflow(ticks: u64) -> u64 {
    (ticks & !(OVERFLOW_TICKS - 1)).saturating_add(OVERFLOW_TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_the_first_nanosecond_of_its_tick() {
        for ticks in (0..1 << 40)
            .step_by(999_999_937)
            .chain([0, 1, 2, 0x0080_0000])
        {
            let ns = ns_at(ticks).unwrap();
            assert_eq!(ticks_at(ns), ticks);
            assert!(ns == 0 || ticks_at(ns.saturating_sub(1)) < ticks);
        }
        assert_eq!(ns_at(u64::MAX), None);
    }

    #[test]
    fn an_overflow_is_after_now() {
        assert_eq!(next_overflow(0), 0x0080_0000);
        assert_eq!(next_overflow(0x007f_ffff), 0x0080_0000);
        assert_eq!(next_overflow(0x0080_0000), 0x0100_0000);
        assert!(next_overflow(ticks_at(u64::MAX)) > ticks_at(u64::MAX));
    }
}
