//! What went wrong elsewhere, and does not here: a test for each bug, named after what it
//! prevents. All of them are about the default, `Compat::Current`.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

#[path = "regressions/callbacks.rs"]
mod callbacks;
#[path = "regressions/endings.rs"]
mod endings;
#[path = "regressions/requests.rs"]
mod requests;
#[path = "regressions/states.rs"]
mod states;

use lifecycle::Compat;

const NOW: Compat = Compat::Current;
