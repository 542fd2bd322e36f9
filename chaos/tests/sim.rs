//! The simulator itself: a handful of seeds keep every law, and a seed replays to the line.
//!
//! CI lives through five hundred of them: `cargo xtask sim --seeds 500`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's way to fail

use muster_chaos::sim;

#[test]
fn a_handful_of_seeds_keep_every_law() {
    for seed in 1..=5 {
        let outcome = sim::run(seed, false);
        let replay = format!("replay: cargo xtask sim --seed {seed} --trace");
        assert_eq!(outcome.violation, None, "{}\n{replay}", outcome.tail.join("\n"));
        let counts = outcome.counts;
        assert!(counts.takeovers > 0 && counts.faults > 0 && counts.containers > 0, "{counts:?}");
    }
}

#[test]
fn a_seed_gives_the_same_history_each_time_and_another_seed_another() {
    let (first, again, other) = (sim::run(7, false), sim::run(7, false), sim::run(8, false));
    assert_eq!(first.hash, again.hash);
    assert_eq!(first, again);
    assert_ne!(first.hash, other.hash);
}
