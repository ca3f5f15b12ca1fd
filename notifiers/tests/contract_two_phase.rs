//! The contract of the README for changes that can be refused, one promise a test.
#![expect(
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use notifiers::{Participant, TwoPhaseList};

/// What was called, in order.
type Log = Rc<RefCell<Vec<String>>>;

/// Writes down what it hears, and refuses or panics when told to.
struct Recorder {
    name: &'static str,
    log: Log,
    behaviour: Behaviour,
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Agrees,
    Refuses,
    PanicsPreparing,
    PanicsCommitting,
}

impl Recorder {
    fn hears(&self, what: &str) {
        self.log.borrow_mut().push(format!("{what} {}", self.name));
    }
}

impl Participant<(), &'static str> for Recorder {
    fn prepare(&self, (): &()) -> Result<(), &'static str> {
        self.hears("prepare");
        assert!(
            self.behaviour != Behaviour::PanicsPreparing,
            "the participant's own bug"
        );
        if self.behaviour == Behaviour::Refuses {
            Err("busy")
        } else {
            Ok(())
        }
    }

    fn commit(&self, (): &()) {
        self.hears("commit");
        assert!(
            self.behaviour != Behaviour::PanicsCommitting,
            "the participant's own bug"
        );
    }

    fn roll_back(&self, (): &()) {
        self.hears("roll back");
    }
}

fn two_phase(behaviours: [Behaviour; 3]) -> (TwoPhaseList<(), &'static str>, Log) {
    let (list, log) = (TwoPhaseList::new(), Log::default());
    for (index, behaviour) in behaviours.into_iter().enumerate() {
        let name = ["a", "b", "c"][index];
        list.add(
            name,
            0,
            Recorder {
                name,
                log: Rc::clone(&log),
                behaviour,
            },
        )
        .detach();
    }
    (list, log)
}

#[test]
fn everybody_prepares_before_anybody_commits() {
    let (list, log) = two_phase([Behaviour::Agrees; 3]);
    list.run_up(&()).unwrap();
    let up = [
        "prepare a",
        "prepare b",
        "prepare c",
        "commit a",
        "commit b",
        "commit c",
    ];
    assert_eq!(log.take(), up);
    list.run_down(&()).unwrap();
    let down = [
        "prepare c",
        "prepare b",
        "prepare a",
        "commit c",
        "commit b",
        "commit a",
    ];
    assert_eq!(log.take(), down);
}

#[test]
fn a_refusal_rolls_back_those_who_had_prepared_in_reverse() {
    let (list, log) = two_phase([Behaviour::Agrees, Behaviour::Agrees, Behaviour::Refuses]);
    let error = list.run_up(&()).unwrap_err();
    assert_eq!(error.to_string(), "notifier `c` failed: busy");
    assert_eq!(
        log.take(),
        [
            "prepare a",
            "prepare b",
            "prepare c",
            "roll back b",
            "roll back a"
        ]
    );
    // On the way down the same one comes first, so there is nothing to roll back.
    assert!(list.run_down(&()).is_err());
    assert_eq!(log.take(), ["prepare c"]);
}

#[test]
fn a_panic_while_preparing_rolls_back_and_leaves_the_list_usable() {
    let (list, log) = two_phase([
        Behaviour::Agrees,
        Behaviour::PanicsPreparing,
        Behaviour::Agrees,
    ]);
    assert!(catch_unwind(AssertUnwindSafe(|| list.run_up(&()))).is_err());
    assert_eq!(log.take(), ["prepare a", "prepare b", "roll back a"]);
    list.clear();
    list.run_up(&()).unwrap();
}

#[test]
fn a_panic_while_committing_rolls_nobody_back() {
    let (list, log) = two_phase([
        Behaviour::PanicsCommitting,
        Behaviour::Agrees,
        Behaviour::Agrees,
    ]);
    assert!(catch_unwind(AssertUnwindSafe(|| list.run_up(&()))).is_err());
    assert_eq!(
        log.take(),
        ["prepare a", "prepare b", "prepare c", "commit a"]
    );
}
