//! Rate limits: the first event goes out at once, then one a second at most.
//!
//! ```text
//!   event ──▶ sent ──▶ window of one second ──▶ closed
//!                        │ more events: only         ▲ nothing was kept
//!                        │ the latest is kept        │
//!                        └──▶ second over: it is sent, a new window opens
//! ```

use super::hub::Emission;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);

/// Windows that may be open at once. An event that would open one more is not limited; the clients'
/// outboxes are bounded all the same.
const WINDOWS: usize = 256;

type Key = (Arc<str>, Vec<String>);

#[derive(Debug)]
struct Window {
    ends: Instant,
    kept: Option<Emission>,
}

/// The open windows.
#[derive(Debug, Default)]
pub(super) struct Windows {
    open: BTreeMap<Key, Window>,
}

impl Windows {
    /// Passes an event on, or keeps it until its window ends.
    pub(super) fn offer(
        &mut self,
        key: Vec<String>,
        emission: Emission,
        now: Instant,
    ) -> Option<Emission> {
        let key = (Arc::clone(&emission.name), key);
        if let Some(window) = self.open.get_mut(&key) {
            window.kept = Some(emission);
            return None;
        }
        if self.open.len() < WINDOWS {
            self.open.insert(
                key,
                Window {
                    ends: after(now),
                    kept: None,
                },
            );
        }
        Some(emission)
    }

    /// Ends the windows whose time is over and returns what they kept, in the order of their ends.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Emission> {
        let mut due: Vec<(Instant, Emission)> = Vec::new();
        self.open.retain(|_, window| {
            if window.ends > now {
                return true;
            }
            let Some(emission) = window.kept.take() else {
                return false;
            };
            due.push((window.ends, emission));
            window.ends = after(now);
            true
        });
        due.sort_by_key(|(ends, _)| *ends);
        due.into_iter().map(|(_, emission)| emission).collect()
    }

    /// When the next window ends.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.open.values().map(|window| window.ends).min()
    }
}

fn after(now: Instant) -> Instant {
    now.checked_add(WINDOW).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emission(name: &str, line: &str) -> Emission {
        Emission {
            name: name.into(),
            line: line.as_bytes().into(),
        }
    }

    fn text(emission: &Emission) -> &str {
        std::str::from_utf8(&emission.line).unwrap()
    }

    #[test]
    fn first_at_once_then_the_latest_each_second() {
        let mut windows = Windows::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(windows.offer(vec![], emission("A", "1"), at(0)).is_some());
        assert!(windows.offer(vec![], emission("A", "2"), at(10)).is_none());
        assert!(windows.offer(vec![], emission("A", "3"), at(20)).is_none());
        assert!(windows.expire(at(999)).is_empty());
        let due = windows.expire(at(1000));
        assert_eq!(due.iter().map(text).collect::<Vec<_>>(), ["3"]);
        assert_eq!(windows.next_end(), Some(at(2000)));
        assert!(windows.expire(at(2000)).is_empty());
        assert_eq!(windows.next_end(), None);
        assert!(
            windows
                .offer(vec![], emission("A", "4"), at(2001))
                .is_some()
        );
    }

    #[test]
    fn keys_have_windows_of_their_own_and_their_number_is_bounded() {
        let mut windows = Windows::default();
        let now = Instant::now();
        for id in 0..WINDOWS + 10 {
            assert!(
                windows
                    .offer(vec![id.to_string()], emission("A", ""), now)
                    .is_some()
            );
        }
        assert_eq!(windows.open.len(), WINDOWS);
        assert!(
            windows
                .offer(vec!["0".into()], emission("A", ""), now)
                .is_none()
        );
        assert!(
            windows
                .offer(vec!["0".into()], emission("B", ""), now)
                .is_some()
        );
    }
}
