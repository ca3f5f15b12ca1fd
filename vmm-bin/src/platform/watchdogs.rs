//! Which watchdogs the machine has.

use devices::wdat;

/// Which watchdogs there are. The default is ib700 alone: its ports say nothing to a guest that does
/// not look for it, while a WDAT table makes an operating system load a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watchdogs {
    /// The watchdog at I/O ports 0x441 to 0x444.
    pub(crate) ib700: bool,
    /// The watchdog that the ACPI table WDAT describes.
    pub(crate) wdat: bool,
}

impl Default for Watchdogs {
    fn default() -> Self {
        Self {
            ib700: true,
            ..Self::NONE
        }
    }
}

impl Watchdogs {
    /// None at all.
    pub(crate) const NONE: Self = Self {
        ib700: false,
        wdat: false,
    };

    /// The first port of the registers that a WDAT table is to describe, if there is one.
    pub(crate) fn wdat_base(self) -> Option<u16> {
        let [ports] = wdat::PORTS;
        u16::try_from(ports.base).ok().filter(|_| self.wdat)
    }
}
