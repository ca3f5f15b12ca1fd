//! What is pending, as plain data: taken into a snapshot and put back from it.
//!
//! A request that arrives while a machine is being saved must not be lost: it goes with the
//! machine.

use core::fmt;

use runstate::RunState;

use crate::cause::{ShutdownCause, WakeupReason};
use crate::latch::{ShutdownRequest, Signal};
use crate::panic::{PanicInfo, pack, unpack};
use crate::requests::Requests;
use crate::sync::Ordering;

/// Everything that is pending at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RequestsState {
    /// A guest panic that was not served yet, with what the guest told.
    pub panicked: Option<Option<PanicInfo>>,
    /// A loaded crash kernel that was not announced yet.
    pub crashloaded: Option<Option<PanicInfo>>,
    /// A suspend to disk that was not announced yet.
    pub suspend_disk: bool,
    /// A shutdown asked for through pvpanic that was not announced yet.
    pub pvshutdown: bool,
    /// An expired watchdog that was not acted on yet.
    pub watchdog: bool,
    /// A stop in the state `debug`.
    pub debug: bool,
    /// A suspend.
    pub suspend: bool,
    /// A shutdown.
    pub shutdown: Option<ShutdownRequest>,
    /// A signal that was not reported yet.
    pub signal: Option<Signal>,
    /// A reset.
    pub reset: Option<ShutdownCause>,
    /// A wakeup.
    pub wakeup: Option<WakeupReason>,
    /// The power button.
    pub powerdown: bool,
    /// A stop.
    pub vmstop: Option<RunState>,
}

/// The bytes are not those of a saved [`RequestsState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The number of bytes is not [`RequestsState::ENCODED_LEN`].
    Length(usize),
    /// The format's version is unknown.
    Version(u8),
    /// A field holds what no field of this kind can hold. The field's name.
    Field(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => write!(
                f,
                "saved requests have {} bytes, not {length}",
                RequestsState::ENCODED_LEN
            ),
            Self::Version(version) => write!(
                f,
                "saved requests of version {version}: only version {VERSION} is known"
            ),
            Self::Field(name) => write!(f, "saved requests: the field {name} is not valid"),
        }
    }
}

impl core::error::Error for DecodeError {}

const VERSION: u8 = 1;
const DEBUG: u64 = 1;
const SUSPEND: u64 = 2;
const POWERDOWN: u64 = 4;
const PANICKED: u64 = 8;
const CRASHLOADED: u64 = 16;
const SUSPEND_DISK: u64 = 32;
const PVSHUTDOWN: u64 = 64;
const WATCHDOG: u64 = 128;
const FLAGS: u64 = 255;
const WORDS: usize = 18;

impl RequestsState {
    /// The length of the encoded form, in bytes.
    pub const ENCODED_LEN: usize = 1 + WORDS * 8;

    /// As bytes: a version, then little-endian 64-bit words.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let flags = flag(self.debug, DEBUG)
            | flag(self.suspend, SUSPEND)
            | flag(self.suspend_disk, SUSPEND_DISK)
            | flag(self.pvshutdown, PVSHUTDOWN)
            | flag(self.watchdog, WATCHDOG)
            | flag(self.powerdown, POWERDOWN)
            | flag(self.panicked.is_some(), PANICKED)
            | flag(self.crashloaded.is_some(), CRASHLOADED);
        let head = [
            flags,
            self.shutdown.map_or(0, ShutdownRequest::to_word),
            self.signal
                .map_or(0, |s| (u64::from(s.pid) << 32) | u64::from(s.number)),
            self.reset.map_or(0, |cause| u64::from(cause.index())),
            self.wakeup.map_or(0, |reason| u64::from(reason.index())),
            self.vmstop
                .map_or(0, |state| (state as u64).saturating_add(1)),
        ];
        let panicked = pack(self.panicked.flatten());
        let crashloaded = pack(self.crashloaded.flatten());
        let words = head.into_iter().chain(panicked).chain(crashloaded);
        let mut bytes = [0; Self::ENCODED_LEN];
        let (version, body) = bytes.split_at_mut(1);
        version.fill(VERSION);
        for (chunk, word) in body.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From bytes, which need not be trusted.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let length = DecodeError::Length(bytes.len());
        if bytes.len() != Self::ENCODED_LEN {
            return Err(length);
        }
        let (version, body) = bytes.split_first().ok_or(length)?;
        if *version != VERSION {
            return Err(DecodeError::Version(*version));
        }
        let mut words = [0; WORDS];
        for (word, chunk) in words.iter_mut().zip(body.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().map_err(|_| length)?);
        }
        let [flags, shutdown, signal, reset, wakeup, vmstop, rest @ ..] = words;
        let [p0, p1, p2, p3, p4, p5, c0, c1, c2, c3, c4, c5] = rest;
        if flags & !FLAGS != 0 {
            return Err(DecodeError::Field("flags"));
        }
        Ok(Self {
            panicked: report(flags & PANICKED, [p0, p1, p2, p3, p4, p5], "panicked")?,
            crashloaded: report(flags & CRASHLOADED, [c0, c1, c2, c3, c4, c5], "crashloaded")?,
            suspend_disk: flags & SUSPEND_DISK != 0,
            pvshutdown: flags & PVSHUTDOWN != 0,
            watchdog: flags & WATCHDOG != 0,
            debug: flags & DEBUG != 0,
            suspend: flags & SUSPEND != 0,
            shutdown: optional(shutdown, "shutdown", |word| {
                ShutdownRequest::from_word(word).filter(|request| request.to_word() == word)
            })?,
            signal: optional(signal, "signal", |word| {
                Some(Signal {
                    number: u32::try_from(word & u64::from(u32::MAX))
                        .ok()
                        .filter(|number| *number != 0)?,
                    pid: u32::try_from(word >> 32).ok()?,
                })
            })?,
            reset: optional(reset, "reset", |word| {
                ShutdownCause::from_index(u8::try_from(word).ok()?)
            })?,
            wakeup: optional(wakeup, "wakeup", |word| {
                WakeupReason::from_index(u8::try_from(word).ok()?)
            })?,
            powerdown: flags & POWERDOWN != 0,
            vmstop: optional(vmstop, "vmstop", |word| {
                RunState::ALL
                    .get(usize::try_from(word.checked_sub(1)?).ok()?)
                    .copied()
            })?,
        })
    }
}

/// 0 is nothing; anything else must decode.
fn optional<T>(
    word: u64,
    name: &'static str,
    decode: impl Fn(u64) -> Option<T>,
) -> Result<Option<T>, DecodeError> {
    if word == 0 {
        return Ok(None);
    }
    decode(word).map(Some).ok_or(DecodeError::Field(name))
}

fn report(
    flag: u64,
    words: [u64; 6],
    name: &'static str,
) -> Result<Option<Option<PanicInfo>>, DecodeError> {
    let info = unpack(words);
    if pack(info) != words || (flag == 0 && info.is_some()) {
        return Err(DecodeError::Field(name));
    }
    Ok((flag != 0).then_some(info))
}

impl Requests {
    /// What is pending now. Nothing is taken.
    #[must_use]
    pub fn snapshot(&self) -> RequestsState {
        let some = |cause| (cause != ShutdownCause::None).then_some(cause);
        let woken = |reason| (reason != WakeupReason::None).then_some(reason);
        RequestsState {
            panicked: self.panicked.peek(),
            crashloaded: self.crashloaded.peek(),
            suspend_disk: self.suspend_disk.load(Ordering::Acquire),
            pvshutdown: self.pvshutdown.load(Ordering::Acquire),
            watchdog: self.watchdog.load(Ordering::Acquire),
            debug: self.debug.load(Ordering::Acquire),
            suspend: self.suspend.load(Ordering::Acquire),
            shutdown: self.shutdown.peek(),
            signal: self.signal.peek(),
            reset: some(self.reset_pending()),
            wakeup: woken(self.wakeup_pending()),
            powerdown: self.powerdown.load(Ordering::Acquire),
            vmstop: self.vmstop.peek(),
        }
    }

    /// Puts saved requests back: each latch becomes what it was. For a machine that does not run
    /// yet; a request posted meanwhile on another thread may be lost.
    pub fn restore(&self, saved: &RequestsState) {
        self.panicked.take();
        if let Some(info) = saved.panicked {
            self.panicked.post(info);
        }
        self.crashloaded.take();
        if let Some(info) = saved.crashloaded {
            self.crashloaded.post(info);
        }
        self.suspend_disk
            .store(saved.suspend_disk, Ordering::Release);
        self.pvshutdown.store(saved.pvshutdown, Ordering::Release);
        self.watchdog.store(saved.watchdog, Ordering::Release);
        self.debug.store(saved.debug, Ordering::Release);
        self.suspend.store(saved.suspend, Ordering::Release);
        let nothing = ShutdownRequest::new(ShutdownCause::None);
        self.shutdown.replace(saved.shutdown.unwrap_or(nothing));
        let no_signal = Signal { number: 0, pid: 0 };
        self.signal.replace(saved.signal.unwrap_or(no_signal));
        let reset = saved.reset.unwrap_or(ShutdownCause::None);
        self.reset.store(reset.index(), Ordering::Release);
        let wakeup = saved.wakeup.unwrap_or(WakeupReason::None);
        self.wakeup.store(wakeup.index(), Ordering::Release);
        self.powerdown.store(saved.powerdown, Ordering::Release);
        self.vmstop.take();
        if let Some(state) = saved.vmstop {
            self.vmstop.replace(state);
        }
        self.kick_wakeup();
    }
}
