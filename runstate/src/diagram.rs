//! A transition table as a picture: Mermaid, which many code hosts draw, and DOT for Graphviz.
//!
//! Both are written from the table, so that a picture cannot say anything else than the code.

use core::fmt::{self, Write as _};

use crate::state::State;
use crate::table::TransitionTable;

impl<S: State> TransitionTable<S> {
    /// Writes the table as a Mermaid `stateDiagram-v2`, `initial` being where it begins. One line
    /// an edge, ordered as [`edges`](Self::edges).
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_mermaid(&self, out: &mut impl fmt::Write, initial: S) -> fmt::Result {
        writeln!(out, "stateDiagram-v2")?;
        for state in S::ALL {
            writeln!(
                out,
                "    state \"{}\" as {}",
                state.name(),
                Id(state.name())
            )?;
        }
        writeln!(out, "    [*] --> {}", Id(initial.name()))?;
        for (from, to) in self.edges() {
            writeln!(out, "    {} --> {}", Id(from.name()), Id(to.name()))?;
        }
        Ok(())
    }

    /// Writes the table as a DOT digraph, `initial` being drawn with a double border. One line
    /// an edge, ordered as [`edges`](Self::edges).
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_dot(&self, out: &mut impl fmt::Write, initial: S) -> fmt::Result {
        writeln!(out, "digraph transitions {{")?;
        writeln!(out, "    node [shape=box];")?;
        for state in S::ALL {
            let borders = if *state == initial {
                " [peripheries=2]"
            } else {
                ""
            };
            writeln!(out, "    \"{}\"{borders};", state.name())?;
        }
        for (from, to) in self.edges() {
            writeln!(out, "    \"{}\" -> \"{}\";", from.name(), to.name())?;
        }
        writeln!(out, "}}")
    }
}

/// A name as a Mermaid identifier: a hyphen would read as part of an arrow.
struct Id<'a>(&'a str);

impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            f.write_char(if c.is_ascii_alphanumeric() { c } else { '_' })?;
        }
        Ok(())
    }
}
