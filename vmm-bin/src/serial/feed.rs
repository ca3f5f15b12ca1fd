//! Input on its way to the UART: no faster than its FIFO empties.

/// The UART, as its input sees it.
pub(crate) trait Receiver {
    /// How many bytes fit now.
    fn room(&self) -> usize;
    /// Takes the first bytes of `bytes` that fit and returns how many.
    fn receive(&self, bytes: &[u8]) -> usize;
    /// Takes a break.
    fn receive_break(&self);
}

/// How many bytes are read at once.
const CHUNK: usize = 256;

/// Bytes that were read and did not fit yet.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    waiting: Vec<u8>,
}

impl Feed {
    /// How many bytes a reader should ask its source for: 0 while bytes wait. At least one is
    /// read otherwise, because the UART tells of room only to who could not place a byte.
    pub(crate) fn appetite(&self, receiver: &dyn Receiver) -> usize {
        if self.waiting.is_empty() {
            receiver.room().clamp(1, CHUNK)
        } else {
            0
        }
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Passes `bytes` on, after those that wait, and keeps what does not fit.
    pub(crate) fn push(&mut self, bytes: &[u8], receiver: &dyn Receiver) {
        self.waiting.extend_from_slice(bytes);
        self.retry(receiver);
    }

    /// Passes on what waits.
    pub(crate) fn retry(&mut self, receiver: &dyn Receiver) {
        let taken = receiver.receive(&self.waiting).min(self.waiting.len());
        self.waiting.drain(..taken);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A UART with a FIFO of a given size that nobody reads.
    pub(crate) struct Fifo {
        pub(crate) size: Cell<usize>,
        pub(crate) got: RefCell<Vec<u8>>,
    }

    impl Fifo {
        pub(crate) fn new(size: usize) -> Self {
            Self {
                size: Cell::new(size),
                got: RefCell::default(),
            }
        }
    }

    impl Receiver for Fifo {
        fn room(&self) -> usize {
            self.size.get().saturating_sub(self.got.borrow().len())
        }
        fn receive(&self, bytes: &[u8]) -> usize {
            let taken = self.room().min(bytes.len());
            self.got.borrow_mut().extend_from_slice(&bytes[..taken]);
            taken
        }
        fn receive_break(&self) {
            self.got.borrow_mut().push(0);
        }
    }

    #[test]
    fn nothing_is_lost_when_the_fifo_is_full() {
        let fifo = Fifo::new(3);
        let mut feed = Feed::default();
        assert_eq!(feed.appetite(&fifo), 3);
        feed.push(b"abcde", &fifo);
        assert_eq!(feed.appetite(&fifo), 0, "no more is read while bytes wait");
        fifo.size.set(4);
        feed.retry(&fifo);
        assert_eq!(feed.appetite(&fifo), 0);
        fifo.size.set(5);
        feed.retry(&fifo);
        assert_eq!(
            feed.appetite(&fifo),
            1,
            "one byte finds out when there is room again"
        );
        fifo.size.set(400);
        feed.push(b"fg", &fifo);
        assert_eq!(*fifo.got.borrow(), b"abcdefg");
        assert_eq!(feed.appetite(&fifo), CHUNK);
    }
}
