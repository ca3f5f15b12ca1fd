//! Interrupt lines.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One interrupt line, as a device drives it: by level.
///
/// Behind it is whatever the VMM has: `KVM_IRQ_LINE`, an irqfd (write on `true`), or an interrupt
/// controller of its own. A device calls `set` when the level changes, and again after a restore.
///
/// Thread safety: called from vCPU threads and from the main loop **with the device's lock held**,
/// so that two threads cannot set two levels in the wrong order. It must not block and must not
/// call back into the device.
pub trait IrqLine: Send + Sync {
    /// Drives the line high (`true`) or low (`false`).
    fn set(&self, level: bool);
}

/// A line that is not connected.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoIrq;

impl IrqLine for NoIrq {
    fn set(&self, _level: bool) {}
}

/// A line that remembers its level and counts its rising edges, for tests.
#[derive(Debug, Default)]
pub struct IrqProbe {
    level: AtomicBool,
    edges: AtomicU64,
}

impl IrqProbe {
    /// A line that is low.
    pub const fn new() -> Self {
        Self {
            level: AtomicBool::new(false),
            edges: AtomicU64::new(0),
        }
    }

    /// The present level.
    pub fn level(&self) -> bool {
        self.level.load(Ordering::Acquire)
    }

    /// How often the line went from low to high.
    pub fn edges(&self) -> u64 {
        self.edges.load(Ordering::Acquire)
    }
}

impl IrqLine for IrqProbe {
    fn set(&self, level: bool) {
        let before = self.level.swap(level, Ordering::AcqRel);
        if level && !before {
            self.edges.fetch_add(1, Ordering::AcqRel);
        }
    }
}
