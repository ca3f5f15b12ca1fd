//! The latches that hold more than a flag, each in one atomic word.
//!
//! The rule that must never be broken: what belongs to a request (its exit code, that it powers
//! off) is in the same word as the request. Nothing of it outlives it.

use runstate::RunState;

use crate::cause::ShutdownCause;
use crate::sync::{AtomicU8, AtomicU64, Ordering};

/// A shutdown that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ShutdownRequest {
    /// Why.
    pub cause: ShutdownCause,
    /// The exit code that the guest gave.
    pub exit_code: Option<i32>,
    /// The process ends, whatever the shutdown action is.
    pub poweroff: bool,
    /// It was a reset, of vCPUs that cannot be reset, and nobody has been told yet.
    pub not_resettable: bool,
}

impl ShutdownRequest {
    /// A request with this cause, and nothing else.
    #[must_use]
    pub const fn new(cause: ShutdownCause) -> Self {
        Self {
            cause,
            exit_code: None,
            poweroff: false,
            not_resettable: false,
        }
    }

    const CAUSE: u64 = 0xff;
    const HAS_CODE: u64 = 1 << 8;
    const POWEROFF: u64 = 1 << 9;
    const NOT_RESETTABLE: u64 = 1 << 10;
    const CODE_SHIFT: u32 = 32;

    pub(crate) fn to_word(self) -> u64 {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        u64::from(self.cause.index())
            | flag(self.poweroff, Self::POWEROFF)
            | flag(self.not_resettable, Self::NOT_RESETTABLE)
            | self.exit_code.map_or(0, |code| {
                Self::HAS_CODE | (u64::from(code.cast_unsigned()) << Self::CODE_SHIFT)
            })
    }

    /// `None`: nothing is requested. A cause that does not exist reads as nothing.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let cause = ShutdownCause::from_index(u8::try_from(word & Self::CAUSE).ok()?)?;
        let code = u32::try_from(word >> Self::CODE_SHIFT).ok()?;
        (cause != ShutdownCause::None).then_some(Self {
            cause,
            exit_code: (word & Self::HAS_CODE != 0).then_some(code.cast_signed()),
            poweroff: word & Self::POWEROFF != 0,
            not_resettable: word & Self::NOT_RESETTABLE != 0,
        })
    }
}

/// The pending shutdown. 0 is none.
#[derive(Debug, Default)]
pub(crate) struct ShutdownLatch(AtomicU64);

impl ShutdownLatch {
    /// The last one stands. A request without a cause takes a pending one back.
    pub(crate) fn replace(&self, request: ShutdownRequest) {
        let word = if request.cause == ShutdownCause::None {
            0
        } else {
            request.to_word()
        };
        self.0.store(word, Ordering::Release);
    }

    /// The first one stands, and what a later one insists on is added to it.
    pub(crate) fn merge(&self, request: ShutdownRequest) {
        if request.cause == ShutdownCause::None {
            return;
        }
        let merged = |word: u64| {
            let word = match ShutdownRequest::from_word(word) {
                None => request.to_word(),
                Some(first) => ShutdownRequest {
                    poweroff: first.poweroff || request.poweroff,
                    not_resettable: first.not_resettable || request.not_resettable,
                    ..first
                }
                .to_word(),
            };
            Some(word)
        };
        // The closure never refuses.
        let _always_ok = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, merged);
    }

    pub(crate) fn peek(&self) -> Option<ShutdownRequest> {
        ShutdownRequest::from_word(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn take(&self) -> Option<ShutdownRequest> {
        ShutdownRequest::from_word(self.0.swap(0, Ordering::AcqRel))
    }
}

/// A terminating signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal {
    /// Its number, not 0.
    pub number: u32,
    /// The sender's process, 0 when unknown (a key on the terminal).
    pub pid: u32,
}

impl Signal {
    /// The line for the error log, as QEMU's. `sender` is what the process of the sender is
    /// called: [`sender_name`](Self::sender_name), or whatever else tells.
    #[must_use]
    pub fn report(self, sender: Option<&str>) -> String {
        match self {
            Self { number, pid: 0 } => format!("terminating on signal {number}"),
            Self { number, pid } => {
                let name = sender.unwrap_or("<unknown process>");
                format!("terminating on signal {number} from pid {pid} ({name})")
            }
        }
    }

    /// What the sender's process is called: the first word of its command line, from `/proc`.
    /// `None`: it is unknown, or gone. Reads a file: not for signal handlers.
    #[must_use]
    pub fn sender_name(self) -> Option<String> {
        if self.pid == 0 {
            return None;
        }
        let line = std::fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let name = line.split(|byte| *byte == 0).next()?;
        (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
    }
}

/// The signal to report. Number 0 is none.
#[derive(Debug, Default)]
pub(crate) struct SignalLatch(AtomicU64);

impl SignalLatch {
    pub(crate) fn replace(&self, signal: Signal) {
        self.0.store(to_word(signal), Ordering::Release);
    }

    pub(crate) fn keep_first(&self, signal: Signal) {
        let _first_stands =
            self.0
                .compare_exchange(0, to_word(signal), Ordering::AcqRel, Ordering::Acquire);
    }

    pub(crate) fn peek(&self) -> Option<Signal> {
        from_word(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn take(&self) -> Option<Signal> {
        from_word(self.0.swap(0, Ordering::AcqRel))
    }
}

fn to_word(signal: Signal) -> u64 {
    (u64::from(signal.pid) << 32) | u64::from(signal.number)
}

fn from_word(word: u64) -> Option<Signal> {
    let number = u32::try_from(word & u64::from(u32::MAX)).ok()?;
    let pid = u32::try_from(word >> 32).ok()?;
    (number != 0).then_some(Signal { number, pid })
}

/// A pending stop: 0 is none, else the state's position and one.
#[derive(Debug, Default)]
pub(crate) struct StateLatch(AtomicU8);

impl StateLatch {
    pub(crate) fn replace(&self, state: RunState) {
        self.0.store(code(state), Ordering::Release);
    }

    /// The first one stands, except that one which `outranks` replaces one that does not.
    pub(crate) fn merge(&self, state: RunState, outranks: impl Fn(RunState) -> bool) {
        let merged = |word: u8| match decode(word) {
            Some(first) if outranks(first) || !outranks(state) => None,
            _ => Some(code(state)),
        };
        // Err: the pending one stands.
        let _stands = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, merged);
    }

    pub(crate) fn peek(&self) -> Option<RunState> {
        decode(self.0.load(Ordering::Acquire))
    }

    pub(crate) fn take(&self) -> Option<RunState> {
        decode(self.0.swap(0, Ordering::AcqRel))
    }
}

fn code(state: RunState) -> u8 {
    (state as u8).saturating_add(1)
}

fn decode(word: u8) -> Option<RunState> {
    let index = usize::from(word.checked_sub(1)?);
    RunState::ALL.get(index).copied()
}
