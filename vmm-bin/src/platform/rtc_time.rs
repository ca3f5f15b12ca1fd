//! The time that the real-time clock keeps: the host's, which goes on whatever the VM does, or the
//! guest's, which stands while the VM does.

use std::sync::Arc;

use devices::{Clock, HostClock};

use super::clock::VirtualClock;

/// What the real-time clock follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RtcSource {
    /// The host's clock.
    #[default]
    Host,
    /// The virtual clock of the devices.
    Virtual,
}

/// The time that the real-time clock keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RtcTime {
    /// What it follows.
    pub(crate) source: RtcSource,
    /// What it shows at power-on, in nanoseconds since 1970; the host's time if it is not given.
    pub(crate) base_ns: Option<u64>,
}

impl RtcTime {
    /// Whether it goes on while the VM stands.
    pub(crate) fn goes_on(self) -> bool {
        self.source == RtcSource::Host
    }

    /// A clock that shows it, from now on.
    pub(crate) fn clock(self, guest: &Arc<VirtualClock>) -> Arc<dyn Clock> {
        let followed: Arc<dyn Clock> = match (self.source, self.base_ns) {
            (RtcSource::Host, None) => return Arc::new(HostClock),
            (RtcSource::Host, Some(_)) => Arc::new(HostClock),
            (RtcSource::Virtual, _) => Arc::<VirtualClock>::clone(guest),
        };
        let begins = self.base_ns.unwrap_or_else(|| HostClock.now_ns());
        Arc::new(Shifted {
            by: begins.wrapping_sub(followed.now_ns()),
            clock: followed,
        })
    }
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
            base_ns: Some(50),
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
                base_ns: None,
            };
            let shown = time.clock(&guest).now_ns();
            assert!((before..=HostClock.now_ns()).contains(&shown), "{source:?}");
        }
        let time = RtcTime {
            source: RtcSource::Host,
            base_ns: Some(1_000),
        };
        let clock = time.clock(&guest);
        let first = clock.now_ns();
        assert!(first < HostClock.now_ns());
        while clock.now_ns() == first {
            std::hint::spin_loop();
        }
    }
}
