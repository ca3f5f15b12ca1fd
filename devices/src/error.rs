//! The crate's one error type.

use crate::bus::Mapping;
use crate::reset::{NodeId, Phase};

/// What a VMM can do wrong with this crate. A guest cannot cause any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A mapping of no bytes was given to a bus.
    #[error("{device}: the range at {base:#x} is empty; it must cover at least 1 byte")]
    EmptyRange {
        /// The device.
        device: String,
        /// Where the range starts.
        base: u64,
    },
    /// A mapping reaches past the end of the bus's address space.
    #[error("{device}: {len} bytes at {base:#x} pass the bus's last address, {last:#x}")]
    RangeTooLong {
        /// The device.
        device: String,
        /// Where the range starts.
        base: u64,
        /// Its length in bytes.
        len: u64,
        /// The highest address of the bus.
        last: u64,
    },
    /// Two devices claim one address.
    #[error("{device}: {range} overlaps {other_range}, which belongs to {other}")]
    Overlap {
        /// The device that was to be added.
        device: String,
        /// What it asked for.
        range: Mapping,
        /// The device that is there.
        other: String,
        /// What that has.
        other_range: Mapping,
    },
    /// Something was asked of a reset tree while it runs a phase; ask again when the reset is over
    /// (a device posts a [`PowerRequest::Reset`](crate::PowerRequest::Reset) instead, which the
    /// VMM serves later).
    #[error(
        "the reset tree is running its {0} phase: it cannot be reset or changed from within one"
    )]
    InPhase(Phase),
    /// A device is held in reset by too many at once; more than likely a release is missing.
    #[error("{name}: held in reset {limit} times over, which is the limit; release it first")]
    TooManyResets {
        /// The device.
        name: String,
        /// How many are allowed.
        limit: u32,
    },
    /// A reset was released that nobody had asserted.
    #[error("{name}: is not held in reset, or only by its parent, so there is nothing to release")]
    NotInReset {
        /// The device.
        name: String,
    },
    /// The tree has no such node; it was removed, or belongs to another tree.
    #[error("the reset tree has no node {0:?}")]
    UnknownNode(NodeId),
    /// A node would become its own ancestor, or the root would get a parent.
    #[error("{name}: cannot be moved below {parent}, which is below it")]
    Cycle {
        /// The node that was to be moved.
        name: String,
        /// Where to.
        parent: String,
    },
    /// A saved state holds something that a device cannot have.
    #[error("{device}: bad saved state: {field} is {found}, and must be {expected}")]
    BadState {
        /// The device.
        device: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would be right.
        expected: &'static str,
    },
    /// A device was configured with something that it cannot do.
    #[error("{device}: {field} is {found:#x}, and must be {expected}")]
    BadConfig {
        /// The device.
        device: &'static str,
        /// The parameter.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would be right.
        expected: &'static str,
    },
}
