//! Programs from the fuzzer's bytes, run on a list and on the naive reference of the tests.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/model/mod.rs"]
mod model;

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Act {
    Add(i8),
    Remove(u8),
    Detach(u8),
    Clear,
    Notify(bool),
    RemoveSelf,
    Fail,
}

#[derive(Debug, Arbitrary)]
enum Kind {
    Plain,
    WithReturn,
    Priority,
}

#[derive(Debug, Arbitrary)]
struct Program {
    kind: Kind,
    max_nesting: u8,
    owner: Vec<Act>,
    scripts: Vec<Vec<Act>>,
}

fn acts(acts: &[Act]) -> Vec<model::Act> {
    let act = |act: &Act| match *act {
        Act::Add(priority) => model::Act::Add(priority),
        Act::Remove(notifier) => model::Act::Remove(notifier),
        Act::Detach(notifier) => model::Act::Detach(notifier),
        Act::Clear => model::Act::Clear,
        Act::Notify(up) => model::Act::Notify(up),
        Act::RemoveSelf => model::Act::RemoveSelf,
        Act::Fail => model::Act::Fail,
    };
    acts.iter().map(act).collect()
}

fuzz_target!(|program: Program| {
    model::agree(&model::Program {
        kind: match program.kind {
            Kind::Plain => model::Kind::Plain,
            Kind::WithReturn => model::Kind::WithReturn,
            Kind::Priority => model::Kind::Priority,
        },
        max_nesting: u32::from(program.max_nesting % 16),
        owner: acts(&program.owner),
        scripts: program.scripts.iter().map(|script| acts(script)).collect(),
    });
});
