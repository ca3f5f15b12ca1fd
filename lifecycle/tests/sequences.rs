//! Random scenarios, with callbacks that post, start, stop, dispatch, add and remove: the executor
//! against an independent reference, line by line; and `current` against its promises.

mod oracle;
mod reference;

#[path = "../examples/simulate/command.rs"]
mod command;
#[path = "../examples/simulate/world.rs"]
mod world;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_executor_does_what_the_reference_does(
        bytes in proptest::collection::vec(any::<u8>(), 1..300)
    ) {
        let scenario = oracle::scenario(&bytes);
        if let Err(wrong) = oracle::check(&scenario) {
            return Err(TestCaseError::fail(format!("{scenario:#?}\n{wrong}")));
        }
    }
}

/// As many as a test has time for, longer than those that are shrunk. `LIFECYCLE_SCENARIOS` and
/// `LIFECYCLE_SEED` ask for more of them, and others.
#[test]
fn and_so_it_does_over_long_scenarios() {
    let asked = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let rounds = asked("LIFECYCLE_SCENARIOS").unwrap_or(10_000);
    let seed = asked("LIFECYCLE_SEED").unwrap_or_default();
    let mut word = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
    let mut bytes = vec![0; 600];
    for round in 0..rounds {
        for byte in &mut bytes {
            // Marsaglia's xorshift: the same scenarios in every run.
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            *byte = word.to_le_bytes()[3];
        }
        let scenario = oracle::scenario(&bytes);
        let checked = oracle::check(&scenario);
        assert!(checked.is_ok(), "{round}: {scenario:#?}\n{checked:?}");
    }
}
