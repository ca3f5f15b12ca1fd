//! The checks themselves.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Failure, Fixture, differs};
use crate::{BusDevice, Pausable, ResetType, Resettable, SaveRestore};

/// How many accesses the hostile guest makes.
const HOSTILE_ACCESSES: u32 = 50_000;

/// A cold reset makes a disturbed device equal to a fresh one; so does a second one; and the other
/// types of reset complete.
///
/// # Errors
///
/// A [`Failure`] that says what differs.
pub fn reset_equals_fresh<F: Fixture>() -> Result<(), Failure> {
    const CHECK: &str = "reset_equals_fresh";
    let fixture = disturbed::<F>(CHECK)?;
    for round in ["after one reset", "after two resets"] {
        fixture.device().reset(ResetType::Cold);
        expect_fresh(CHECK, round, &fixture)?;
    }
    for kind in [ResetType::Wakeup, ResetType::SnapshotLoad] {
        fixture.disturb();
        fixture.device().reset(kind);
    }
    fixture.device().reset(ResetType::Cold);
    expect_fresh(CHECK, "after a reset of each type", &fixture)
}

/// A reset of a device that is paused completes and clears as much; the device works after
/// `resume`.
///
/// # Errors
///
/// A [`Failure`] that says what differs.
pub fn reset_while_paused<F: Fixture>() -> Result<(), Failure> {
    const CHECK: &str = "reset_while_paused";
    let fixture = disturbed::<F>(CHECK)?;
    fixture.device().pause();
    fixture.device().reset(ResetType::Cold);
    fixture.device().resume();
    expect_fresh(CHECK, "after pause, reset, resume", &fixture)?;
    expect_works(
        CHECK,
        "work that was begun after pause, reset, resume",
        &fixture,
    )
}

/// A state saved from a disturbed device makes a fresh one equal to it: saved again it is the same
/// state, and the guest reads the same from both.
///
/// # Errors
///
/// A [`Failure`] that says what differs, or why the device refused the state.
pub fn save_restore_round_trips<F: Fixture>() -> Result<(), Failure> {
    const CHECK: &str = "save_restore_round_trips";
    let used = disturbed::<F>(CHECK)?;
    let saved = used.device().save();
    let restored = F::fresh();
    restored
        .device()
        .restore(&saved)
        .map_err(|error| Failure::Refused {
            check: CHECK,
            reason: error.to_string(),
        })?;
    let again = restored.device().save();
    if again != saved {
        return Err(differs(
            CHECK,
            "state saved, restored and saved again",
            &saved,
            &again,
        ));
    }
    let (expected, found) = (read_all(&used), read_all(&restored));
    if expected != found {
        return Err(differs(
            CHECK,
            "what the guest reads after a restore",
            &expected,
            &found,
        ));
    }
    Ok(())
}

/// Work that is begun, paused and resumed comes to the same as work that is not paused.
///
/// # Errors
///
/// A [`Failure`] that says what differs.
pub fn pause_keeps_work<F: Fixture>() -> Result<(), Failure> {
    const CHECK: &str = "pause_keeps_work";
    let fixture = F::fresh();
    fixture.begin_work();
    fixture.device().pause();
    fixture.device().pause();
    fixture.device().resume();
    expect_result(
        CHECK,
        "the work of a device that was paused and resumed",
        &fixture,
    )?;
    let fixture = F::fresh();
    fixture.device().resume();
    expect_works(
        CHECK,
        "the work of a device that was resumed without a pause",
        &fixture,
    )
}

/// A guest that reads and writes at random, with lengths of 0 to 16 bytes, at offsets within the
/// window, near it and anywhere, cannot make the device panic. A reset then clears all it did.
///
/// # Errors
///
/// A [`Failure`] with the access. The accesses are the same in every run.
pub fn hostile_access_is_harmless<F: Fixture>() -> Result<(), Failure> {
    const CHECK: &str = "hostile_access_is_harmless";
    let fixture = F::fresh();
    let mut random = Random::new();
    for step in 0..HOSTILE_ACCESSES {
        let access = Access::random(&mut random, fixture.window());
        catch_unwind(AssertUnwindSafe(|| access.perform(fixture.device()))).map_err(|panic| {
            Failure::Panicked {
                check: CHECK,
                access: format!("access {step}: {access:?}"),
                message: message(&*panic),
            }
        })?;
    }
    fixture.device().reset(ResetType::Cold);
    expect_fresh(CHECK, "after the accesses and a reset", &fixture)?;
    expect_works(
        CHECK,
        "work that was begun after the accesses and a reset",
        &fixture,
    )
}

fn disturbed<F: Fixture>(check: &'static str) -> Result<F, Failure> {
    let fixture = F::fresh();
    fixture.disturb();
    if F::HAS_STATE && fixture.device().save() == F::fresh().device().save() {
        return Err(Failure::Vacuous {
            check,
            why: "`disturb` leaves the device as it was",
        });
    }
    Ok(fixture)
}

fn expect_fresh<F: Fixture>(check: &'static str, when: &str, used: &F) -> Result<(), Failure> {
    let fresh = F::fresh().device().save();
    let mut state = used.device().save();
    used.forgive(&mut state);
    if state != fresh {
        return Err(differs(
            check,
            format!("the device's state {when}"),
            &fresh,
            &state,
        ));
    }
    Ok(())
}

fn expect_works<F: Fixture>(check: &'static str, what: &str, used: &F) -> Result<(), Failure> {
    used.begin_work();
    expect_result(check, what, used)
}

fn expect_result<F: Fixture>(check: &'static str, what: &str, used: &F) -> Result<(), Failure> {
    let undisturbed = F::fresh();
    undisturbed.begin_work();
    let expected = undisturbed.finish_work();
    if expected == F::fresh().finish_work() {
        return Err(Failure::Vacuous {
            check,
            why: "`finish_work` is the same without `begin_work`",
        });
    }
    let found = used.finish_work();
    if found != expected {
        return Err(differs(check, what, &expected, &found));
    }
    Ok(())
}

/// Every register, read at each width.
fn read_all<F: Fixture>(fixture: &F) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for width in [1, 2, 4] {
        for offset in 0..fixture.window() {
            let mut data = vec![0; width];
            fixture.device().read(offset, &mut data);
            all.push(data);
        }
    }
    all
}

#[derive(Debug)]
enum Access {
    Read { offset: u64, len: usize },
    Write { offset: u64, data: Vec<u8> },
}

impl Access {
    fn random(random: &mut Random, window: u64) -> Self {
        let offset = match random.below(16) {
            0 => random.next(),
            1 => u64::MAX.wrapping_sub(random.below(16)),
            2 => window.wrapping_add(random.below(16)),
            _ => random.below(window),
        };
        let len = match random.below(16) {
            0 => usize::try_from(random.below(17)).unwrap_or(0),
            1..8 => 1,
            8..12 => 2,
            12..15 => 4,
            _ => 8,
        };
        if random.below(2) == 0 {
            return Self::Read { offset, len };
        }
        Self::Write {
            offset,
            data: (0..len).map(|_| random.byte()).collect(),
        }
    }

    fn perform(&self, device: &impl BusDevice) {
        match self {
            Self::Read { offset, len } => device.read(*offset, &mut vec![0; *len]),
            Self::Write { offset, data } => device.write(*offset, data),
        }
    }
}

/// Marsaglia's xorshift64: enough to reach odd places, and the same every time.
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`; 0 for a limit of 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(owned).unwrap_or("no message").to_owned()
}
