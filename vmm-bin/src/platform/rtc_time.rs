//! The time that the real-time clock keeps: the host's, which goes on whatever the VM does, or the
//! guest's, which stands while the VM does.

use std::sync::Arc;

use devices::{Clock, HostClock};

use super::clock::VirtualClock;
use super::sys;

const NS_PER_SECOND: i64 = 1_000_000_000;

/// What the real-time clock follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RtcSource {
    /// The host's clock.
    #[default]
    Host,
    /// The virtual clock of the devices.
    Virtual,
}

/// What the real-time clock shows at power-on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RtcBase {
    /// The host's time, in UTC.
    #[default]
    Utc,
    /// The host's time in its time zone, as that is ahead of UTC now. When the zone changes from or to
    /// daylight saving time, it is the guest that has to know.
    Local,
    /// A time in nanoseconds since 1970.
    At(u64),
}

/// The time that the real-time clock keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RtcTime {
    /// What it follows.
    pub(crate) source: RtcSource,
    /// What it shows at power-on.
    pub(crate) base: RtcBase,
}

impl RtcTime {
    /// Whether it goes on while the VM stands.
    pub(crate) fn goes_on(self) -> bool {
        self.source == RtcSource::Host
    }

    /// A clock that shows it, from now on.
    pub(crate) fn clock(self, guest: &Arc<VirtualClock>) -> Arc<dyn Clock> {
        let followed: Arc<dyn Clock> = match (self.source, self.base) {
            (RtcSource::Host, RtcBase::Utc) => return Arc::new(HostClock),
            (RtcSource::Host, _) => Arc::new(HostClock),
            (RtcSource::Virtual, _) => Arc::<VirtualClock>::clone(guest),
        };
        let now = HostClock.now_ns();
        let begins = match self.base {
            RtcBase::Utc => now,
            RtcBase::Local => now.wrapping_add_signed(local_ahead(now)),
            RtcBase::At(begins) => begins,
        };
        let followed_now = match self.source {
            // As it was read above, so that not even a nanosecond lies between.
            RtcSource::Host => now,
            RtcSource::Virtual => followed.now_ns(),
        };
        Arc::new(Shifted {
            by: begins.wrapping_sub(followed_now),
            clock: followed,
        })
    }
}

/// By how many nanoseconds local time is ahead of UTC at a time in nanoseconds since 1970.
fn local_ahead(now: u64) -> i64 {
    let seconds = i64::try_from(now).unwrap_or(i64::MAX) / NS_PER_SECOND;
    let ahead = sys::local_ahead(seconds).unwrap_or_else(|| {
        log::warn!("--rtc base=localtime: the C library knows no local time at {seconds} s: UTC");
        0
    });
    ahead.saturating_mul(NS_PER_SECOND)
}

/// A clock that is ahead of another, or behind it: modulo 2^64, which makes no difference.
struct Shifted {
    clock: Arc<dyn Clock>,
    by: u64,
}

impl Clock for Shifted {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns().wrapping_add(self.by)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_where_it_is_told_and_follows_what_it_is_told() {
        let guest = Arc::new(VirtualClock::stepped());
        guest.advance_to(700);
        let time = RtcTime {
            source: RtcSource::Virtual,
            base: RtcBase::At(50),
        };
        let clock = time.clock(&guest);
        assert_eq!(clock.now_ns(), 50);
        guest.advance_to(1_000);
        assert_eq!(clock.now_ns(), 350);
        assert!(!time.goes_on());
    }

    #[test]
    fn it_begins_with_the_hosts_time_unless_told_otherwise() {
        let guest = Arc::new(VirtualClock::stepped());
        for source in [RtcSource::Host, RtcSource::Virtual] {
            let before = HostClock.now_ns();
            let time = RtcTime {
                source,
                base: RtcBase::Utc,
            };
            let shown = time.clock(&guest).now_ns();
            assert!((before..=HostClock.now_ns()).contains(&shown), "{source:?}");
        }
        let time = RtcTime {
            source: RtcSource::Host,
            base: RtcBase::At(1_000),
        };
        let clock = time.clock(&guest);
        let first = clock.now_ns();
        assert!(first < HostClock.now_ns());
        assert_eq!(sys::local_ahead(i64::MAX), None, "the year is out of range");
        while clock.now_ns() == first {
            std::hint::spin_loop();
        }
    }
}
