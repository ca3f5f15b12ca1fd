//! The diagrams, and the README that shows one.

use runstate::{QEMU_10_2, RunState, TransitionTable};

const README: &str = include_str!("../README.md");

runstate::states! {
    /// States whose names are hard on a diagram.
    enum Odd { First = "first state", Second = "a-b" }
}

const ODD: TransitionTable<Odd> =
    runstate::transitions! { Odd { First => Second; Second => First } };

#[test]
fn the_diagram_in_the_readme_is_the_table() {
    let mut expected = String::new();
    QEMU_10_2
        .write_mermaid(&mut expected, RunState::Prelaunch)
        .unwrap();
    let shown = README
        .split_once("```mermaid\n")
        .and_then(|(_, rest)| rest.split_once("```"))
        .map(|(diagram, _)| diagram);
    assert_eq!(
        shown,
        Some(expected.as_str()),
        "README.md is stale: put the output of `cargo run -p runstate --example diagram` there"
    );
}

#[test]
fn mermaid_has_a_line_for_each_state_and_edge() {
    let mut text = String::new();
    ODD.write_mermaid(&mut text, Odd::First).unwrap();
    assert_eq!(
        text,
        "stateDiagram-v2
    state \"first state\" as first_state
    state \"a-b\" as a_b
    [*] --> first_state
    first_state --> a_b
    a_b --> first_state
"
    );
}

#[test]
fn dot_has_a_line_for_each_state_and_edge() {
    let mut text = String::new();
    ODD.write_dot(&mut text, Odd::First).unwrap();
    assert_eq!(
        text,
        "digraph transitions {
    node [shape=box];
    \"first state\" [peripheries=2];
    \"a-b\";
    \"first state\" -> \"a-b\";
    \"a-b\" -> \"first state\";
}
"
    );
}
