//! A small device that is right, and the same with one fault: each check must fail for the fault
//! that it is for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use devices::conformance::{self, Failure, Fixture};
use devices::{BusDevice, Error, Pausable, ResetType, Resettable, SaveRestore};

const NONE: usize = 0;
const FORGETS_TO_RESET: usize = 1;
const SECOND_RESET_DIFFERS: usize = 2;
const PAUSE_BLOCKS_RESET: usize = 3;
const LOSES_STATE_IN_SAVE: usize = 4;
const REFUSES_ITS_STATE: usize = 5;
const HIDES_STATE: usize = 6;
const PAUSE_DROPS_WORK: usize = 7;
const RESUME_WITHOUT_PAUSE_BREAKS: usize = 8;
const PANICS_ON_ODD_OFFSETS: usize = 9;
const PANICS_ON_LONG_WRITES: usize = 10;
const STUCK_AFTER_HOSTILITY: usize = 11;
const FIXTURE_DISTURBS_NOTHING: usize = 12;
const FIXTURE_WORKS_NOTHING: usize = 13;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    register: u8,
    queued: u8,
}

/// A register, and a queue whose length is in `queued`.
#[derive(Default)]
struct Device<const FAULT: usize> {
    state: Mutex<State>,
    hidden: AtomicU64,
    paused: AtomicUsize,
    resets: AtomicUsize,
}

impl<const FAULT: usize> BusDevice for Device<FAULT> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let state = self.state.lock().unwrap();
        data.fill(if offset == 0 {
            state.register
        } else {
            state.queued
        });
        if FAULT == HIDES_STATE {
            data.fill(self.hidden.load(Ordering::SeqCst) as u8);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let first = *data.first().unwrap_or(&0);
        if FAULT == PANICS_ON_LONG_WRITES {
            let _: [u8; 1] = data.try_into().unwrap();
        }
        if FAULT == PANICS_ON_ODD_OFFSETS {
            let table = [0; 2];
            let _ = std::hint::black_box(table[usize::try_from(offset).unwrap()]);
        }
        if offset > 0x1000 {
            self.hidden.store(1 << 32, Ordering::SeqCst);
        }
        if offset == 0 {
            self.state.lock().unwrap().register = first;
            let stuck = self.hidden.load(Ordering::SeqCst) & !0xff;
            self.hidden
                .store(stuck | u64::from(first), Ordering::SeqCst);
        }
    }
}

impl<const FAULT: usize> Resettable for Device<FAULT> {
    fn hold(&self, kind: ResetType) {
        let resets = self.resets.fetch_add(1, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap();
        match FAULT {
            FORGETS_TO_RESET => state.queued = 0,
            SECOND_RESET_DIFFERS if resets == 1 => state.register = 9,
            PAUSE_BLOCKS_RESET if self.paused.load(Ordering::SeqCst) > 0 => {}
            _ => *state = State::default(),
        }
        let _ = kind;
    }
}

impl<const FAULT: usize> SaveRestore for Device<FAULT> {
    type State = State;

    fn save(&self) -> State {
        self.state.lock().unwrap().clone()
    }

    fn restore(&self, state: &State) -> Result<(), Error> {
        if FAULT == REFUSES_ITS_STATE {
            return Err(Error::BadState {
                device: "faulty",
                field: "register",
                found: state.register.into(),
                expected: "something else",
            });
        }
        *self.state.lock().unwrap() = state.clone();
        if FAULT == LOSES_STATE_IN_SAVE {
            self.state.lock().unwrap().queued = 0;
        }
        Ok(())
    }
}

impl<const FAULT: usize> Pausable for Device<FAULT> {
    fn pause(&self) {
        self.paused.store(1, Ordering::SeqCst);
        if FAULT == PAUSE_DROPS_WORK {
            self.state.lock().unwrap().queued = 0;
        }
    }

    fn resume(&self) {
        if self.paused.swap(0, Ordering::SeqCst) == 0 && FAULT == RESUME_WITHOUT_PAUSE_BREAKS {
            self.hidden.store(1 << 32, Ordering::SeqCst);
        }
    }
}

struct Bench<const FAULT: usize>(Device<FAULT>);

impl<const FAULT: usize> Fixture for Bench<FAULT> {
    type Device = Device<FAULT>;

    fn fresh() -> Self {
        Self(Device::default())
    }

    fn device(&self) -> &Device<FAULT> {
        &self.0
    }

    fn window(&self) -> u64 {
        2
    }

    fn disturb(&self) {
        if FAULT != FIXTURE_DISTURBS_NOTHING {
            self.0.write(0, &[7]);
            self.0.state.lock().unwrap().queued = 3;
        }
    }

    fn begin_work(&self) {
        self.0.state.lock().unwrap().queued = 5;
    }

    fn finish_work(&self) -> Vec<u64> {
        if FAULT == FIXTURE_WORKS_NOTHING {
            return vec![1];
        }
        let stuck = self.0.hidden.load(Ordering::SeqCst) >> 32;
        let counts = FAULT == STUCK_AFTER_HOSTILITY || FAULT == RESUME_WITHOUT_PAUSE_BREAKS;
        let queued = std::mem::take(&mut self.0.state.lock().unwrap().queued);
        vec![u64::from(queued), if counts { stuck } else { 0 }]
    }
}

devices::conformance!(without_fault, Bench<NONE>);

fn differs<T: std::fmt::Debug>(result: Result<T, Failure>) -> String {
    match result {
        Err(Failure::Differs { what, .. }) => what,
        other => panic!("found {other:?}"),
    }
}

#[test]
fn a_forgotten_reset_is_found() {
    let what = differs(conformance::reset_equals_fresh::<Bench<FORGETS_TO_RESET>>());
    assert!(what.contains("after one reset"), "{what}");
    differs(conformance::hostile_access_is_harmless::<
        Bench<FORGETS_TO_RESET>,
    >());
}

#[test]
fn a_second_reset_that_differs_is_found() {
    let what = differs(conformance::reset_equals_fresh::<Bench<SECOND_RESET_DIFFERS>>());
    assert!(what.contains("after two resets"), "{what}");
}

#[test]
fn a_pause_that_blocks_a_reset_is_found() {
    conformance::reset_equals_fresh::<Bench<PAUSE_BLOCKS_RESET>>().unwrap();
    differs(conformance::reset_while_paused::<Bench<PAUSE_BLOCKS_RESET>>());
}

#[test]
fn a_state_that_is_not_saved_is_found() {
    let what = differs(conformance::save_restore_round_trips::<
        Bench<LOSES_STATE_IN_SAVE>,
    >());
    assert!(what.contains("saved again"), "{what}");
    let what = differs(conformance::save_restore_round_trips::<Bench<HIDES_STATE>>());
    assert!(what.contains("guest reads"), "{what}");
}

#[test]
fn a_device_that_refuses_its_own_state_is_found() {
    let result = conformance::save_restore_round_trips::<Bench<REFUSES_ITS_STATE>>();
    assert!(matches!(result, Err(Failure::Refused { .. })), "{result:?}");
}

#[test]
fn a_pause_that_drops_work_is_found() {
    differs(conformance::pause_keeps_work::<Bench<PAUSE_DROPS_WORK>>());
}

#[test]
fn a_resume_that_breaks_an_unpaused_device_is_found() {
    differs(conformance::pause_keeps_work::<
        Bench<RESUME_WITHOUT_PAUSE_BREAKS>,
    >());
}

#[test]
fn a_panic_is_found_with_its_access() {
    let offsets = conformance::hostile_access_is_harmless::<Bench<PANICS_ON_ODD_OFFSETS>>();
    let lengths = conformance::hostile_access_is_harmless::<Bench<PANICS_ON_LONG_WRITES>>();
    for (result, message) in [
        (offsets, "index out of bounds"),
        (lengths, "TryFromSliceError"),
    ] {
        let Err(Failure::Panicked {
            access,
            message: found,
            ..
        }) = result
        else {
            panic!("found {result:?}")
        };
        assert!(
            access.contains("Write {") && found.contains(message),
            "{access}: {found}"
        );
    }
}

#[test]
fn a_device_that_hostility_leaves_stuck_is_found() {
    let result = conformance::hostile_access_is_harmless::<Bench<STUCK_AFTER_HOSTILITY>>();
    let what = differs(result);
    assert!(what.contains("work that was begun after"), "{what}");
}

#[test]
fn a_fixture_that_proves_nothing_is_refused() {
    for result in [
        conformance::reset_equals_fresh::<Bench<FIXTURE_DISTURBS_NOTHING>>(),
        conformance::reset_while_paused::<Bench<FIXTURE_DISTURBS_NOTHING>>(),
        conformance::save_restore_round_trips::<Bench<FIXTURE_DISTURBS_NOTHING>>(),
        conformance::pause_keeps_work::<Bench<FIXTURE_WORKS_NOTHING>>(),
    ] {
        let Err(failure @ Failure::Vacuous { .. }) = result else {
            panic!("found {result:?}")
        };
        assert!(failure.to_string().contains("proves nothing"), "{failure}");
    }
}
