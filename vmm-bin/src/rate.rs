//! A limit on how often a guest can make the log longer.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How many lines may follow each other at once.
const BURST: u32 = 20;
/// How long it takes until one more is allowed.
const REFILL: Duration = Duration::from_millis(200);

/// Lets a line through or counts it.
#[derive(Debug)]
pub(crate) struct RateLimit {
    tokens: Cell<u32>,
    since: Cell<Instant>,
    held_back: Cell<u64>,
}

impl RateLimit {
    /// A limit that nothing has been counted against.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            tokens: Cell::new(BURST),
            since: Cell::new(now),
            held_back: Cell::new(0),
        }
    }

    /// Whether a line may be logged at `now`; then, how many were held back before it.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.since.get());
        let earned = passed
            .as_millis()
            .checked_div(REFILL.as_millis())
            .unwrap_or(0);
        let earned = u32::try_from(earned).unwrap_or(BURST);
        if earned > 0 {
            self.tokens
                .set(self.tokens.get().saturating_add(earned).min(BURST));
            self.since.set(now);
        }
        match self.tokens.get().checked_sub(1) {
            Some(left) => {
                self.tokens.set(left);
                Some(self.held_back.take())
            }
            None => {
                self.held_back.set(self.held_back.get().saturating_add(1));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_counted_and_not_logged() {
        let start = Instant::now();
        let limit = RateLimit::new(start);
        let logged = (0..1000).filter(|_| limit.admit(start).is_some()).count();
        assert_eq!(logged, 20);
        let later = start + REFILL;
        assert_eq!(
            limit.admit(later),
            Some(980),
            "what was held back is told with the next line"
        );
        assert_eq!(limit.admit(later), None);
        assert_eq!(limit.admit(later + 1000 * REFILL), Some(1));
    }
}
