//! The latest events by number, for clients that have missed some.
//!
//! The rule that must never be broken: **numbers have no gaps**. What is kept is all that was emitted
//! from the oldest number to the latest; to make room, the oldest go first.

use std::collections::VecDeque;
use std::sync::Arc;

/// What an event costs beside its bytes: its place in the queue and its reference counts.
const OVERHEAD: usize = 48;

/// The events that are kept.
#[derive(Debug)]
pub(super) struct History {
    lines: VecDeque<Arc<[u8]>>,
    bytes: usize,
    limit: usize,
    next: u64,
}

impl History {
    /// Keeps events of about `limit` bytes together.
    pub(super) fn new(limit: usize) -> Self {
        History {
            lines: VecDeque::new(),
            bytes: 0,
            limit,
            next: 1,
        }
    }

    /// The number that the next event will have.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest event that is kept; that of the next one if none is.
    pub(super) fn oldest(&self) -> u64 {
        let kept = u64::try_from(self.lines.len()).unwrap_or(u64::MAX);
        self.next.saturating_sub(kept)
    }

    /// Numbers an event and keeps it.
    pub(super) fn push(&mut self, line: &Arc<[u8]>) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(cost(line));
        self.lines.push_back(Arc::clone(line));
        while self.bytes > self.limit {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(cost(&oldest));
        }
        number
    }

    /// The events from number `first` on that are kept, with their numbers.
    pub(super) fn since(&self, first: u64) -> impl DoubleEndedIterator<Item = (u64, &Arc<[u8]>)> {
        let oldest = self.oldest();
        let skipped = usize::try_from(first.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let numbered = self.lines.iter().enumerate().skip(skipped);
        numbered.map(move |(place, line)| {
            let place = u64::try_from(place).unwrap_or(u64::MAX);
            (oldest.saturating_add(place), line)
        })
    }
}

fn cost(line: &Arc<[u8]>) -> usize {
    line.len().saturating_add(OVERHEAD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: usize) -> Arc<[u8]> {
        vec![b'x'; bytes].into()
    }

    fn numbers(history: &History, first: u64) -> Vec<u64> {
        history.since(first).map(|(number, _)| number).collect()
    }

    #[test]
    fn the_oldest_go_first_and_numbers_go_on() {
        let mut history = History::new(3 * (100 + OVERHEAD));
        assert_eq!((history.oldest(), history.next()), (1, 1));
        for number in 1..=5 {
            assert_eq!(history.push(&line(100)), number);
        }
        assert_eq!((history.oldest(), history.next()), (3, 6));
        assert_eq!(numbers(&history, 0), [3, 4, 5]);
        assert_eq!(numbers(&history, 4), [4, 5]);
        assert!(numbers(&history, 6).is_empty());
        assert!(numbers(&history, u64::MAX).is_empty());
    }

    #[test]
    fn what_is_larger_than_all_the_room_leaves_nothing_and_no_gap() {
        let mut history = History::new(200);
        history.push(&line(10));
        assert_eq!(history.push(&line(1000)), 2);
        assert_eq!((history.oldest(), history.next()), (3, 3));
        history.push(&line(10));
        assert_eq!(numbers(&history, 0), [3]);
        let mut none = History::new(0);
        none.push(&line(0));
        assert!(numbers(&none, 0).is_empty());
    }
}
