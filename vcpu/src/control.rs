//! The kick protocol: one control word per vCPU, and every step that either side may take on it.
//!
//! ```text
//!              enter (nothing to stay out for)
//!         +------------------------------------------+
//!         |                                          v
//!      +------+        park         +------+      +-------+
//!      | idle | <------------------ | host | ---> | guest |
//!      +------+   (I/O completed)   +------+      +-------+
//!         |                            |  ^           |
//!         |  end                   end |  +-----------+
//!         |        +------+            |       leave
//!         +------> | gone | <----------+
//!                  +------+
//!
//!  requester                            vCPU
//!  ---------                            ----
//!  publish in the word   (release)      immediate_exit = 0
//!  immediate_exit = 1                   look at the word and enter (one step)
//!  signal, if it was in the guest       KVM_RUN
//! ```
//!
//! The rule that must never be broken: the vCPU clears `immediate_exit` **before** it looks. A request
//! that the look missed was published after it, so its `immediate_exit = 1` comes after the clearing,
//! and `KVM_RUN` returns at once.
//!
//! Nothing here needs sequential consistency: each side changes the same word by read-modify-write steps,
//! which are totally ordered, and acquire and release carry the rest.

use std::time::Instant;

use crate::sync::{AtomicU64, Futex, Ordering, passed, yield_now};
use crate::word::{Phase, Word};

/// What a vCPU is asked for when it may not enter the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// End the thread.
    Exit,
    /// Serve the queued work, then look again.
    Work,
    /// Stay out: park, then sleep until something changes.
    StayOut,
}

/// One vCPU's control word. `&self` everywhere; no step takes a lock.
///
/// Methods named `request_*` and `release_*` are for any thread. [`ControlWord::try_enter`], `leave`, `park`,
/// `hold`, `halt`, `fail`, `take_work`, `sleep` and `end` are for the vCPU's own thread.
#[derive(Debug)]
pub struct ControlWord {
    word: AtomicU64,
    futex: Futex,
}

impl ControlWord {
    /// A vCPU that is out of the guest, with `stops` pauses in force (at most 4095).
    #[must_use]
    pub fn new(stops: u16, exclusive: bool) -> Self {
        Self {
            word: AtomicU64::new(Word::born(stops, exclusive).0),
            futex: Futex::new(),
        }
    }

    /// A seeded bug for the models: it wakes one sleeper where all must wake.
    #[cfg(any(loom, shuttle))]
    #[must_use]
    pub fn waking_one(stops: u16) -> Self {
        Self {
            futex: Futex::waking_one(),
            ..Self::new(stops, false)
        }
    }

    /// The raw word, for the models' seeded bugs.
    #[cfg(any(loom, shuttle))]
    pub fn raw(&self) -> &AtomicU64 {
        &self.word
    }

    /// The word now. One atomic load.
    #[must_use]
    pub fn load(&self) -> Word {
        #[cfg(loom)]
        return Word(self.word.fetch_or(0, Ordering::AcqRel));
        #[cfg(not(loom))]
        Word(self.word.load(Ordering::Acquire))
    }

    // --- Any thread: requests ---

    /// Publishes `change`; kicks if, and only if, the vCPU was in the guest and nobody has kicked it in this stay.
    /// `change` returns nothing when the request does not apply; then nothing happens.
    ///
    /// A kick that is under way is counted in the word, and [`ControlWord::end`] waits for it: no
    /// signal is sent to a thread that has ended.
    fn request(&self, change: impl Fn(Word) -> Option<Word>, kick: impl FnOnce()) -> Option<Word> {
        let mut seen = self.load();
        let next = loop {
            let mut next = change(seen)?;
            let kicks = seen.phase() == Phase::Guest && !seen.has(Word::KICKED);
            if kicks && seen.kicks_full() {
                // 255 requesters, each between its publication and its signal.
                yield_now();
                seen = self.load();
                continue;
            }
            if kicks {
                next = Word(next.with(Word::KICKED).0.wrapping_add(Word::ONE_KICK));
            }
            match self.replace(seen, next) {
                Ok(()) if kicks => {
                    let _sent = KickSent(&self.word);
                    kick();
                    break next;
                }
                Ok(()) => break next,
                Err(now) => seen = now,
            }
        };
        Some(next)
    }

    /// Asks for one pause more. `false`: 4095 are in force already, and nothing was done.
    #[must_use]
    pub fn request_stop(&self, kick: impl FnOnce()) -> bool {
        self.request(Word::add_stop, kick).is_some()
    }

    /// Takes one pause back. The last one lets go of a hold too, and the vCPU runs on.
    pub fn release_stop(&self) {
        self.release(|word| {
            let word = word.drop_stop();
            if word.stops() == 0 {
                word.released()
            } else {
                word
            }
        });
    }

    /// Takes back a pause that did not come about: holds stay.
    pub fn cancel_stop(&self) {
        self.release(Word::drop_stop);
    }

    /// Lets go of a hold, now or (if the exit handler is about to ask for one) beforehand.
    pub fn release_hold(&self) {
        self.release(Word::released);
    }

    /// Says that work is queued.
    pub fn request_work(&self, kick: impl FnOnce()) {
        self.request_flag(Word::WORK, kick);
    }

    /// Asks the thread to end.
    pub fn request_exit(&self, kick: impl FnOnce()) {
        self.request_flag(Word::EXIT, kick);
    }

    /// Withdraws the wish that the thread end. `false`: too late.
    #[must_use]
    pub fn cancel_exit(&self) -> bool {
        let changed =
            self.update(|word| (word.phase() != Phase::Gone).then(|| word.without(Word::EXIT)));
        changed.is_some()
    }

    /// Keeps the vCPU out of the guest for an exclusive section.
    pub fn request_exclusive(&self, kick: impl FnOnce()) {
        self.request_flag(Word::EXCLUSIVE, kick);
    }

    /// Ends the exclusive section.
    pub fn release_exclusive(&self) {
        self.release(|word| word.without(Word::EXCLUSIVE));
    }

    /// Says that an event for the guest has come: a halted vCPU runs on, one in the guest comes out and in again.
    pub fn notify(&self, kick: impl FnOnce()) {
        let wake = |word: Word| Some(word.with(Word::EVENT).without(Word::HALTED));
        if self
            .request(wake, kick)
            .is_some_and(|word| word.phase() == Phase::Idle)
        {
            self.futex.wake_all(&self.word);
        }
    }

    /// Makes a failed or halted vCPU able to run again.
    pub fn recover(&self) {
        self.release(|word| word.without(Word::FAILED | Word::HALTED | Word::EVENT));
    }

    fn request_flag(&self, flag: u64, kick: impl FnOnce()) {
        if self
            .request(|word| Some(word.with(flag)), kick)
            .is_some_and(|word| word.phase() == Phase::Idle)
        {
            self.futex.wake_all(&self.word);
        }
    }

    fn release(&self, change: impl Fn(Word) -> Word) {
        if let Some(word) = self.update(|word| Some(change(word)))
            && word.phase() == Phase::Idle
            && (!word.stays_out() || word.has(Word::WORK | Word::EXIT))
        {
            self.futex.wake_all(&self.word);
        }
    }

    // --- Any thread: waits. None takes a lock; none must be called with one that the vCPU may want. ---

    /// Waits until the vCPU is accounted for as stopped. The caller has a stop of its own in the word.
    ///
    /// # Errors
    /// The word at the deadline, when the vCPU is neither idle nor gone by then.
    pub fn wait_stopped(&self, by_vcpu: bool, deadline: Option<Instant>) -> Result<Word, Word> {
        self.wait_until(deadline, |word| {
            matches!(word.phase(), Phase::Idle | Phase::Gone) || by_vcpu && word.has(Word::PAUSER)
        })
    }

    /// Waits until the vCPU is out of the guest.
    ///
    /// # Errors
    /// The word at the deadline.
    pub fn wait_outside(&self, deadline: Option<Instant>) -> Result<Word, Word> {
        self.wait_until(deadline, |word| word.phase() != Phase::Guest)
    }

    /// Waits until the thread has ended.
    ///
    /// # Errors
    /// The word at the deadline.
    pub fn wait_gone(&self, deadline: Option<Instant>) -> Result<Word, Word> {
        self.wait_until(deadline, |word| word.phase() == Phase::Gone)
    }

    fn wait_until(
        &self,
        deadline: Option<Instant>,
        done: impl Fn(Word) -> bool,
    ) -> Result<Word, Word> {
        loop {
            let word = self.load();
            if done(word) {
                return Ok(word);
            }
            if passed(deadline) {
                return Err(word);
            }
            self.futex.wait(&self.word, word.0, deadline);
        }
    }

    // --- The vCPU's own thread ---

    /// Looks at the requests and, if there are none, enters: one step. Call it **after** the kicker was rearmed.
    ///
    /// # Errors
    /// What the vCPU is asked for instead.
    pub fn try_enter(&self) -> Result<u32, Refusal> {
        let entered = self.update(|word| {
            let ready = word
                .without(Word::KICKED | Word::EVENT)
                .in_phase(Word::GUEST);
            (!word.stays_out()).then_some(ready)
        });
        if let Some(word) = entered {
            return Ok(word.epoch());
        }
        let word = self.load();
        Err(if word.has(Word::EXIT) {
            Refusal::Exit
        } else if word.has(Word::WORK) {
            Refusal::Work
        } else {
            Refusal::StayOut
        })
    }

    /// Out of the guest. From here on nobody signals this thread. Only after `try_enter` has let it in.
    pub fn leave(&self) {
        let before = self.clear(Word::KICKED | Word::PHASE);
        if before.has(Word::EXCLUSIVE) {
            self.futex.wake_all(&self.word);
        }
    }

    /// Out of the guest with no instruction half done: this acknowledges every pause in the word. Not in the guest.
    pub fn park(&self) {
        let before = self.set(Word::IDLE);
        if before.phase() == Phase::Host && before.stops() > 0 {
            self.futex.wake_all(&self.word);
        }
    }

    /// Sleeps until there may be something to do.
    pub fn sleep(&self) {
        let word = self.load();
        if word.stays_out() && !word.has(Word::WORK | Word::EXIT) {
            self.futex.wait(&self.word, word.0, None);
        }
    }

    /// Holds the vCPU until the next release, unless it was released since it entered in `epoch`.
    pub fn hold(&self, epoch: u32) {
        self.update(|word| (word.epoch() == epoch).then(|| word.with(Word::HELD)));
    }

    /// Halts the vCPU until the next event, unless one came since it entered.
    pub fn halt(&self) {
        self.update(|word| (!word.has(Word::EVENT)).then(|| word.with(Word::HALTED)));
    }

    /// Marks the vCPU failed.
    pub fn fail(&self) {
        self.set(Word::FAILED);
    }

    /// Takes note of the queued work. Call it **before** the queue is emptied.
    pub fn take_work(&self) {
        self.clear(Word::WORK);
    }

    /// Says that this thread waits in `pause_all` itself, or no longer does.
    pub fn set_pauser(&self, pauser: bool) {
        if pauser {
            self.set(Word::PAUSER);
            self.futex.wake_all(&self.word);
        } else {
            self.clear(Word::PAUSER);
        }
    }

    /// The last step: the thread ends. Returns once no kick is on its way to it.
    pub fn end(&self) {
        self.set(Word::GONE);
        self.futex.wake_all(&self.word);
        while self.load().kicks() > 0 {
            yield_now();
        }
    }

    // --- Both ---

    /// Sets bits; gives the word before.
    fn set(&self, bits: u64) -> Word {
        Word(self.word.fetch_or(bits, Ordering::AcqRel))
    }

    /// Clears bits; gives the word before.
    fn clear(&self, bits: u64) -> Word {
        Word(self.word.fetch_and(!bits, Ordering::AcqRel))
    }

    /// Changes the word, again and again until no other change comes in between. Returns the new word, or nothing
    /// when `change` does not apply.
    fn update(&self, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let mut seen = self.load();
        loop {
            let next = change(seen)?;
            match self.replace(seen, next) {
                Ok(()) => return Some(next),
                Err(now) => seen = now,
            }
        }
    }

    fn replace(&self, seen: Word, next: Word) -> Result<(), Word> {
        self.word
            .compare_exchange_weak(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Word)
    }
}

/// Takes a kick out of the count once it was sent, or its sender panicked.
struct KickSent<'a>(&'a AtomicU64);

impl Drop for KickSent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(Word::ONE_KICK, Ordering::AcqRel);
    }
}
