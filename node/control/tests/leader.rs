//! Scripts of the leader's decisions: what it hears, and what it says to that.

// A test may panic, and its knobs come from the environment.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods)]

mod stage;

use muster_model::fixture::script::record;
use stage::{Stage, check, scripts};

#[test]
fn the_leader_decides_as_recorded() {
    for path in scripts("leader") {
        let text = std::fs::read_to_string(&path).expect("unreadable script");
        let mut stage = Stage::new();
        let now = record(&text, |lines| {
            if lines.first() == Some(&"new world") {
                stage = Stage::new();
                return stage.block(&lines[1..]);
            }
            stage.block(lines)
        });
        check(&path, &text, &now);
    }
}
