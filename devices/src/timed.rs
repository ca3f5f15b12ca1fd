//! Devices with deadlines.

/// A device that has something to do at a certain time, without a thread or a timer of its own.
///
/// The main loop arms one timer for the earliest deadline of its devices and calls `tick` when it
/// fires. A guest's register access can move a deadline: the device then calls the
/// [`Notify`](crate::Notify) it was built with.
pub trait Timed: Send + Sync {
    /// When `tick` is due, in nanoseconds of the device's own clock; `None` if nothing is planned.
    /// A time in the past means at once.
    fn next_deadline(&self) -> Option<u64>;

    /// Does what is due by now. Calling it early, late or twice is harmless: a device computes from
    /// its clock what has happened, and several missed periods become one.
    fn tick(&self);
}
