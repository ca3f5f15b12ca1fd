//! A watchdog on a bus, on a clock that a test moves, with what it tells written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "ib700")]
use devices::ib700::Wiring;
#[cfg(not(feature = "ib700"))]
use devices::wdat::Wiring;
use devices::{Bus, BusBuilder, BusDevice, ManualClock, Mapping, PowerProbe, PowerRequest, Timed};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) struct Rig<D> {
    pub(crate) power: Arc<PowerProbe>,
    pub(crate) clock: Arc<ManualClock>,
    rearmed: Arc<AtomicU64>,
    pub(crate) device: Arc<D>,
    pub(crate) bus: Bus,
}

impl<D: BusDevice + Timed + 'static> Rig<D> {
    /// A watchdog of this kind at these ports, in the second `now` of its clock.
    pub(crate) fn at(now: u64, ports: Mapping, make: impl FnOnce(Wiring) -> D) -> Self {
        let power = Arc::new(PowerProbe::new());
        let clock = Arc::new(ManualClock::new(now * SECOND));
        let rearmed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&rearmed);
        let device = Arc::new(make(Wiring {
            power: power.clone(),
            clock: clock.clone(),
            rearm: Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
        }));
        let mut builder = BusBuilder::pio();
        builder.map("watchdog", &[ports], device.clone()).unwrap();
        Self {
            power,
            clock,
            rearmed,
            device,
            bus: builder.build(),
        }
    }

    /// How often it has said, since the last call, that its deadline may have changed.
    pub(crate) fn rearmed(&self) -> u64 {
        self.rearmed.swap(0, Ordering::SeqCst)
    }

    /// How many times the watchdog has expired since the last call.
    pub(crate) fn expiries(&self) -> usize {
        let requests = self.power.take();
        let expired = |request: &PowerRequest| *request == PowerRequest::WatchdogExpired;
        assert!(requests.iter().all(expired));
        requests.len()
    }

    pub(crate) fn advance(&self, ns: u64) {
        self.clock.advance(ns);
        self.device.tick();
    }
}
