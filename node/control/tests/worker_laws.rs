//! Laws of the worker over random machines: orders, events, lost sessions and restarts in any
//! order. What is checked at every step stands in `machine`.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod machine;

use machine::{Machine, Want, op};
use muster_model::Phase;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(64),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_the_laws_hold(ops in proptest::collection::vec(op(), 1..120)) {
        let mut machine = Machine::new();
        for op in &ops {
            machine.run(op);
        }
        machine.calm_down();
        for (task, want) in machine.wants.clone() {
            let seen = machine.seen.get(&task).copied().unwrap_or_default();
            match want {
                Want::Run => prop_assert_eq!(seen, Phase::Running),
                Want::Stop => prop_assert!(false, "{:?} never stopped", task),
                Want::Forget => {
                    let left = machine.real.keys().any(|(t, _)| *t == task);
                    prop_assert!(!left && !machine.journal.contains(&task), "{:?} is left", task);
                }
            }
        }
        let held = machine.worker.inventory().len();
        let wanted = machine.wants.values().filter(|want| **want == Want::Run).count();
        prop_assert_eq!(held, wanted);
    }
}
