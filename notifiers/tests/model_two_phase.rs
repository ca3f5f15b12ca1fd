//! Random participants, which refuse and remove each other, against a naive reference.
#![expect(
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

use std::cell::RefCell;
use std::rc::Rc;

use notifiers::{NotifierHandle, NotifyError, Participant, TwoPhaseList};
use proptest::prelude::*;

/// What a participant is and does. The others are named by their index.
#[derive(Debug, Clone)]
struct Character {
    priority: i32,
    refuses: bool,
    removes_while_preparing: Option<usize>,
    removes_while_committing: Option<usize>,
    removes_while_rolling_back: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Prepare(usize),
    Commit(usize),
    RollBack(usize),
}

#[derive(Default)]
struct World {
    heard: RefCell<Vec<Heard>>,
    handles: RefCell<Vec<Option<NotifierHandle>>>,
}

impl World {
    fn remove(&self, victim: Option<usize>) {
        let Some(victim) = victim else { return };
        let handle = self.handles.borrow_mut()[victim].take();
        drop(handle);
    }
}

struct Actor {
    index: usize,
    character: Character,
    world: Rc<World>,
}

impl Participant<(), usize> for Actor {
    fn prepare(&self, (): &()) -> Result<(), usize> {
        self.world
            .heard
            .borrow_mut()
            .push(Heard::Prepare(self.index));
        self.world.remove(self.character.removes_while_preparing);
        if self.character.refuses {
            Err(self.index)
        } else {
            Ok(())
        }
    }

    fn commit(&self, (): &()) {
        self.world
            .heard
            .borrow_mut()
            .push(Heard::Commit(self.index));
        self.world.remove(self.character.removes_while_committing);
    }

    fn roll_back(&self, (): &()) {
        self.world
            .heard
            .borrow_mut()
            .push(Heard::RollBack(self.index));
        self.world.remove(self.character.removes_while_rolling_back);
    }
}

/// What must be heard, and who refuses.
fn reference(characters: &[Character], up: bool) -> (Vec<Heard>, Option<usize>) {
    let mut order: Vec<usize> = (0..characters.len()).collect();
    order.sort_by_key(|index| characters[*index].priority);
    if !up {
        order.reverse();
    }
    let mut present = vec![true; characters.len()];
    let mut heard = Vec::new();
    let mut prepared = Vec::new();
    let mut refused = None;
    let remove = |present: &mut Vec<bool>, victim: Option<usize>| {
        if let Some(victim) = victim {
            present[victim] = false;
        }
    };
    for index in order {
        if !present[index] {
            continue;
        }
        heard.push(Heard::Prepare(index));
        remove(&mut present, characters[index].removes_while_preparing);
        if characters[index].refuses {
            refused = Some(index);
            break;
        }
        prepared.push(index);
    }
    if refused.is_some() {
        prepared.reverse();
    }
    for index in prepared {
        if !present[index] {
            continue;
        }
        if refused.is_some() {
            heard.push(Heard::RollBack(index));
            remove(&mut present, characters[index].removes_while_rolling_back);
        } else {
            heard.push(Heard::Commit(index));
            remove(&mut present, characters[index].removes_while_committing);
        }
    }
    (heard, refused)
}

fn characters() -> impl Strategy<Value = Vec<Character>> {
    (1..8_usize).prop_flat_map(|count| {
        let victim = || prop::option::weighted(0.2, 0..count);
        let character = (
            -1..2,
            prop::bool::weighted(0.1),
            victim(),
            victim(),
            victim(),
        )
            .prop_map(
                |(priority, refuses, preparing, committing, rolling_back)| Character {
                    priority,
                    refuses,
                    removes_while_preparing: preparing,
                    removes_while_committing: committing,
                    removes_while_rolling_back: rolling_back,
                },
            );
        prop::collection::vec(character, count)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_phases_and_the_naive_reference_agree(characters in characters(), up: bool) {
        let list = TwoPhaseList::new();
        let world = Rc::new(World::default());
        for (index, character) in characters.iter().enumerate() {
            let actor = Actor { index, character: character.clone(), world: Rc::clone(&world) };
            let handle = list.add(index.to_string(), character.priority, actor);
            world.handles.borrow_mut().push(Some(handle));
        }
        let result = if up { list.run_up(&()) } else { list.run_down(&()) };
        let (heard, refused) = reference(&characters, up);
        prop_assert_eq!(&*world.heard.borrow(), &heard);
        match refused {
            None => prop_assert_eq!(result, Ok(())),
            Some(index) => prop_assert_eq!(
                result,
                Err(NotifyError::Failed { notifier: index.to_string().into(), error: index })
            ),
        }
        list.clear();
    }
}
