//! The models: in the small worlds every property holds, and each guard that is left out brings a
//! bug. A guard without a bug is not needed, or the model does not show why.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::model::{
    self, Guarded, Size, assign::Assign, bounds::Bounds, takeover::Takeover,
};
use std::fmt::Debug;
use std::hash::Hash;

fn prove<M>()
where
    M: Guarded + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let verdict = model::check(M::new(Size::Small, None));
    assert_eq!(verdict.broken, None, "{} with all its guards", M::NAME);
    assert!(verdict.never.is_empty(), "{} never comes to {:?}", M::NAME, verdict.never);
    for (position, guard) in M::GUARDS.iter().enumerate() {
        let verdict = model::check(M::new(Size::Small, Some(position)));
        assert!(verdict.broken.is_some(), "{} is no worse without: {}", M::NAME, guard.name);
    }
}

#[test]
fn who_may_act_is_proved_and_each_guard_is_needed() {
    prove::<Takeover>();
}

#[test]
fn orders_and_reports_are_proved_and_each_guard_is_needed() {
    prove::<Assign>();
}

#[test]
fn how_many_tasks_may_go_is_proved_and_each_guard_is_needed() {
    prove::<Bounds>();
}
