//! The kick protocol in every interleaving, and seeded bugs that must be found.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p vcpu --test loom --target-dir target/loom`
//!
//! In the model: the control word, `immediate_exit`, the queue of the futex, the signal, and KVM_RUN as a step that tests
//! `immediate_exit` and then blocks until a signal arrives. A signal that arrives outside KVM_RUN is lost, as a handler
//! that does nothing loses it. The guest never exits by itself: a lost kick is a deadlock, which loom reports. Not in the model: the
//! kernel, time (no deadline ever passes), and stale reads of the
//! control word (each is followed by a compare-and-swap or by the futex's comparison, which do not believe them).
#![cfg(loom)]
#![expect(clippy::unwrap_used, reason = "a test may fail by unwrapping")]

#[path = "loom/model.rs"]
mod model;
#[path = "loom/mutants.rs"]
mod mutants;
#[path = "loom/protocol.rs"]
mod protocol;
