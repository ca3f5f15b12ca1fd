//! Guest panics: what the guest said of it, how a vCPU thread hands that to the main loop, and
//! what the policy makes of it.
//!
//! ```text
//!          post (any thread)              take (main loop)
//!  EMPTY ───────────────────▶ WRITING ──▶ READY ───────────▶ EMPTY
//! ```
//!
//! The rule that must never be broken: a post that finds the slot in use goes without its
//! information. It never waits, and a guest that panics in a loop makes nothing grow. Whoever only looks sees what one post
//! said, and never parts of two: each post has a number.

use core::fmt;

use crate::names::qapi_enum;
use crate::policy::{Actions, PanicAction, ShutdownAction};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

qapi_enum! {
    /// What is done about a guest panic: a member of its event (QEMU, `GuestPanicAction`).
    "guest panic action"
    pub enum GuestPanicAction {
        /// The machine stops.
        Pause = "pause",
        /// The machine is shut down.
        Poweroff = "poweroff",
        /// The guest goes on.
        Run = "run",
    }
}

qapi_enum! {
    /// Why an s390 guest crashed (QEMU, `S390CrashReason`).
    "s390 crash reason"
    pub enum S390CrashReason {
        /// No crash reason was given.
        Unknown = "unknown",
        /// Disabled wait.
        DisabledWait = "disabled-wait",
        /// External interrupt loop.
        ExtintLoop = "extint-loop",
        /// Program check loop.
        PgmintLoop = "pgmint-loop",
        /// Operation exception loop.
        OpintLoop = "opint-loop",
    }
}

/// What a guest told about its panic (QEMU, `GuestPanicInformation`).
///
/// `Display` is the text for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicInfo {
    /// The five Hyper-V crash registers, `arg1` to `arg5`.
    HyperV([u64; 5]),
    /// The crash information of s390.
    S390 {
        /// The core that crashed.
        core: u32,
        /// Its program status word's mask.
        psw_mask: u64,
        /// Its program status word's address.
        psw_addr: u64,
        /// Why.
        reason: S390CrashReason,
    },
}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HyperV(args) => {
                f.write_str("Hyper-V crash parameters:")?;
                args.iter().try_for_each(|arg| write!(f, " {arg:#x}"))
            }
            Self::S390 {
                core,
                psw_mask,
                psw_addr,
                reason,
            } => write!(
                f,
                "s390 core {core}, psw {psw_mask:#018x} {psw_addr:#018x}, {reason}"
            ),
        }
    }
}

/// What is to be done about a panic: a pure function of the policy.
///
/// A panic that ends in a pause is a plain pause also when that is the *shutdown* action.
#[must_use]
pub const fn panic_action(actions: Actions) -> GuestPanicAction {
    match (actions.panic, actions.shutdown) {
        (PanicAction::None, _) => GuestPanicAction::Run,
        (PanicAction::Pause, _) | (PanicAction::Shutdown, ShutdownAction::Pause) => {
            GuestPanicAction::Pause
        }
        (PanicAction::Shutdown, ShutdownAction::Poweroff) | (PanicAction::ExitFailure, _) => {
            GuestPanicAction::Poweroff
        }
    }
}

/// Where the slot is, in the low bits of its state; above them the number of the post.
const PLACE: u32 = 3;
const EMPTY: u32 = 0;
const WRITING: u32 = 1;
const READY: u32 = 2;
const NUMBER: u32 = 4;

const KIND_NONE: u64 = 0;
const KIND_HYPER_V: u64 = 1;
const KIND_S390: u64 = 2;

/// One pending report of a guest, with what the guest told. Any number of posters, one taker.
#[derive(Debug, Default)]
pub(crate) struct PanicLatch {
    state: AtomicU32,
    words: [AtomicU64; 6],
}

impl PanicLatch {
    /// Posts. `false`: one was pending already, which now stands for both.
    pub(crate) fn post(&self, info: Option<PanicInfo>) -> bool {
        let claim = |state: u32| {
            (state & PLACE == EMPTY).then_some((state & !PLACE).wrapping_add(NUMBER) | WRITING)
        };
        let Ok(empty) = self
            .state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, claim)
        else {
            return false;
        };
        for (slot, word) in self.words.iter().zip(pack(info)) {
            // Who sees this word sees the claim, too.
            slot.store(word, Ordering::Release);
        }
        let ready = (empty & !PLACE).wrapping_add(NUMBER) | READY;
        self.state.store(ready, Ordering::Release);
        true
    }

    /// What is pending, left where it is. Begins again when it was taken meanwhile, and another post came.
    pub(crate) fn peek(&self) -> Option<Option<PanicInfo>> {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & PLACE != READY {
                return None;
            }
            let mut words = [0; 6];
            for (word, slot) in words.iter_mut().zip(&self.words) {
                *word = slot.load(Ordering::Acquire);
            }
            let now = self.state.load(Ordering::Relaxed);
            if now & !PLACE == state & !PLACE {
                return Some(unpack(words));
            }
        }
    }

    /// Takes what is pending. For the one taker.
    pub(crate) fn take(&self) -> Option<Option<PanicInfo>> {
        let pending = self.peek();
        if pending.is_some() {
            self.state.fetch_and(!PLACE, Ordering::Release);
        }
        pending
    }
}

pub(crate) fn pack(info: Option<PanicInfo>) -> [u64; 6] {
    match info {
        None => [KIND_NONE, 0, 0, 0, 0, 0],
        Some(PanicInfo::HyperV([a, b, c, d, e])) => [KIND_HYPER_V, a, b, c, d, e],
        Some(PanicInfo::S390 {
            core,
            psw_mask,
            psw_addr,
            reason,
        }) => [
            KIND_S390,
            u64::from(core),
            psw_mask,
            psw_addr,
            u64::from(reason.index()),
            0,
        ],
    }
}

/// The inverse of [`pack`]. Words that no `pack` made read as no information.
pub(crate) fn unpack(words: [u64; 6]) -> Option<PanicInfo> {
    let [kind, a, b, c, d, e] = words;
    match kind {
        KIND_HYPER_V => Some(PanicInfo::HyperV([a, b, c, d, e])),
        KIND_S390 => Some(PanicInfo::S390 {
            core: u32::try_from(a).ok()?,
            psw_mask: b,
            psw_addr: c,
            reason: S390CrashReason::from_index(u8::try_from(d).ok()?)?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_survives_the_latch() {
        let latch = PanicLatch::default();
        let infos = [
            None,
            Some(PanicInfo::HyperV([1, 2, 3, 4, u64::MAX])),
            Some(PanicInfo::S390 {
                core: 3,
                psw_mask: 4,
                psw_addr: 5,
                reason: S390CrashReason::OpintLoop,
            }),
        ];
        for info in infos {
            assert!(latch.post(info));
            assert!(!latch.post(None), "the first one stands");
            assert_eq!(latch.take(), Some(info));
            assert_eq!(latch.take(), None);
        }
    }
}
