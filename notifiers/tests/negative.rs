//! What is refused, and in what words.

use core::error::Error;
use std::fmt;

use notifiers::{
    NestingExceeded, NotifierList, NotifierWithReturnList, NotifyError, Participant, PriorityList,
    TwoPhaseList,
};

#[derive(Debug, Clone, Copy, PartialEq)]
struct Flat;

impl fmt::Display for Flat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tyre is flat")
    }
}

impl Error for Flat {}

struct Never;

impl Participant<(), Flat> for Never {
    fn prepare(&self, (): &()) -> Result<(), Flat> {
        Err(Flat)
    }
    fn commit(&self, (): &()) {}
    fn roll_back(&self, (): &()) {}
}

#[test]
fn a_list_that_allows_no_round_refuses_and_calls_nobody() {
    let refused = NestingExceeded { limit: 0 };

    let list = NotifierList::with_max_nesting(0);
    list.add(|(): &()| unreachable()).detach();
    assert_eq!(list.notify(&()), Err(refused));

    let list = PriorityList::with_max_nesting(0);
    list.add(0, |(): &()| unreachable()).detach();
    assert_eq!(list.run_up(&()), Err(refused));
    assert_eq!(list.run_down(&()), Err(refused));

    let list = NotifierWithReturnList::<(), Flat>::with_max_nesting(0);
    list.add("never", |()| Err(Flat)).detach();
    assert_eq!(list.notify(&()), Err(NotifyError::NestingExceeded(refused)));

    let list = TwoPhaseList::with_max_nesting(0);
    list.add("never", 0, Never).detach();
    assert_eq!(list.run_up(&()), Err(NotifyError::NestingExceeded(refused)));
    assert_eq!(
        list.run_down(&()),
        Err(NotifyError::NestingExceeded(refused))
    );
}

fn unreachable() {
    assert_eq!("called", "not called");
}

#[test]
fn errors_say_what_happened_and_keep_their_source() {
    let nested = NestingExceeded { limit: 8 };
    assert_eq!(
        nested.to_string(),
        "notifiers that notify their own list are nested more than 8 deep"
    );

    let list = NotifierWithReturnList::new();
    list.add(String::from("wheel 3"), |(): &()| Err(Flat))
        .detach();
    let error = list.notify(&()).unwrap_err();
    assert_eq!(error.to_string(), "notifier `wheel 3` failed: tyre is flat");
    assert_eq!(error.source().unwrap().to_string(), "tyre is flat");

    let error = NotifyError::<Flat>::from(nested);
    assert_eq!(error.source().unwrap().to_string(), nested.to_string());
}

#[test]
fn an_empty_list_has_nothing_to_fail() {
    assert_eq!(NotifierList::<()>::new().notify(&()), Ok(()));
    assert_eq!(
        NotifierWithReturnList::<(), Flat>::new().notify(&()),
        Ok(())
    );
    assert_eq!(
        PriorityList::<str>::new().run_up("unsized events work too"),
        Ok(())
    );
    assert_eq!(TwoPhaseList::<(), Flat>::new().run_down(&()), Ok(()));
}

#[test]
fn lists_can_be_printed_also_in_the_middle_of_a_round() {
    let list = std::rc::Rc::new(NotifierList::new());
    let weak = std::rc::Rc::downgrade(&list);
    let handle = list.add(move |(): &()| {
        let text = format!("{:?}", weak.upgrade().unwrap());
        assert_eq!(text, "NotifierList { len: 1, rounds_under_way: 1 }");
    });
    list.notify(&()).unwrap();
    assert_eq!(
        format!("{handle:?}"),
        "NotifierHandle { is_registered: true }"
    );
    list.clear();
    assert_eq!(
        format!("{handle:?}"),
        "NotifierHandle { is_registered: false }"
    );
    assert_eq!(
        format!("{list:?}"),
        "NotifierList { len: 0, rounds_under_way: 0 }"
    );
}
