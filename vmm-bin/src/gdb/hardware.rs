//! Hardware breakpoints and watchpoints: the four debug registers.
//!
//! Source: Intel SDM volume 3, section 18.2 (debug registers).

use gdbstub::target::ext::breakpoints::WatchKind;

use super::software::Refusal;

/// What a debug register is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An instruction at this linear address.
    Execute(u64),
    /// Accesses to this region; 1 to 8 bytes of it are this register's.
    Watch {
        /// Where it begins, linear.
        address: u64,
        /// Its size in bytes.
        length: u64,
        /// Which accesses.
        kind: WatchKind,
    },
}

/// One debug register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Register {
    purpose: Purpose,
    address: u64,
    /// 1, 2, 4 or 8; 1 for an instruction.
    length: u64,
}

/// The four debug registers.
#[derive(Debug, Default)]
pub(super) struct Hardware([Option<Register>; 4]);

/// DR7: bit 10 is always set; exact breakpoints, as QEMU asks for them.
const DR7: u64 = 0x600;

impl Hardware {
    /// Takes as many registers as `purpose` needs: a region that is not aligned needs several. That it
    /// is there already is no error.
    pub(super) fn add(&mut self, purpose: Purpose) -> Result<(), Refusal> {
        if self.0.iter().flatten().any(|used| used.purpose == purpose) {
            return Ok(());
        }
        let pieces = pieces(purpose).ok_or(Refusal::Full)?;
        let free = self.0.iter().filter(|register| register.is_none()).count();
        if pieces.len() > free {
            return Err(Refusal::Full);
        }
        let mut free = self.0.iter_mut().filter(|register| register.is_none());
        for (address, length) in pieces {
            if let Some(register) = free.next() {
                *register = Some(Register {
                    purpose,
                    address,
                    length,
                });
            }
        }
        Ok(())
    }

    /// Gives the registers back; `false` if there are none for this purpose.
    pub(super) fn remove(&mut self, purpose: Purpose) -> bool {
        let mut found = false;
        for register in &mut self.0 {
            if register.is_some_and(|used| used.purpose == purpose) {
                *register = None;
                found = true;
            }
        }
        found
    }

    /// Whether a register is for this.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.0.iter().flatten().any(|used| used.purpose == purpose)
    }

    /// What the registers that this DR6 names are for, the first of them.
    pub(super) fn hit(&self, dr6: u64) -> Option<Purpose> {
        let named = (0..).zip(&self.0).find_map(|(number, register): (u32, _)| {
            let hit = dr6.checked_shr(number).unwrap_or(0) & 1 == 1;
            register.filter(|_| hit)
        });
        named.map(|register| register.purpose)
    }

    /// DR0 to DR3, and DR7; `None` if none is in use.
    pub(super) fn values(&self) -> Option<([u64; 4], u64)> {
        if self.0.iter().all(Option::is_none) {
            return None;
        }
        let addresses = self.0.map(|used| used.map_or(0, |used| used.address));
        // Two bits for each, the upper one enables it; and from bit 16 on four with its condition.
        let places = (0..8).step_by(2).zip((16..32).step_by(4));
        let control = places
            .zip(self.0)
            .fold(DR7, |dr7, ((enable, condition), register)| {
                register.map_or(dr7, |register| {
                    dr7 | 2 << enable | register.condition() << condition
                })
            });
        Some((addresses, control))
    }
}

impl Register {
    /// Four bits: when to break, and the length.
    fn condition(&self) -> u64 {
        let when = match self.purpose {
            Purpose::Execute(_) => return 0,
            Purpose::Watch {
                kind: WatchKind::Write,
                ..
            } => 1,
            Purpose::Watch { .. } => 3,
        };
        let length = match self.length {
            1 => 0,
            2 => 1,
            4 => 3,
            _ => 2,
        };
        when | length << 2
    }
}

/// Address and length for each register that this needs; `None` if four are not enough.
fn pieces(purpose: Purpose) -> Option<Vec<(u64, u64)>> {
    let (mut address, length) = match purpose {
        Purpose::Execute(address) => return Some(vec![(address, 1)]),
        Purpose::Watch {
            address, length, ..
        } => (address, length),
    };
    if !(1..=32).contains(&length) {
        return None;
    }
    let end = address.checked_add(length)?;
    let mut pieces = Vec::new();
    while address < end {
        let left = end.saturating_sub(address);
        let fits = |size: &u64| *size <= left && address.is_multiple_of(*size);
        let size = [8, 4, 2, 1].into_iter().find(fits)?;
        pieces.push((address, size));
        address = address.saturating_add(size);
    }
    (pieces.len() <= 4).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(address: u64, length: u64, kind: WatchKind) -> Purpose {
        Purpose::Watch {
            address,
            length,
            kind,
        }
    }

    #[test]
    fn debug_registers_are_those_of_the_manual() {
        let mut hardware = Hardware::default();
        assert_eq!(hardware.values(), None);
        hardware.add(Purpose::Execute(0x10)).unwrap();
        hardware.add(watch(0x20, 4, WatchKind::Write)).unwrap();
        hardware.add(watch(0x30, 8, WatchKind::ReadWrite)).unwrap();
        let (addresses, dr7) = hardware.values().unwrap();
        assert_eq!(addresses, [0x10, 0x20, 0x30, 0]);
        assert_eq!(dr7, 0x600 | 0b10_1010 | 0b1101 << 20 | 0b1011 << 24);
        assert_eq!(hardware.hit(0xffff_0ff1), Some(Purpose::Execute(0x10)));
        assert_eq!(hardware.hit(0b1000), None);
    }

    #[test]
    fn a_region_that_is_not_aligned_takes_several_registers() {
        let mut hardware = Hardware::default();
        let region = watch(0x1003, 8, WatchKind::Write);
        assert_eq!(
            pieces(region),
            Some(vec![(0x1003, 1), (0x1004, 4), (0x1008, 2), (0x100a, 1)])
        );
        hardware.add(region).unwrap();
        hardware.add(region).unwrap();
        assert_eq!(hardware.add(Purpose::Execute(0)), Err(Refusal::Full));
        assert_eq!(hardware.hit(0b100), Some(region));
        assert!(hardware.remove(region));
        assert!(!hardware.remove(region));
        assert_eq!(hardware.values(), None);
        for impossible in [
            watch(0, 0, WatchKind::Write),
            watch(0, 33, WatchKind::Write),
            watch(1, 32, WatchKind::Write),
            watch(u64::MAX, 8, WatchKind::Write),
            watch(0, u64::MAX, WatchKind::Write),
        ] {
            assert_eq!(hardware.add(impossible), Err(Refusal::Full));
        }
    }
}
