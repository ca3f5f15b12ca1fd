//! The bits of a vCPU's control word. Pure: no atomics, no threads.
//!
//! ```text
//!  63            32 31     20 19    12 11            2 1   0
//! +----------------+---------+--------+---------------+-----+
//! |     epoch      |  stops  | kicks  |     flags     |phase|
//! +----------------+---------+--------+---------------+-----+
//!  \ grows with     \ pauses  \ signals                \ host, guest, idle, gone
//!    every release    that are  still on
//!                     held      their way
//! ```
//!
//! The rule that must never be broken: a vCPU leaves [`Phase::Idle`] only by one atomic step that sees
//! no stop and no other reason to stay out. Whoever reads "idle" together with a stop of its
//! own therefore knows that the vCPU is out of the guest and stays out until that stop is taken back.

use std::fmt;

/// Where a vCPU's thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// In user space: in an exit handler, or on its way into or out of the guest.
    Host,
    /// In the guest, or between the last look at the requests and the entry. Only here is it signalled.
    Guest,
    /// Out of the guest with no instruction half done, and not to enter while there is a reason to stay out.
    Idle,
    /// The thread has ended.
    Gone,
}

/// What an observer sees of a vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VcpuState {
    /// Runs guest code, or handles an exit.
    Running,
    /// Out of the guest for at least one pause.
    Paused,
    /// Its exit handler asked to be held until the next resume, and no pause is in force.
    Held,
    /// The guest halted it, and no event has come since. (With an in-kernel interrupt controller a halt
    /// stays in the kernel, and the vCPU reads as running.)
    Halted,
    /// Its thread has ended and will not run again.
    Exited,
    /// It cannot go on: see [`crate::VcpuThread::failure`]. It still serves `run_on`, and a reset revives it.
    Failed,
}

impl VcpuState {
    /// The state's name in lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Halted => "halted",
            Self::Exited => "exited",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for VcpuState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One value of a control word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub(crate) u64);

impl Word {
    /// The phases: host has no bit, gone has all, so that three of the four steps only set or clear.
    pub(crate) const PHASE: u64 = 0b11;
    pub(crate) const HOST: u64 = 0;
    pub(crate) const GUEST: u64 = 1;
    pub(crate) const IDLE: u64 = 2;
    pub(crate) const GONE: u64 = 3;

    /// A kick was sent in this stay in the guest: later requests need not send another.
    pub(crate) const KICKED: u64 = 1 << 2;
    /// Work is queued.
    pub(crate) const WORK: u64 = 1 << 3;
    /// An event (an interrupt, say) came since the vCPU last set out for the guest.
    pub(crate) const EVENT: u64 = 1 << 4;
    /// The thread is asked to end.
    pub(crate) const EXIT: u64 = 1 << 5;
    /// Held by its own exit handler.
    pub(crate) const HELD: u64 = 1 << 6;
    /// Halted by the guest.
    pub(crate) const HALTED: u64 = 1 << 7;
    /// Failed.
    pub(crate) const FAILED: u64 = 1 << 8;
    /// Somebody runs an exclusive section.
    pub(crate) const EXCLUSIVE: u64 = 1 << 9;
    /// The vCPU's own thread waits in `pause_all`.
    pub(crate) const PAUSER: u64 = 1 << 10;

    const KICKS_SHIFT: u32 = 12;
    pub(crate) const ONE_KICK: u64 = 1 << Self::KICKS_SHIFT;
    const KICKS_MAX: u64 = 0xff;
    const STOPS_SHIFT: u32 = 20;
    pub(crate) const ONE_STOP: u64 = 1 << Self::STOPS_SHIFT;
    const STOPS_MAX: u64 = 0xfff;
    const EPOCH_SHIFT: u32 = 32;

    /// Any of these keeps a vCPU out of the guest.
    const STAY_OUT: u64 = Self::WORK
        | Self::EXIT
        | Self::HELD
        | Self::HALTED
        | Self::FAILED
        | Self::EXCLUSIVE
        | (Self::STOPS_MAX << Self::STOPS_SHIFT);

    /// The word of a vCPU that is born with `stops` pauses in force, and into an exclusive section or not.
    pub(crate) const fn born(stops: u16, exclusive: bool) -> Self {
        let stops = (stops as u64 & Self::STOPS_MAX) << Self::STOPS_SHIFT;
        Self(Self::IDLE | stops | if exclusive { Self::EXCLUSIVE } else { 0 })
    }

    /// Where the thread is.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self.0 & Self::PHASE {
            Self::HOST => Phase::Host,
            Self::GUEST => Phase::Guest,
            Self::IDLE => Phase::Idle,
            _ => Phase::Gone,
        }
    }

    /// How many pauses are in force.
    #[must_use]
    pub const fn stops(self) -> u64 {
        (self.0 >> Self::STOPS_SHIFT) & Self::STOPS_MAX
    }

    /// How often the vCPU has been released: one more with every resume. Wraps.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> Self::EPOCH_SHIFT) as u32
    }

    /// What an observer sees.
    #[must_use]
    pub const fn state(self) -> VcpuState {
        let idle = matches!(self.phase(), Phase::Idle);
        if matches!(self.phase(), Phase::Gone) {
            VcpuState::Exited
        } else if self.has(Self::FAILED) {
            VcpuState::Failed
        } else if idle && self.stops() > 0 {
            VcpuState::Paused
        } else if idle && self.has(Self::HELD) {
            VcpuState::Held
        } else if self.has(Self::HALTED) {
            VcpuState::Halted
        } else {
            VcpuState::Running
        }
    }

    /// Whether the guest has halted this vCPU, paused or not.
    #[must_use]
    pub const fn is_halted(self) -> bool {
        self.has(Self::HALTED)
    }

    pub(crate) const fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(crate) const fn with(self, flags: u64) -> Self {
        Self(self.0 | flags)
    }

    pub(crate) const fn without(self, flags: u64) -> Self {
        Self(self.0 & !flags)
    }

    pub(crate) const fn in_phase(self, phase: u64) -> Self {
        Self((self.0 & !Self::PHASE) | phase)
    }

    pub(crate) const fn stays_out(self) -> bool {
        self.has(Self::STAY_OUT)
    }

    pub(crate) const fn kicks(self) -> u64 {
        (self.0 >> Self::KICKS_SHIFT) & Self::KICKS_MAX
    }

    pub(crate) const fn kicks_full(self) -> bool {
        self.kicks() == Self::KICKS_MAX
    }

    /// One stop more, or nothing when there is no room for it.
    pub(crate) const fn add_stop(self) -> Option<Self> {
        if self.stops() == Self::STOPS_MAX {
            return None;
        }
        Some(Self(self.0.wrapping_add(Self::ONE_STOP)))
    }

    /// One stop fewer, or the same word when there is none.
    pub(crate) const fn drop_stop(self) -> Self {
        if self.stops() == 0 {
            return self;
        }
        Self(self.0.wrapping_sub(Self::ONE_STOP))
    }

    /// Lets go of a hold, in a new epoch.
    pub(crate) const fn released(self) -> Self {
        Self(self.0.wrapping_add(1 << Self::EPOCH_SHIFT)).without(Self::HELD)
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(u64, &str); 9] = [
            (Word::KICKED, "kicked"),
            (Word::WORK, "work"),
            (Word::EVENT, "event"),
            (Word::EXIT, "exit"),
            (Word::HELD, "held"),
            (Word::HALTED, "halted"),
            (Word::FAILED, "failed"),
            (Word::EXCLUSIVE, "exclusive"),
            (Word::PAUSER, "pauser"),
        ];
        let (phase, stops, epoch) = (self.phase(), self.stops(), self.epoch());
        write!(f, "Word({phase:?} stops={stops} epoch={epoch}")?;
        for (flag, name) in NAMES {
            if self.has(flag) {
                write!(f, " {name}")?;
            }
        }
        f.write_str(")")
    }
}
